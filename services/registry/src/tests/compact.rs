//! History that is kept for so long: what can be asked for is answered as before, and the rest is refused and gone.

use std::collections::BTreeMap;
use std::time::Duration;

use legate_db::Fault;
use legate_db::testing::{Fixture, on_each};
use legate_wire::registry::as_of::At;
use legate_wire::registry::{
    AgentRef, AgentState, AsOf, HistoryAction, Kind, ListHistoryRequest, ListHistoryResponse, ObjectName,
};
use sea_orm::EntityTrait as _;

use super::scene::*;
use crate::domain::lifecycle::Transition;
use crate::error::of_tx;
use crate::flow::compact::compact;
use crate::flow::list::{self, List};
use crate::flow::transition::Step;
use crate::flow::{history, read};
use crate::schema::Migrator;
use crate::store::{change, object, revision};

const MINUTE: Duration = Duration::from_secs(60);

fn at(revision: u64) -> Option<AsOf> {
    Some(AsOf { at: Some(At::Revision(revision)) })
}

/// Everything that a list of the past tells of a revision, a few at a time; or why it does not.
async fn told(scene: &Scene, revision: u64) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut all = Vec::new();
    for kind in [Kind::Namespace, Kind::AgentClass, Kind::Agent, Kind::Role, Kind::RoleBinding, Kind::Policy] {
        let filter = if kind == Kind::Agent { "state:*" } else { "" };
        let mut token = String::new();
        loop {
            let ask = List {
                by: by(OPERATOR, ""),
                kind,
                filter: filter.into(),
                as_of: at(revision),
                page_size: 7,
                page_token: token,
                ..List::default()
            };
            let page = list::list(&scene.desk, ask).await.map_err(|fault| fault.reason())?;
            all.extend(page.objects.iter().map(prost::Message::encode_to_vec));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
    }
    Ok(all)
}

/// A walk through all kinds of changes, a minute for each, the same at every run with the same dice; the last revision.
async fn walk(scene: &Scene, mut dice: u64, steps: usize) -> u64 {
    scene.apply(payments()).await.unwrap();
    for _ in 0..steps {
        scene.clock.advance(MINUTE);
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let n = (dice >> 33) % 5;
        let (bot, bound) = (format!("bot-{n}"), format!("b-{n}"));
        // Some of these are refused, as the dice have it.
        match (dice >> 40) % 7 {
            0 | 1 => drop(scene.apply(vec![agent(&bot, "worker")]).await),
            2 => {
                let mut spec = agent_spec("worker");
                spec.purpose = format!("reads {dice}");
                drop(
                    scene.apply(vec![agent_with(&bot, spec), binding(&bound, "reader", &[&bot, "invoice-bot"])]).await,
                );
            }
            3 => drop(scene.step(OTHER, &bot, Step::Transition(Transition::Suspend)).await),
            4 => drop(scene.step(OTHER, &bot, Step::Transition(Transition::Retire)).await),
            5 => drop(scene.apply(vec![role("reader", &format!("invoice:r{n}"))]).await),
            _ => {
                let gone = ObjectName { kind: Kind::RoleBinding.into(), namespace: "payments".into(), name: bound };
                drop(scene.exchange("gone", Vec::new(), vec![gone]).await);
            }
        }
    }
    scene.desk.tail.refresh(&scene.desk.db).await.unwrap();
    scene.desk.tail.revision()
}

/// The rows of the past: writes, revisions, and objects that were taken back.
async fn rows(fixture: &Fixture) -> (Vec<change::Model>, Vec<i64>, Vec<object::Model>) {
    let read = fixture.db.read("test", |tx| {
        Box::pin(async move {
            let changes = change::Entity::find().all(tx).await?;
            let revisions = revision::Entity::find().all(tx).await?.into_iter().map(|row| row.revision).collect();
            let objects = object::Entity::find().all(tx).await?;
            Ok::<_, legate_db::TxError<legate_rpc::Fault>>((changes, revisions, objects))
        })
    });
    read.await.map_err(of_tx).unwrap()
}

