//! What agents used, as the audit log tells it: each leaf counts once, and nothing of it is declared.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_db::Fault as Injected;
use legate_db::testing::on_each;
use legate_wire::audit::{
    HeardEmitter, LostRecords, ReadUsageResponse, UsageWay, UsedAgent, UsedGrant, UsedPermission,
};
use legate_wire::registry::{
    AgentUsage, AsOf, Kind, ListAgentUsageRequest, ListAgentUsageResponse, PermissionUsageWay, as_of::At,
};
use proptest::prelude::*;
use sea_orm::ConnectionTrait as _;
use sea_orm_migration::{MigrationTrait, MigratorTrait};

use super::departures::appointed;
use super::scene::*;
use crate::domain::usage::{Days, FINE, RESOURCES, ROWS};
use crate::flow::hear::{self, Place};
use crate::flow::list::{self, List};
use crate::flow::{agent_usage, read};
use crate::schema::Migrator;
use crate::store::usage::permission;

const DAY: i64 = 86_400;
const BOB: &str = "spiffe://example.org/legate/operator/bob";
const DECISION: &str = "spiffe://example.org/legate/policy-decision";

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(Timestamp::from_secs(seconds).into())
}

fn used(agent: &str, action: &str, count: i64, when: i64) -> UsedPermission {
    UsedPermission {
        agent_id: agent.into(),
        action: action.into(),
        resource_type: "Invoice".into(),
        resource_id: String::new(),
        way: UsageWay::Own.into(),
        count,
        first_time: at(when),
        last_time: at(when),
        days: if count > 0 { vec![when.div_euclid(DAY)] } else { Vec::new() },
    }
}

/// A stretch that ends before `through`.
fn stretch(through: u64, permissions: Vec<UsedPermission>) -> ReadUsageResponse {
    ReadUsageResponse {
        origin: "example.org/audit-log".into(),
        through,
        root: vec![u8::try_from(through % 251).unwrap(); 32],
        is_newest: true,
        time: at(NOW),
        first_time: at(NOW - 100 * DAY),
        permissions,
        ..ReadUsageResponse::default()
    }
}

impl Scene {
    async fn hear(&self, stretch: ReadUsageResponse) -> bool {
        let place = hear::place(&self.desk).await.unwrap();
        hear::take(&self.desk, &place, stretch).await.unwrap()
    }

    async fn usage(&self, who: &str, ids: &[&str], grants: &[&str]) -> ListAgentUsageResponse {
        let text = |all: &[&str]| all.iter().map(|id| (*id).to_owned()).collect();
        let ask = ListAgentUsageRequest { agent_ids: text(ids), grant_ids: text(grants), by_resource: false };
        agent_usage::list(&self.desk, &by(who, ""), ask).await.unwrap()
    }

    async fn one(&self, id: &str) -> AgentUsage {
        self.usage(OPERATOR, &[id], &[]).await.agents.remove(0)
    }

    async fn id(&self, name: &str) -> String {
        self.agent(name).await.metadata.unwrap().id
    }

    async fn found(&self, filter: &str) -> usize {
        let ask = List { by: by(OPERATOR, ""), kind: Kind::Agent, filter: filter.into(), ..List::default() };
        list::list(&self.desk, ask).await.unwrap().objects.len()
    }
}

