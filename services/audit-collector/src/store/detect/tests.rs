//! The rules over made-up logs: every wrong thing in them is found, nothing else is, and how they are read makes no difference.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod copies;
mod stream;

use std::collections::BTreeSet;

use legate_db::TxError;
use legate_db::testing::{Fixture, on_each};
use legate_wire::audit::{AlertSeverity, AlertStatus, AlertType, AuditEvent};
use sea_orm::EntityTrait as _;

use self::stream::{Chance, Told, Wrong, arrange, clean, leaves};
use crate::domain::detect::alert::Alert;
use crate::domain::detect::fact::COLLECTOR;
use crate::log::tests::scene::personal;
use crate::personal::Vault;
use crate::schema::Migrator;
use crate::store::batch::{self, Batch, Voices};
use crate::store::{alert, executed, remembered};

/// Everything that the rules keep.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    alerts: Vec<alert::Model>,
    executed: Vec<executed::Model>,
    remembered: Vec<remembered::Model>,
}

impl Kept {
    fn alerts(&self) -> Vec<Alert> {
        self.alerts.iter().cloned().map(Alert::from).collect()
    }
}

/// Has the rules look at a log, in steps of so many leaves.
async fn look(fixture: &Fixture, log: &[(u64, Vec<u8>)], mut step: impl FnMut() -> usize) -> Kept {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(personal(dir.path()), None).unwrap();
    let voices = Voices { registry: stream::REGISTRY.into(), me: stream::REGISTRY.replace("registry", COLLECTOR) };
    let clear = fixture.db.tx("clear", |tx| Box::pin(async move { batch::clear::<()>(tx).await }));
    clear.await.unwrap();
    let mut rest = log;
    while !rest.is_empty() {
        let (these, later) = rest.split_at(step().clamp(1, rest.len()));
        let (batch, vault) = (std::sync::Arc::new(Batch::of(these, &voices, &vault, None)), vault.clone());
        let writing = fixture.db.tx("index_events", move |tx| {
            let (batch, vault) = (std::sync::Arc::clone(&batch), vault.clone());
            Box::pin(async move { batch.insert::<()>(tx, &vault).await })
        });
        writing.await.unwrap();
        rest = later;
    }
    let reading = fixture.db.read("kept", |tx| {
        Box::pin(async move {
            let mut alerts = alert::Entity::find().all(tx).await?;
            let mut executed = executed::Entity::find().all(tx).await?;
            let mut remembered = remembered::Entity::find().all(tx).await?;
            alerts.sort();
            executed.sort();
            remembered.sort();
            Ok::<_, TxError<()>>(Kept { alerts, executed, remembered })
        })
    });
    reading.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_concurrent_writers_in_which_all_is_well_raises_nothing() {
    on_each::<Migrator>(async |fixture: Fixture| {
        for seed in 1..=2 {
            let mut chance = Chance::new(seed);
            let log = leaves(&arrange(clean(&mut chance, 300), &mut chance));
            let kept = look(&fixture, &log, || 97).await;
            assert!(kept.alerts.is_empty(), "seed {seed}: {:#?}", kept.alerts());
            assert_eq!(kept.executed.len(), 300, "seed {seed}");
            let is_whole = |row: &executed::Model| [row.agent, row.credential, row.decision] == [1, 1, 1];
            assert!(kept.executed.iter().all(is_whole), "seed {seed}: {:#?}", kept.executed);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_wrong_is_found_however_the_log_is_read() {
    on_each::<Migrator>(async |fixture: Fixture| {
        for seed in 11..=12 {
            let mut chance = Chance::new(seed);
            let mut told = clean(&mut chance, 300);
            stream::spoil(&mut told, &mut chance);
            let told = stream::disorder(arrange(told, &mut chance), &mut chance);
            let log = leaves(&told);
            let kept = look(&fixture, &log, || log.len()).await;
            let alerts = kept.alerts();
            check(seed, &told, &alerts);
            // As the index is made again, and as it follows: the same.
            let again = look(&fixture, &log, || 1 + chance.below(60)).await;
            assert_eq!(again, kept, "seed {seed}");
        }
    })
    .await;
}

/// Every wrong thing has its alert, which rests on its leaf, and every alert its wrong thing: about the agent that it is about, and
/// resting on leaves of it and no others.
fn check(seed: u64, told: &[Told], alerts: &[Alert]) {
    let mut kinds: BTreeSet<Wrong> = BTreeSet::new();
    for (leaf, one) in (0u64..).zip(told) {
        for wrong in &one.wrong {
            kinds.insert(*wrong);
            let kind = wrong.alert();
            let found = alerts.iter().any(|alert| alert.kind == kind && alert.leaves.contains(&leaf));
            assert!(found, "seed {seed}: leaf {leaf} is {wrong:?}, and no {kind:?} says so: {alerts:#?}");
        }
    }
    assert!(kinds.len() >= 9, "seed {seed}: only {kinds:?} were tried");
    for alert in alerts {
        assert_eq!(alert.status, AlertStatus::Open);
        assert!(alert.count > 0 && !alert.leaves.is_empty() && !alert.summary.is_empty());
        let its: Vec<&Told> = alert.leaves.iter().map(|leaf| &told[usize::try_from(*leaf).unwrap()]).collect();
        let explained: Vec<bool> = its.iter().map(|one| explains(one, alert, told)).collect();
        assert!(explained.contains(&true), "seed {seed}: nothing explains {alert:#?}");
        for (one, is_explained) in its.iter().zip(explained) {
            if alert.agent.is_empty() {
                let emitter = &one.event.emitter.as_ref().unwrap().spiffe_id;
                let is_own = emitter.ends_with(COLLECTOR);
                // What agents did of whom the registry never told is nobody's, and told of together.
                let is_its = is_own || is_explained || alert.summary.contains(emitter.as_str());
                assert!(is_its, "seed {seed}: {emitter} in {alert:#?}");
                continue;
            }
            assert_eq!(one.event.agent_id, alert.agent, "seed {seed}: another's leaf in {alert:#?}");
            // The first use of a credential that is shared is one like every other.
            let is_act = one.event.r#type == "action.executed" && alert.kind != AlertType::CredentialShared;
            assert!(is_explained || !is_act, "seed {seed}: {:#?} is in {alert:#?}", one.event);
        }
    }
}

/// Whether this leaf is wrong in a way that the alert says.
fn explains(one: &Told, alert: &Alert, told: &[Told]) -> bool {
    let is_about = alert.agent.is_empty() || alert.agent == one.event.agent_id;
    let by_itself = one.wrong.iter().any(|wrong| {
        wrong.alert() == alert.kind || (wrong.is_of_its_leaf() && wrong.consequences().contains(&alert.kind))
    });
    // What is lost can be the decision that allowed it.
    let is_it = |lost: &AuditEvent| {
        let on = |event: &AuditEvent| event.resource.clone().unwrap_or_default().id;
        lost.r#type == "decision.made"
            && (&lost.agent_id, &lost.action) == (&one.event.agent_id, &one.event.action)
            && on(lost) == on(&one.event)
    };
    let by_loss = alert.kind == AlertType::ActionWithoutDecision
        && told.iter().filter_map(|other| other.lost.as_ref()).any(is_it);
    // What comes late leaves a gap first, in front of this one.
    let place = |one: &Told| one.event.emitter.clone().unwrap();
    let is_before = |late: &Told| {
        let (late, this) = (place(late), place(one));
        (&late.spiffe_id, &late.epoch, late.seq + 1) == (&this.spiffe_id, &this.epoch, this.seq)
    };
    let by_lateness = alert.kind == AlertType::EmitterGap
        && told.iter().filter(|other| other.wrong.contains(&Wrong::Late)).any(is_before);
    is_about && (by_itself || by_loss || by_lateness)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_is_told_once_counted_while_open_and_another_after_it_was_resolved() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let mut scene = stream::Scene::new();
        scene.agent(1);
        scene.act_without_decision(1, "rogue:first");
        scene.pass(700);
        scene.act_without_decision(1, "rogue:first");
        scene.pass(700);
        let first = look(&fixture, &scene.leaves(), || 7).await.alerts();
        assert_eq!(first.len(), 1, "{first:#?}");
        assert_eq!((first[0].kind, first[0].count, first[0].leaves.len()), (AlertType::ActionWithoutDecision, 2, 2));
        let id = first[0].id.clone();
        let raised = scene.own("alert.raised", &id, "");
        scene.own("alert.acknowledged", &id, "on it");
        scene.own("alert.raised", &id, "");
        let second = look(&fixture, &scene.leaves(), || 5).await.alerts();
        assert_eq!((second[0].raised, second[0].status), (Some(raised), AlertStatus::Acknowledged));
        assert_eq!(second[0].why, "on it");
        scene.act_without_decision(1, "rogue:first");
        scene.pass(700);
        scene.own("alert.resolved", &id, "was a test");
        scene.own("alert.acknowledged", &id, "too late");
        scene.act_without_decision(1, "rogue:first");
        scene.pass(700);
        let third = look(&fixture, &scene.leaves(), || 11).await.alerts();
        let of = |id: &str| third.iter().find(|alert| alert.id == id).unwrap();
        assert_eq!((of(&id).count, of(&id).status, of(&id).why.as_str()), (3, AlertStatus::Resolved, "was a test"));
        let other = third.iter().find(|alert| alert.id != id).unwrap();
        assert_eq!((third.len(), other.count, other.status, other.ordinal), (2, 1, AlertStatus::Open, 2));
        // Nobody but the collector says what became of an alert.
        scene.forged_resolution(&other.id);
        let fourth = look(&fixture, &scene.leaves(), || 3).await.alerts();
        assert_eq!(fourth.iter().find(|alert| alert.id == other.id).unwrap().status, AlertStatus::Open);
        assert!(fourth.iter().any(|alert| alert.kind == AlertType::ForgedEvent));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_makes_things_up_makes_few_alerts_of_them_and_little_to_remember() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let mut scene = stream::Scene::new();
        scene.agent(1);
        let before = look(&fixture, &scene.leaves(), || 100).await.remembered.len();
        (0..100).for_each(|n| scene.make_up(n));
        scene.pass(1_000);
        let kept = look(&fixture, &scene.leaves(), || 100).await;
        let alerts = kept.alerts();
        assert_eq!(alerts.len(), 3, "{alerts:#?}");
        assert!(alerts.iter().all(|alert| alert.count == 100 && alert.leaves.len() == 32), "{alerts:#?}");
        assert_eq!(kept.executed.len(), 100);
        // The teller's own row, and no more.
        assert_eq!(kept.remembered.len(), before + 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn habits_silence_and_clocks_have_their_rules() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let mut scene = stream::Scene::new();
        scene.agent(1);
        // Two days of the same, an hour of far more, one thing that is new, twenty denials, and two silent hours.
        for _ in 0..48 {
            for _ in 0..10 {
                scene.decide(1, "invoice:read", true);
            }
            scene.pass(3_600);
        }
        let calm = look(&fixture, &scene.leaves(), || 100).await.alerts();
        assert!(calm.is_empty(), "{calm:#?}");
        let new = scene.decide(1, "invoice:shred", true);
        for _ in 0..80 {
            scene.decide(1, "invoice:read", true);
        }
        let last = scene.leaves().len() as u64 - 1;
        for _ in 0..20 {
            scene.decide(1, "vault:open", false);
        }
        let ahead = scene.decide_ahead(1, 500);
        scene.pass(3_600);
        scene.pass(3_600);
        scene.pass(3_600);
        let found = look(&fixture, &scene.leaves(), || 100).await.alerts();
        let of = |kind: AlertType| {
            found.iter().find(|alert| alert.kind == kind).unwrap_or_else(|| panic!("{kind:?}: {found:#?}"))
        };
        assert_eq!(of(AlertType::FirstSeen).leaves, [new]);
        let rate = of(AlertType::UnusualRate);
        assert!(rate.count == 1 && rate.leaves[0] > new && rate.leaves[0] <= last, "{rate:#?}");
        assert_eq!(of(AlertType::DenialBurst).leaves.len(), 20);
        assert!(of(AlertType::ClockSkew).leaves.contains(&ahead));
        assert!(of(AlertType::EmitterSilent).summary.contains("policy-decision"));
        assert_eq!(found.len(), 5, "{found:#?}");
        // Another version has other habits.
        scene.new_version(1);
        scene.decide(1, "invoice:burn", true);
        let after = look(&fixture, &scene.leaves(), || 100).await.alerts();
        assert_eq!(after.iter().filter(|alert| alert.kind == AlertType::FirstSeen).count(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_told_that_it_lives_and_does_not_any_more_is_found_within_minutes() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let (registry, issuer) = (0, 1);
        let mut scene = stream::Scene::new();
        // Who never said that it lives is not missed.
        scene.agent(1);
        scene.pass(3_000);
        scene.beat(&[registry, issuer], 20);
        assert!(look(&fixture, &scene.leaves(), || 9).await.alerts().is_empty());
        // While the collector was not there, nobody was silent.
        scene.be_away(4_000);
        scene.pass(250);
        assert!(look(&fixture, &scene.leaves(), || 9).await.alerts().is_empty());
        let last = scene.beat(&[issuer, registry], 1);
        // One of two falls silent, and the other when nobody is left.
        scene.beat(&[issuer], 4);
        assert!(look(&fixture, &scene.leaves(), || 9).await.alerts().is_empty());
        let other = scene.beat(&[issuer], 4);
        let found = look(&fixture, &scene.leaves(), || 9).await.alerts();
        assert!(found.len() == 1 && found[0].leaves[0] == last && found[0].agent.is_empty(), "{found:#?}");
        assert!(found[0].kind == AlertType::EmitterSilent && found[0].summary.contains("registry"), "{found:#?}");
        scene.pass(700);
        let found = look(&fixture, &scene.leaves(), || 9).await.alerts();
        assert!(found.len() == 2 && found.iter().any(|one| one.leaves[0] == other), "{found:#?}");
        // Each silence is one.
        scene.beat(&[registry, issuer], 3);
        scene.pass(700);
        let kept = look(&fixture, &scene.leaves(), || 9).await;
        assert_eq!(kept.alerts().len(), 4, "{:#?}", kept.alerts());
        assert_eq!(look(&fixture, &scene.leaves(), || 1_000).await, kept);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_were_refused_are_alerts_about_whoever_offered_them() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let mut scene = stream::Scene::new();
        let other = scene.refused(1, "AUDIT_NOT_YOURS_TO_TELL");
        let again = scene.refused(1, "AUDIT_NOT_YOURS_TO_TELL");
        let many = scene.refused(1, "AUDIT_QUOTA_SPENT");
        let unsigned = scene.refused(2, "AUDIT_SIGNATURE_INVALID");
        let found = look(&fixture, &scene.leaves(), || 2).await.alerts();
        let of = |leaf: u64| found.iter().find(|one| one.leaves.contains(&leaf)).unwrap();
        assert_eq!(found.len(), 3, "{found:#?}");
        assert_eq!((of(other).leaves.as_slice(), of(other).count), ([other, again].as_slice(), 2));
        let told = |leaf: u64| (of(leaf).kind, of(leaf).severity);
        assert_eq!(told(other), (AlertType::EmitterRefused, AlertSeverity::High));
        assert_eq!(told(many), (AlertType::EmitterRefused, AlertSeverity::Low));
        assert_eq!(told(unsigned), (AlertType::EmitterSignature, AlertSeverity::High));
        assert!(found.iter().all(|one| one.namespace == "payments"), "{found:#?}");
        assert!(of(other).agent == of(many).agent && of(other).agent != of(unsigned).agent, "{found:#?}");
    })
    .await;
}