#[tokio::test]
async fn what_is_kept_is_answered_as_before_and_nothing_else_is_left() {
    for dice in [17, 4_711] {
        on_each::<Migrator>(async |fixture| {
            let scene = Scene::keeping(fixture.db.clone(), Some(30 * MINUTE));
            let head = walk(&scene, dice, 70).await;
            let mut before = BTreeMap::new();
            for revision in 1..=head {
                before.insert(revision, told(&scene, revision).await.unwrap());
            }
            let gone = compact(&scene.desk).await.unwrap();
            let kept = history::horizon(&scene.desk, &by(OPERATOR, "")).await.unwrap();
            let oldest = kept.oldest_revision;
            assert!(oldest > head / 3 && oldest < head && gone > 10, "{oldest} of {head}, {gone}");
            let since = scene.desk.clock.now().minus(30 * MINUTE).micros() / 1_000_000;
            assert!(kept.oldest_time.unwrap().seconds <= since, "what was in force then can be asked for");
            for (revision, then) in &before {
                let now = told(&scene, *revision).await;
                let expected = if *revision < oldest { Err("REVISION_COMPACTED") } else { Ok(then.clone()) };
                assert_eq!(now, expected, "{revision}, kept from {oldest}");
            }
            let (changes, revisions, objects) = rows(&fixture).await;
            assert_eq!(revisions.iter().min(), Some(&i64::try_from(oldest).unwrap()));
            let old = |row: &&change::Model| row.revision < i64::try_from(oldest).unwrap();
            let mut last = BTreeMap::new();
            for row in changes.iter().filter(old) {
                assert!(!row.revoked, "{} was taken back before", row.object_id);
                assert!(last.insert(&row.object_id, row.revision).is_none(), "{} twice", row.object_id);
            }
            assert!(objects.iter().all(|row| !row.revoked || row.revision >= i64::try_from(oldest).unwrap()));
            // A second time there is nothing to do, and later there is more.
            assert_eq!(compact(&scene.desk).await.unwrap(), 0);
            scene.clock.advance(10 * MINUTE);
            compact(&scene.desk).await.unwrap();
            let later = history::horizon(&scene.desk, &by(OPERATOR, "")).await.unwrap().oldest_revision;
            assert!(later > oldest);
            for revision in later..=head {
                assert_eq!(
                    told(&scene, revision).await.as_ref(),
                    Ok(&before[&revision]),
                    "{revision}, kept from {later}"
                );
            }
            let events = scene.events().await;
            let moved = events.iter().filter(|event| event.r#type == "history.compacted");
            let moved: Vec<_> = moved.map(|event| event.details["oldest_revision"].parse::<u64>().unwrap()).collect();
            assert_eq!(moved, [oldest, later]);
        })
        .await;
    }
}

#[tokio::test]
async fn a_compaction_that_is_broken_off_goes_on() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::keeping(fixture.db.clone(), Some(10 * MINUTE));
        // More than one transaction has to forget.
        let all = (0..150).map(|n| agent(&format!("many-{n}"), "worker"));
        scene.apply(payments().into_iter().chain(all.clone()).collect()).await.unwrap();
        for purpose in ["once", "twice"] {
            scene.clock.advance(MINUTE);
            let mut spec = agent_spec("worker");
            spec.purpose = purpose.into();
            let again = (0..150).map(|n| agent_with(&format!("many-{n}"), spec.clone()));
            scene.apply(again.collect()).await.unwrap();
        }
        let head = walk(&scene, 5, 30).await;
        let before = told(&scene, head).await;
        for name in ["move_horizon", "compact"] {
            for fault in [Fault::NotPersisted, Fault::PersistedButReplyLost] {
                scene.desk.db.faults().plan(name, fault);
                compact(&scene.desk).await.unwrap_err();
                let oldest = history::horizon(&scene.desk, &by(OPERATOR, "")).await.unwrap().oldest_revision;
                for revision in oldest..=head {
                    assert!(told(&scene, revision).await.is_ok(), "{name} {fault:?} {revision}");
                }
            }
        }
        compact(&scene.desk).await.unwrap();
        let moved = scene.kinds().await.into_iter().filter(|kind| kind == "history.compacted").count();
        assert_eq!(moved, 1, "once");
        assert_eq!(told(&scene, head).await, before);
        let (changes, ..) = rows(&fixture).await;
        let many = changes.iter().filter(|row| row.revision <= 3).count();
        assert!(many <= 150 + payments().len(), "{many}");
    })
    .await;
}