#[tokio::test]
async fn each_stretch_counts_once_whatever_ends_in_between() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let id = scene.id("invoice-bot").await;
        let first = stretch(10, vec![used(&id, "invoice:read", 3, NOW - 9 * DAY)]);
        assert!(scene.hear(first.clone()).await);
        // Whoever was slower, or did not hear that it was committed, adds nothing.
        assert!(!hear::take(&scene.desk, &Place::default(), first.clone()).await.unwrap());
        let place = hear::place(&scene.desk).await.unwrap();
        assert_eq!((place.through, place.root), (10, vec![10; 32]));
        let second = stretch(20, vec![used(&id, "invoice:read", 2, NOW - 5 * DAY)]);
        scene.desk.db.faults().plan("hear_usage", Injected::NotPersisted);
        let place = hear::place(&scene.desk).await.unwrap();
        hear::take(&scene.desk, &place, second.clone()).await.unwrap_err();
        assert_eq!(scene.one(&id).await.permissions[0].count, 3);
        scene.desk.db.faults().plan("hear_usage", Injected::PersistedButReplyLost);
        hear::take(&scene.desk, &place, second.clone()).await.unwrap_err();
        // The next reading begins where the committed one ended.
        assert_eq!(hear::place(&scene.desk).await.unwrap().through, 20);
        assert!(!hear::take(&scene.desk, &place, second).await.unwrap());
        let told = scene.one(&id).await;
        let read = &told.permissions[0];
        assert_eq!((read.count, read.days, read.longest_interval_days), (5, 2, 4));
        assert_eq!((read.first_time, read.last_time), (at(NOW - 9 * DAY), at(NOW - 5 * DAY)));
        // An ALLOW that was not said is taken off; the day stays, which errs on the safe side.
        assert!(scene.hear(stretch(30, vec![used(&id, "invoice:read", -1, NOW)])).await);
        let told = scene.one(&id).await;
        assert_eq!((told.permissions[0].count, told.permissions[0].last_time), (4, at(NOW - 5 * DAY)));
    })
    .await;
}

#[tokio::test]
async fn when_it_was_last_used_is_shown_and_searched_and_is_no_write() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        scene.apply(vec![agent("idle-bot", "worker")]).await.unwrap();
        let id = scene.id("invoice-bot").await;
        let last = |agent: legate_wire::registry::Agent| agent.status.unwrap().last_used_time;
        assert_eq!(last(scene.agent("invoice-bot").await), None);
        let before = (scene.one(&id).await, scene.usage(OPERATOR, &[], &[]).await.revision, scene.events().await.len());
        assert!(before.0.permissions.is_empty());
        scene.hear(stretch(10, vec![used(&id, "invoice:read", 1, NOW - DAY)])).await;
        assert_eq!(last(scene.agent("invoice-bot").await), at(NOW - DAY));
        assert_eq!(last(scene.agent("idle-bot").await), None);
        let since = Timestamp::from_secs(NOW - 2 * DAY);
        assert_eq!(scene.found(&format!("last_used_time > {since}")).await, 1);
        assert_eq!(scene.found("NOT last_used_time:*").await, 1);
        // Beside what the database cannot tell, too.
        assert_eq!(scene.found(&format!("last_used_time > {since} AND NOT regions:*")).await, 1);
        // Used on somebody's behalf it is used; what another does on its behalf is no use of its own.
        let through = UsedPermission { way: UsageWay::Through.into(), ..used(&id, "invoice:read", 1, NOW) };
        scene.hear(stretch(20, vec![through])).await;
        assert_eq!(last(scene.agent("invoice-bot").await), at(NOW - DAY));
        let mut obtained = stretch(30, Vec::new());
        obtained.agents = vec![UsedAgent { agent_id: id.clone(), denied: 2, last_obtained_time: at(NOW - 60) }];
        scene.hear(obtained).await;
        assert_eq!(last(scene.agent("invoice-bot").await), at(NOW - 60));
        assert_eq!(scene.one(&id).await.denied, 2);
        let after = (scene.usage(OPERATOR, &[], &[]).await.revision, scene.events().await.len());
        assert_eq!(after, (before.1, before.2));
        // A write of the agent leaves it, and keeps it out of what is declared and of the past.
        scene.suspend("invoice-bot").await;
        assert_eq!(last(scene.agent("invoice-bot").await), at(NOW - 60));
        let newest = scene.apply(vec![role("more", "a:b")]).await.unwrap().revision;
        let as_of = Some(AsOf { at: Some(At::Revision(newest)) });
        let (then, _) = read::agent(&scene.desk, &by(OPERATOR, ""), Some(by_name("invoice-bot")), as_of).await.unwrap();
        assert_eq!(last(then), None);
    })
    .await;
}

