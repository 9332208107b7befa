//! A database that was restored from a copy uses numbers again; the collector must not take new events for old ones.

use std::time::Duration;

use legate_db::Db;
use legate_db::testing::{Fixture, on_each};
use legate_outbox::{DbSource, Source as _, begin_epoch};
use sea_orm::ConnectionTrait as _;

use crate::played::{Act, Played, pace, start};
use crate::scene::{Schema, deed, names, outbox, waiting};

async fn sql(db: &Db, statements: &'static [&'static str]) {
    let done = db.tx::<_, (), _>("sql", move |tx| {
        Box::pin(async move {
            for statement in statements {
                tx.execute_unprepared(statement).await?;
            }
            Ok(())
        })
    });
    done.await.unwrap();
}

async fn copy(db: &Db) {
    sql(db, &["CREATE TABLE head_copy AS SELECT * FROM outbox_head", "CREATE TABLE copy AS SELECT * FROM outbox"])
        .await;
}

async fn restore(db: &Db) {
    let statements = &[
        "DELETE FROM outbox",
        "DELETE FROM outbox_head",
        "INSERT INTO outbox SELECT * FROM copy",
        "INSERT INTO outbox_head SELECT * FROM head_copy",
    ];
    sql(db, statements).await;
}

/// Ten deeds, of which the collector acknowledged `acked`; a copy; five more, all shipped; the copy is restored.
async fn gone_back(db: &Db, collector: &Played, acked: usize) {
    let outbox = outbox(1_000);
    collector.play([Act::Partly(acked)]);
    collector.play_for_ever(Some(Act::Down(None)));
    for n in 0..10 {
        deed(db, &outbox, &format!("before-{n}"), false).await.unwrap();
    }
    let (shipper, _) = start(db, collector, legate_outbox::Pace { max_events: 100, ..pace() });
    if acked < 10 {
        collector.was_offered(3).await;
        drop(shipper);
    } else {
        shipper.stop(Duration::from_secs(20)).await;
    }
    copy(db).await;
    collector.play_for_ever(None);
    for n in 0..5 {
        deed(db, &outbox, &format!("forgotten-{n}"), false).await.unwrap();
    }
    let (shipper, _) = start(db, collector, pace());
    collector.holds(15).await;
    shipper.stop(Duration::from_secs(20)).await;
    restore(db).await;
    assert_eq!(waiting(db).await.len(), 10 - acked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_and_a_start_no_new_event_is_taken_for_an_old_one() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        for acked in [4, 10] {
            let collector = Played::new();
            begin_epoch(&db).await.unwrap();
            gone_back(&db, &collector, acked).await;
            // As every start does. The collector was away while more was recorded than the copy had lost.
            begin_epoch(&db).await.unwrap();
            let outbox = outbox(1_000);
            for n in 0..8 {
                deed(&db, &outbox, &format!("after-{acked}-{n}"), false).await.unwrap();
            }
            let (shipper, _) = start(&db, &collector, pace());
            // What the copy still had to ship comes a second time, since nothing tells that it is the same.
            collector.holds(15 + (10 - acked) + 8).await;
            shipper.stop(Duration::from_secs(20)).await;
            collector.verify();
            let log = names(&collector.log());
            let told: Vec<_> = log.iter().filter(|name| name.starts_with("after")).cloned().collect();
            assert_eq!(told, (0..8).map(|n| format!("after-{acked}-{n}")).collect::<Vec<_>>());
            assert_eq!(log.iter().filter(|name| name.starts_with("forgotten")).count(), 5, "the log forgets nothing");
            assert!(waiting(&db).await.is_empty());
            sql(&db, &["DROP TABLE copy", "DROP TABLE head_copy", "DELETE FROM deeds"]).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_holds_more_than_was_given_is_told_and_nothing_is_dropped() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let collector = Played::new();
        gone_back(&db, &collector, 4).await;
        // Restored beneath a running process: the epoch goes on, and its numbers are given once more.
        deed(&db, &outbox(1_000), "after", false).await.unwrap();
        let source = DbSource::new(db.clone());
        let old = source.next_batch(100, usize::MAX).await.unwrap().unwrap();
        assert_eq!((old.first_seq, old.last_seq()), (5, 11));
        let told = source.acked(&old.epoch, 15).await.unwrap_err().to_string();
        assert!(told.contains("restored from a copy") && told.contains("event 15"), "{told}");

        let new = source.next_batch(100, usize::MAX).await.unwrap().unwrap();
        assert_ne!(new.epoch, old.epoch);
        assert_eq!((new.first_seq, new.last_seq(), new.waiting), (1, 7, 7));
        // The old epoch is over: neither a late answer nor a wrong one lets go of anything.
        source.acked(&old.epoch, 15).await.unwrap();
        assert_eq!(source.next_batch(100, usize::MAX).await.unwrap().unwrap().events, new.events);

        let (shipper, metrics) = start(&db, &collector, pace());
        collector.holds(22).await;
        shipper.stop(Duration::from_secs(20)).await;
        collector.verify();
        assert_eq!(names(&collector.log()).last().map(String::as_str), Some("after"));
        assert_eq!(metrics.backlog(), 0);
        // What comes next goes on in the new epoch.
        assert_eq!(deed(&db, &outbox(1_000), "next", false).await.unwrap(), 8);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_holds_others_under_the_same_numbers_is_told_all_of_it_in_a_new_epoch() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let collector = Played::new();
        gone_back(&db, &collector, 4).await;
        // Restored beneath a running process, which tells more before it is heard than the copy had lost.
        for n in 0..8 {
            deed(&db, &outbox(1_000), &format!("after-{n}"), false).await.unwrap();
        }
        collector.play([Act::Differ]);
        let (shipper, metrics) = start(&db, &collector, pace());
        // Fifteen that it had, six of the copy once more, and the eight.
        collector.holds(29).await;
        shipper.stop(Duration::from_secs(20)).await;
        collector.verify();
        let log = names(&collector.log());
        assert!((0..8).all(|n| log.contains(&format!("after-{n}"))), "{log:?}");
        assert_eq!(metrics.backlog(), 0);
        // Of an epoch that is over nothing is numbered again.
        let source = DbSource::new(db.clone());
        deed(&db, &outbox(1_000), "next", false).await.unwrap();
        let before = source.next_batch(10, usize::MAX).await.unwrap().unwrap();
        source.differs("another").await.unwrap();
        assert_eq!(source.next_batch(10, usize::MAX).await.unwrap().unwrap().epoch, before.epoch);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_start_counts_from_one_and_a_batch_has_one_epoch() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let outbox = outbox(6);
        assert_eq!(deed(&db, &outbox, "a-1", false).await.unwrap(), 1);
        assert_eq!(deed(&db, &outbox, "a-2", false).await.unwrap(), 2);
        begin_epoch(&db).await.unwrap();
        begin_epoch(&db).await.unwrap();
        for n in 1..=4 {
            assert_eq!(deed(&db, &outbox, &format!("b-{n}"), false).await.unwrap(), n);
        }
        deed(&db, &outbox, "b-5", false).await.expect_err("the bound counts what waits of every epoch");

        let source = DbSource::new(db.clone());
        let first = source.next_batch(100, usize::MAX).await.unwrap().unwrap();
        assert_eq!((first.first_seq, first.events.len(), first.waiting), (1, 2, 6));
        source.acked(&first.epoch, 1).await.unwrap();
        source.acked(&first.epoch, 2).await.unwrap();
        source.acked(&first.epoch, 2).await.unwrap();
        let second = source.next_batch(100, usize::MAX).await.unwrap().unwrap();
        assert_eq!((second.first_seq, second.events.len(), second.waiting), (1, 4, 4));
        assert_ne!(first.epoch, second.epoch);
        source.acked("another", 4).await.unwrap();
        source.acked(&second.epoch, 0).await.unwrap();
        assert_eq!(source.next_batch(100, usize::MAX).await.unwrap().unwrap().waiting, 4);
        source.acked(&second.epoch, 4).await.unwrap();
        assert!(source.next_batch(100, usize::MAX).await.unwrap().is_none());
    })
    .await;
}