#[tokio::test]
async fn for_ever_is_for_ever() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let head = walk(&scene, 3, 30).await;
        scene.clock.advance(Duration::from_secs(100 * 365 * 86_400));
        assert_eq!(compact(&scene.desk).await.unwrap(), 0);
        for revision in 1..=head {
            assert!(told(&scene, revision).await.is_ok());
        }
        let kept = history::horizon(&scene.desk, &by(OPERATOR, "")).await.unwrap();
        assert_eq!((kept.oldest_revision, kept.history_days, kept.revision), (1, 0, head));
        assert_eq!(kept.oldest_time.unwrap().seconds, NOW);
    })
    .await;
}

async fn told_of(scene: &Scene, ask: ListHistoryRequest) -> ListHistoryResponse {
    history::history(&scene.desk, &by(OPERATOR, ""), ask).await.unwrap()
}

#[tokio::test]
async fn a_history_says_where_it_was_cut() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::keeping(fixture.db.clone(), Some(2 * MINUTE + Duration::from_secs(30)));
        scene.apply(payments()).await.unwrap();
        let id = scene.agent("invoice-bot").await.metadata.unwrap().id;
        for n in 0..5 {
            scene.clock.advance(MINUTE);
            let mut spec = agent_spec("worker");
            spec.purpose = format!("reads {n}");
            scene.apply_as(OTHER, vec![agent_with("invoice-bot", spec)], "", 0).await.unwrap();
        }
        let asks = |oldest_first, page_token: &str| ListHistoryRequest {
            id: id.clone(),
            oldest_first,
            page_size: 2,
            page_token: page_token.into(),
            ..Default::default()
        };
        let (newest, oldest) = (told_of(&scene, asks(false, "")).await, told_of(&scene, asks(true, "")).await);
        let of = |page: &ListHistoryResponse| -> Vec<_> {
            page.entries.iter().map(|e| (e.revision, e.action(), e.fields.len())).collect()
        };
        assert_eq!(of(&newest), [(6, HistoryAction::Updated, 1), (5, HistoryAction::Updated, 1)]);
        assert_eq!(oldest.entries[0].action(), HistoryAction::Created);
        compact(&scene.desk).await.unwrap();
        // Revision 3 was in force when what is kept begins; what it changed is not known any more.
        let whole = told_of(&scene, ListHistoryRequest { page_size: 9, ..asks(false, "") }).await;
        assert_eq!(whole.oldest_revision, 3);
        assert_eq!(
            of(&whole),
            [
                (6, HistoryAction::Updated, 1),
                (5, HistoryAction::Updated, 1),
                (4, HistoryAction::Updated, 1),
                (3, HistoryAction::Compacted, 0),
            ]
        );
        assert_eq!((whole.entries[3].actor.as_str(), whole.entries[3].version), (OTHER, 3));
        // Pages that were begun before go on over the cut.
        let rest = told_of(&scene, asks(false, &newest.next_page_token)).await;
        assert_eq!(of(&rest), of(&whole)[2..]);
        let rest = told_of(&scene, asks(true, &oldest.next_page_token)).await;
        assert_eq!(of(&rest), [(3, HistoryAction::Compacted, 0), (4, HistoryAction::Updated, 1)]);
    })
    .await;
}