#[tokio::test]
async fn strangers_take_no_room_and_one_agent_takes_no_more_than_its_own() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let id = scene.id("invoice-bot").await;
        let stranger = legate_ids::AgentId::from_parts(1, [9; 10]).to_string();
        let many = (0..ROWS + 50).map(|n| used(&id, &format!("a:{n:05}"), 1, NOW));
        let mut heard = stretch(10, many.chain([used(&stranger, "a:b", 1, NOW)]).collect());
        heard.grants =
            vec![UsedGrant { grant_id: "obj_nobodys".into(), count: 1, first_time: at(NOW), last_time: at(NOW) }];
        scene.hear(heard).await;
        let told = scene.usage(OPERATOR, &[&id, &stranger], &["obj_nobodys"]).await;
        assert_eq!((told.agents.len(), told.grants.len()), (1, 0));
        let rows = &told.agents[0].permissions;
        assert_eq!(rows.len(), ROWS + 1);
        let rest = rows.iter().find(|row| row.action == "*").unwrap();
        assert_eq!((rest.count, rest.resource_type.as_str()), (50, "*"));
    })
    .await;
}

fn used_of(agent: &str, action: &str, id: &str, count: i64, when: i64) -> UsedPermission {
    UsedPermission { resource_id: id.into(), ..used(agent, action, count, when) }
}

impl Scene {
    /// Which resources, how often, and on how many days.
    async fn resources(&self, id: &str) -> Vec<(String, u64, u32)> {
        let ask = ListAgentUsageRequest { agent_ids: vec![id.into()], by_resource: true, ..Default::default() };
        let mut told = agent_usage::list(&self.desk, &by(OPERATOR, ""), ask).await.unwrap();
        let rows = told.agents.remove(0).permissions.into_iter();
        rows.map(|row| (row.resource_id, row.count, row.days)).collect()
    }
}

#[tokio::test]
async fn resources_are_kept_apart_as_far_as_there_is_room() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let id = scene.id("invoice-bot").await;
        let first = vec![
            used_of(&id, "invoice:read", "apollo/1", 2, NOW - 9 * DAY),
            used_of(&id, "invoice:read", "apollo/2", 1, NOW - 5 * DAY),
            used(&id, "invoice:read", 4, NOW - 3 * DAY),
        ];
        scene.hear(stretch(10, first)).await;
        let expected =
            [("*", 4, 1), ("apollo/1", 2, 1), ("apollo/2", 1, 1)].map(|(id, n, days)| (id.to_owned(), n, days));
        assert_eq!(scene.resources(&id).await, expected);
        // Not asked for, they are one, on the days of all of them.
        let whole = &scene.one(&id).await.permissions;
        let told: Vec<_> = whole.iter().map(|row| (row.resource_id.as_str(), row.count, row.days)).collect();
        assert_eq!(told, [("", 7, 3)]);
        assert_eq!((whole[0].first_time, whole[0].last_time), (at(NOW - 9 * DAY), at(NOW - 3 * DAY)));
        assert_eq!(whole[0].longest_interval_days, 4);
        let many = (0..RESOURCES).map(|n| used_of(&id, "invoice:read", &format!("many/{n:03}"), 1, NOW));
        scene.hear(stretch(20, many.collect())).await;
        let told = scene.resources(&id).await;
        assert_eq!(told.len(), RESOURCES + 1);
        assert_eq!(told[0], ("*".to_owned(), 6, 2), "the two for which there was no room");
        // What was said to have been allowed and was not is taken off where it was added.
        let off = vec![
            used_of(&id, "invoice:read", "apollo/1", -1, NOW),
            used_of(&id, "invoice:read", &format!("many/{:03}", RESOURCES - 1), -1, NOW),
            used_of(&id, "invoice:pay", "apollo/1", -1, NOW),
        ];
        scene.hear(stretch(30, off)).await;
        let told = scene.resources(&id).await;
        assert_eq!((told[0].1, told[1].1, told.len()), (5, 1, RESOURCES + 1));
        // Many resources of many actions leave room for other actions.
        let wide = (0..FINE * 2).map(|n| used_of(&id, &format!("wide:{:03}", n / 50), &format!("{n}"), 1, NOW));
        scene.hear(stretch(40, wide.collect())).await;
        scene.hear(stretch(50, vec![used_of(&id, "late:one", "apollo/1", 1, NOW)])).await;
        let told = scene.one(&id).await.permissions;
        assert!(told.iter().all(|row| row.action != "*") && told.iter().any(|row| row.action == "late:one"));
        assert_eq!(
            told.iter().filter(|row| row.action.starts_with("wide:")).map(|row| row.count).sum::<u64>(),
            FINE as u64 * 2
        );
        assert!(scene.resources(&id).await.len() <= ROWS);
    })
    .await;
}

