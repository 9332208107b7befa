//! The rules over made-up logs: every wrong thing in them is found, nothing else is, and how they are read makes no difference.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stream;

use std::collections::BTreeSet;

use legate_db::TxError;
use legate_db::testing::{Fixture, on_each};
use legate_wire::audit::{AlertStatus, AlertType};
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

/// Every wrong thing has its alert, which rests on its leaf, and every alert its wrong thing.
fn check(seed: u64, told: &[Told], alerts: &[Alert]) {
    let mut explained: BTreeSet<AlertType> = BTreeSet::new();
    let mut kinds: BTreeSet<Wrong> = BTreeSet::new();
    for (leaf, one) in (0u64..).zip(told) {
        for wrong in &one.wrong {
            kinds.insert(*wrong);
            let kind = wrong.alert();
            let found = alerts.iter().any(|alert| alert.kind == kind && alert.leaves.contains(&leaf));
            assert!(found, "seed {seed}: leaf {leaf} is {wrong:?}, and no {kind:?} says so: {alerts:#?}");
            explained.insert(kind);
            explained.extend(wrong.consequences());
        }
    }
    assert!(kinds.len() >= 9, "seed {seed}: only {kinds:?} were tried");
    for alert in alerts {
        assert!(explained.contains(&alert.kind), "seed {seed}: nothing explains {alert:#?}");
        assert_eq!(alert.status, AlertStatus::Open);
        assert!(alert.count > 0 && !alert.leaves.is_empty() && !alert.summary.is_empty());
    }
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
