//! Whatever happens in whatever order, exactly what was committed is delivered, in order, without gaps per epoch.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use legate_db::testing::{Fixture, on_each};
use legate_db::{Fault as Planned, TxError};
use legate_outbox::{DbSource, Sink as _, Source as _, begin_epoch};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use crate::played::{Act, Played};
use crate::scene::{Schema, deed, deeds, names, outbox};

#[derive(Clone, Debug)]
enum Step {
    Record,
    Abort,
    DieBeforeCommit,
    DieAfterCommit,
    /// One round of a shipper, with this size of batch.
    Ship(usize),
    ShipPartly(usize, usize),
    ShipAndLoseAnswer(usize),
    ShipAndLoseAck(usize, bool),
    Start,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let size = || 1usize..6;
    prop_oneof![
        6 => Just(Step::Record),
        2 => Just(Step::Abort),
        1 => Just(Step::DieBeforeCommit),
        1 => Just(Step::DieAfterCommit),
        3 => size().prop_map(Step::Ship),
        2 => (size(), 0usize..6).prop_map(|(a, b)| Step::ShipPartly(a, b)),
        2 => size().prop_map(Step::ShipAndLoseAnswer),
        2 => (size(), any::<bool>()).prop_map(|(a, b)| Step::ShipAndLoseAck(a, b)),
        2 => Just(Step::Start),
        1 => Just(Step::Reopen),
    ]
}

async fn round(source: &DbSource, collector: &Played, size: usize, act: Option<Act>) -> bool {
    let Some(batch) = source.next_batch(size, usize::MAX).await.unwrap() else { return false };
    collector.play(act);
    match collector.append(&batch).await {
        Ok(acked) => source.acked(&batch.epoch, acked).await.is_ok(),
        Err(_) => false,
    }
}

async fn run(fixture: &Fixture, steps: &[Step], prefix: usize) -> Vec<String> {
    let mut db = fixture.again().await;
    let (outbox, collector) = (outbox(1_000), Played::new());
    begin_epoch(&db).await.unwrap();
    let mut source = DbSource::new(db.clone());
    let mut committed = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        let name = format!("{prefix:03}-{n:03}");
        match step {
            Step::Record => {
                deed(&db, &outbox, &name, false).await.unwrap();
                committed.push(name);
            }
            Step::Abort => {
                deed(&db, &outbox, &name, true).await.unwrap_err();
            }
            Step::DieBeforeCommit => {
                db.faults().plan("deed", Planned::NotPersisted);
                let end = deed(&db, &outbox, &name, false).await;
                assert!(matches!(end, Err(TxError::Unavailable(_))));
            }
            Step::DieAfterCommit => {
                db.faults().plan("deed", Planned::PersistedButReplyLost);
                deed(&db, &outbox, &name, false).await.unwrap_err();
                committed.push(name);
            }
            Step::Ship(size) => drop(round(&source, &collector, *size, None).await),
            Step::ShipPartly(size, most) => drop(round(&source, &collector, *size, Some(Act::Partly(*most))).await),
            Step::ShipAndLoseAnswer(size) => drop(round(&source, &collector, *size, Some(Act::LoseAnswer)).await),
            Step::ShipAndLoseAck(size, kept) => {
                if source.next_batch(1, usize::MAX).await.unwrap().is_some() {
                    let fault = if *kept { Planned::PersistedButReplyLost } else { Planned::NotPersisted };
                    db.faults().plan("outbox_ack", fault);
                    assert!(!round(&source, &collector, *size, None).await);
                }
            }
            Step::Start => begin_epoch(&db).await.unwrap(),
            Step::Reopen => {
                db.close().await;
                db = fixture.again().await;
                source = DbSource::new(db.clone());
            }
        }
    }
    while round(&source, &collector, 5, None).await {}
    assert!(source.next_batch(1, usize::MAX).await.unwrap().is_none());
    collector.verify();
    assert_eq!(names(&collector.log()), committed);
    db.close().await;
    committed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_what_was_committed_is_delivered() {
    on_each::<Schema>(async |fixture: Fixture| {
        let mut runner = TestRunner::new(Config::default());
        let stories = prop::collection::vec(step(), 1..40);
        let mut kept = Vec::new();
        for prefix in 0..40 {
            let steps = stories.new_tree(&mut runner).unwrap().current();
            let end = AssertUnwindSafe(run(&fixture, &steps, prefix)).catch_unwind().await;
            kept.extend(end.unwrap_or_else(|_| panic!("so it came to this: {steps:?}")));
        }
        assert_eq!(kept, deeds(&fixture.db).await);
    })
    .await;
}