/// The schema before resources were kept apart.
struct Before;

impl MigratorTrait for Before {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = Migrator::migrations();
        let at = all.iter().position(|one| one.name() == "registry_0023_used_resources").unwrap();
        all.truncate(at);
        all
    }
}

#[tokio::test]
async fn what_was_counted_before_may_have_been_any_resource() {
    on_each::<Before>(async |fixture| {
        let insert = format!(
            "INSERT INTO used_permission (agent_id, action, resource_type, way, count, first_time, last_time, newest_day, days) \
             VALUES ('agt_1', 'invoice:read', 'Invoice', 1, 7, 5, 9, 1, '{}')",
            "\u{1}"
        );
        let old = fixture.db.tx("test", move |tx| {
            let insert = insert.clone();
            Box::pin(async move {
                tx.execute_unprepared(&insert).await?;
                Ok::<_, legate_db::TxError<legate_rpc::Fault>>(())
            })
        });
        old.await.unwrap();
        fixture.db.migrate::<Migrator>().await.unwrap();
        let ids = || vec!["agt_1".to_owned()];
        let read = fixture.db.read("test", move |tx| Box::pin(permission::of(tx, ids())));
        let rows = read.await.map_err(crate::error::of_tx).unwrap();
        let told: Vec<_> = rows.iter().map(|row| (row.resource_id.as_str(), row.count, row.last_time)).collect();
        assert_eq!(told, [("*", 7, 9)]);
        assert_eq!(rows[0].days().count(), 1);
    })
    .await;
}

#[tokio::test]
async fn another_log_is_heard_anew_and_what_may_be_missing_is_said() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let id = scene.id("invoice-bot").await;
        assert_eq!(scene.usage(OPERATOR, &[&id], &[]).await.window.unwrap().to_time, None);
        let behind = ReadUsageResponse { is_newest: false, ..stretch(5, Vec::new()) };
        scene.hear(behind).await;
        let window = scene.usage(OPERATOR, &[&id], &[]).await.window.unwrap();
        assert_eq!((window.from_time, window.to_time), (at(NOW - 100 * DAY), None), "it is still being heard");
        let mut torn = stretch(10, vec![used(&id, "invoice:read", 1, NOW - 3 * DAY)]);
        torn.emitters = vec![HeardEmitter { spiffe_id: DECISION.into(), last_time: at(NOW - 3 * DAY) }];
        scene.hear(torn).await;
        let mut began = stretch(20, vec![used(&id, "invoice:read", 1, NOW - DAY)]);
        began.losses =
            vec![LostRecords { spiffe_id: DECISION.into(), after_time: None, before_time: at(NOW - 2 * DAY) }];
        began.emitters = vec![HeardEmitter { spiffe_id: DECISION.into(), last_time: at(NOW - DAY) }];
        scene.hear(began).await;
        let window = scene.usage(OPERATOR, &[&id], &[]).await.window.unwrap();
        assert_eq!((window.heard_through, window.to_time), (20, at(NOW)));
        let gap = &window.gaps[0];
        assert_eq!((gap.from_time, gap.to_time), (at(NOW - 3 * DAY), at(NOW - 2 * DAY)));
        // Put back to an earlier copy: what it no longer says does not count, and since when is said.
        scene.clock.advance(Duration::from_secs(60));
        let place = hear::place(&scene.desk).await.unwrap();
        hear::begin_anew(&scene.desk, &Place { through: 7, root: vec![7; 32] }, "of another").await.unwrap();
        assert_eq!(hear::place(&scene.desk).await.unwrap(), place, "somebody else has moved it");
        hear::begin_anew(&scene.desk, &place, "the log is another one").await.unwrap();
        assert_eq!(hear::place(&scene.desk).await.unwrap(), Place::default());
        assert_eq!(scene.agent("invoice-bot").await.status.unwrap().last_used_time, None);
        scene.hear(stretch(4, vec![used(&id, "invoice:read", 1, NOW - 50 * DAY)])).await;
        let told = scene.usage(OPERATOR, &[&id], &[]).await;
        assert_eq!(told.agents[0].permissions[0].count, 1);
        let gaps: Vec<_> = told.window.unwrap().gaps.into_iter().map(|gap| (gap.from_time, gap.cause)).collect();
        assert_eq!(gaps[0], (at(NOW), "the log is another one".to_owned()));
        assert_eq!(gaps.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn where_more_may_be_missing_than_is_told_the_evidence_begins_later() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let id = scene.id("invoice-bot").await;
        let mut heard = stretch(10, Vec::new());
        let torn = |n: i64| LostRecords {
            spiffe_id: DECISION.into(),
            after_time: at(NOW - n * DAY / 4 - 60),
            before_time: at(NOW - n * DAY / 4),
        };
        heard.losses = (1..=100).map(torn).collect();
        scene.hear(heard).await;
        let window = scene.usage(OPERATOR, &[&id], &[]).await.window.unwrap();
        assert_eq!((window.gaps.len(), window.from_time), (100, at(NOW - 100 * DAY)), "all are told");
        let mut more = stretch(20, Vec::new());
        more.losses = vec![torn(0)];
        scene.hear(more).await;
        let window = scene.usage(OPERATOR, &[&id], &[]).await.window.unwrap();
        assert_eq!(
            (window.gaps.len(), window.from_time),
            (100, at(NOW - 25 * DAY)),
            "what came before is not vouched for"
        );
    })
    .await;
}