#[tokio::test]
async fn tombstones_stay_and_what_was_taken_back_goes() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::keeping(fixture.db.clone(), Some(MINUTE));
        scene.apply(payments()).await.unwrap();
        let id = scene.agent("invoice-bot").await.metadata.unwrap().id;
        let bound = told_of(
            &scene,
            ListHistoryRequest {
                kind: Kind::RoleBinding.into(),
                namespace: "payments".into(),
                name: "bot-reads".into(),
                ..Default::default()
            },
        )
        .await
        .id;
        scene.clock.advance(MINUTE);
        // Its binding goes with it.
        scene.step(OTHER, "invoice-bot", Step::Transition(Transition::Retire)).await.unwrap();
        scene.clock.advance(2 * MINUTE);
        scene.apply(vec![agent("invoice-bot", "worker"), role("reader", "invoice:list")]).await.unwrap();
        scene.clock.advance(2 * MINUTE);
        compact(&scene.desk).await.unwrap();
        let which = Some(AgentRef { id: id.clone(), ..AgentRef::default() });
        for as_of in [None, at(3)] {
            let (tomb, _) = read::agent(&scene.desk, &by(OPERATOR, ""), which.clone(), as_of).await.unwrap();
            assert_eq!(tomb.status.unwrap().state(), AgentState::Retired);
        }
        let refused = read::agent(&scene.desk, &by(OPERATOR, ""), which.clone(), at(2)).await.unwrap_err();
        assert_eq!(reason(&refused), "REVISION_COMPACTED");
        let then = AsOf { at: Some(At::Time(prost_types::Timestamp { seconds: NOW + 61, nanos: 0 })) };
        let refused = read::agent(&scene.desk, &by(OPERATOR, ""), which, Some(then)).await.unwrap_err();
        assert_eq!(reason(&refused), "REVISION_COMPACTED");
        assert!(refused.to_string().contains("the oldest revision that is kept is 3"), "{refused}");
        let ask = ListHistoryRequest { id: bound.clone(), ..Default::default() };
        let refused = history::history(&scene.desk, &by(OPERATOR, ""), ask).await.unwrap_err();
        assert_eq!(reason(&refused), "OBJECT_NOT_FOUND");
        // Its id is never given again, and who holds the name now is another one.
        assert_ne!(scene.agent("invoice-bot").await.metadata.unwrap().id, id);
    })
    .await;
}

#[tokio::test]
async fn whoever_declared_an_agent_does_not_approve_it_when_that_is_long_ago() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::keeping(fixture.db.clone(), Some(MINUTE));
        let third = "spiffe://example.org/legate/operator/third";
        let approve = Step::Transition(Transition::Approve);
        let mut all = payments();
        all.extend([class("careful", true), agent("payer-bot", "careful")]);
        scene.apply(all).await.unwrap();
        let declare = async |actor: &str, purpose: &str| {
            let mut spec = agent_spec("careful");
            spec.purpose = purpose.into();
            scene.apply_as(actor, vec![agent_with("payer-bot", spec)], "", 0).await.unwrap();
        };
        let joan = "spiffe://example.org/legate/operator/joan";
        declare(OTHER, "pays").await;
        scene.clock.advance(MINUTE);
        scene.step(third, "payer-bot", approve).await.unwrap();
        scene.clock.advance(10 * MINUTE);
        // The approval is the oldest version that is kept now, and no declaration.
        assert_eq!(compact(&scene.desk).await.unwrap(), 2);
        // Another change leads back to where it waits, and is long ago, too.
        declare(joan, "pays more").await;
        scene.clock.advance(10 * MINUTE);
        assert_eq!(compact(&scene.desk).await.unwrap(), 1);
        for declarer in [OPERATOR, OTHER, joan] {
            let refused = scene.step(declarer, "payer-bot", approve).await.unwrap_err();
            assert_eq!(reason(&refused), "SELF_APPROVAL", "{declarer}");
        }
        let (agent, _) = scene.step(third, "payer-bot", approve).await.unwrap();
        assert_eq!(agent.status.unwrap().state(), AgentState::Staged);
    })
    .await;
}

#[tokio::test]
async fn a_tail_that_slept_for_longer_than_the_past_is_kept_goes_on_at_the_head() {
    on_each::<Migrator>(async |fixture| {
        let asleep = Scene::new(&fixture);
        let scene = Scene::keeping(fixture.db.clone(), Some(MINUTE));
        let head = walk(&scene, 11, 40).await;
        compact(&scene.desk).await.unwrap();
        asleep.desk.tail.refresh(&fixture.db).await.unwrap();
        assert_eq!(asleep.desk.tail.revision(), head);
        scene.apply(vec![namespace("after")]).await.unwrap();
        asleep.desk.tail.refresh(&fixture.db).await.unwrap();
        assert_eq!(asleep.desk.tail.revision(), head + 1);
    })
    .await;
}

#[test]
fn less_than_half_a_year_is_refused() {
    for (days, good) in
        [(None, true), (Some(182), false), (Some(183), true), (Some(36_500), true), (Some(36_501), false)]
    {
        assert_eq!(crate::RetentionConfig { history_days: days }.history().is_ok(), good, "{days:?}");
    }
}