#[tokio::test]
async fn nobody_sees_the_use_of_other_namespaces() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        assert!(scene.appoint(&["ada"]).await.unwrap());
        scene.apply(payments()).await.unwrap();
        scene.apply(vec![namespace("sales"), appointed("bobs", "sales", &["bob"])]).await.unwrap();
        let id = scene.id("invoice-bot").await;
        scene.hear(stretch(10, vec![used(&id, "invoice:read", 1, NOW)])).await;
        assert!(scene.usage(BOB, &[&id], &[]).await.agents.is_empty());
        assert_eq!(scene.usage(DECISION, &[&id], &[]).await.agents.len(), 1);
        let bad = |ids: Vec<String>| ListAgentUsageRequest { agent_ids: ids, ..ListAgentUsageRequest::default() };
        for ids in [vec!["bot".to_owned()], vec![id; 1_001]] {
            let refused = agent_usage::list(&scene.desk, &by(OPERATOR, ""), bad(ids)).await.unwrap_err();
            assert_eq!(reason(&refused), "INVALID_ARGUMENT");
        }
    })
    .await;
}

#[tokio::test]
async fn a_log_in_which_nothing_is_used_is_not_written_down_each_second() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        assert!(scene.hear(stretch(10, Vec::new())).await);
        let later = ReadUsageResponse { time: at(NOW + 5), ..stretch(20, Vec::new()) };
        assert!(!scene.hear(later.clone()).await);
        let window = scene.usage(OPERATOR, &[], &[]).await.window.unwrap();
        assert_eq!((window.to_time, window.heard_through), (at(NOW + 5), 10), "it is heard all the same");
        scene.clock.advance(Duration::from_secs(31));
        assert!(scene.hear(later).await);
        assert_eq!(hear::place(&scene.desk).await.unwrap().through, 20);
    })
    .await;
}

#[test]
fn ways_have_the_same_numbers_in_both() {
    for (one, other) in [
        (UsageWay::Own, PermissionUsageWay::Own),
        (UsageWay::ForPerson, PermissionUsageWay::ForPerson),
        (UsageWay::ForAgent, PermissionUsageWay::ForAgent),
        (UsageWay::Through, PermissionUsageWay::Through),
    ] {
        assert_eq!(one as i32, other as i32);
        assert_eq!(
            one.as_str_name().strip_prefix("USAGE_WAY_"),
            other.as_str_name().strip_prefix("PERMISSION_USAGE_WAY_")
        );
    }
}

proptest! {
    /// However stretches are cut, what rests is the same.
    #[test]
    fn days_of_two_stretches_are_those_of_both(a in prop::collection::vec(0i64..900, 0..9), b in prop::collection::vec(0i64..900, 0..9)) {
        let of = |all: &[i64]| { let mut days = Days::default(); all.iter().for_each(|day| days.add(*day)); days };
        let mut apart = of(&a);
        b.iter().for_each(|day| apart.add(*day));
        prop_assert_eq!(apart, of(&[a, b].concat()));
    }
}
