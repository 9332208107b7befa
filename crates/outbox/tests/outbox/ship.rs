//! The shipper against a collector that is slow, silent, down, forgetful or short: nothing is lost, order is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use legate_db::testing::{Fixture, on_each};
use legate_db::{Db, Fault as Planned};
use legate_outbox::{Metrics, Outbox, Pace};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::played::{Act, Played, pace, start};
use crate::scene::{Schema, deed, names, outbox, soon, waiting};

async fn record(db: &Db, outbox: &Outbox, range: std::ops::Range<usize>) {
    for n in range {
        deed(db, outbox, &format!("deed-{n:03}"), false).await.unwrap();
    }
}

fn expected(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("deed-{n:03}")).collect()
}

/// Waits until nothing waits in the store.
async fn is_empty(db: &Db) {
    let mut commits = db.commits();
    let empty = async {
        while !waiting(db).await.is_empty() {
            drop(tokio::time::timeout(Duration::from_millis(200), commits.changed()).await);
        }
    };
    soon(empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_collector_does_everything_arrives_once_and_in_order() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let (outbox, collector) = (outbox(1_000), Played::new());
        collector.play([
            Act::Down(None),
            Act::Partly(3),
            Act::LoseAnswer,
            Act::Refuse,
            Act::Partly(1),
            Act::Silence,
            Act::Nothing,
            Act::Down(Some(Duration::from_millis(5))),
            Act::Partly(0),
            Act::LoseAnswer,
        ]);
        record(&db, &outbox, 0..30).await;
        let (shipper, _) = start(&db, &collector, pace());
        // While it is shipped, more is recorded, and some of it is given up.
        for n in 30..60 {
            deed(&db, &outbox, &format!("given-up-{n}"), true).await.unwrap_err();
            record(&db, &outbox, n..n + 1).await;
        }
        collector.holds(60).await;
        is_empty(&db).await;
        assert_eq!(names(&collector.log()), expected(60));
        collector.verify();
        // Answers were lost: what they told of came again, and it did no harm.
        assert!(collector.again() >= 9, "{}", collector.again());
        let largest = collector.offers().iter().map(|offer| offer.2).max();
        assert_eq!(largest, Some(8), "no batch is larger than the pace says");
        shipper.stop(Duration::from_secs(5)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_has_at_least_one_event_and_no_more_bytes_than_the_pace_says() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let (outbox, collector) = (outbox(1_000), Played::new());
        record(&db, &outbox, 0..10).await;
        let one = waiting(&db).await;
        let one = prost::Message::encoded_len(&one[0]);
        let (shipper, _) = start(&db, &collector, Pace { max_bytes: one * 3 + 5, ..pace() });
        collector.holds(10).await;
        is_empty(&db).await;
        assert!(collector.offers().iter().all(|offer| offer.2 <= 3), "{:?}", collector.offers());
        shipper.stop(Duration::from_secs(5)).await;

        // An event that alone is more than the pace says goes alone.
        record(&db, &outbox, 10..13).await;
        let (shipper, _) = start(&db, &collector, Pace { max_bytes: 1, ..pace() });
        collector.holds(13).await;
        shipper.stop(Duration::from_secs(5)).await;
        assert!(collector.offers().iter().rev().take(3).all(|offer| offer.2 == 1));
        collector.verify();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_soon_after_a_batch_goes_together_and_a_backlog_does_not_wait() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let (outbox, collector) = (outbox(1_000), Played::new());
        let gathering = Pace { gap: Duration::from_secs(3_600), max_events: 3, ..pace() };
        record(&db, &outbox, 0..9).await;
        let (shipper, _) = start(&db, &collector, gathering);
        collector.holds(9).await;
        is_empty(&db).await;
        record(&db, &outbox, 9..10).await;
        record(&db, &outbox, 10..11).await;
        // A stop waits for no gap.
        soon(shipper.stop(Duration::from_secs(20))).await;
        collector.verify();
        let sizes: Vec<usize> = collector.offers().iter().map(|offer| offer.2).collect();
        assert_eq!(sizes, [3, 3, 3, 2]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_holds_its_answer_back_holds_up_no_writer() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let (outbox, collector) = (outbox(1_000), Played::new());
        let gate = Arc::new(Semaphore::new(0));
        collector.play([Act::Wait(Arc::clone(&gate))]);
        record(&db, &outbox, 0..5).await;
        let patient = Pace { timeout: Duration::from_secs(60), ..pace() };
        let (shipper, _) = start(&db, &collector, patient);
        collector.was_offered(1).await;
        soon(record(&db, &outbox, 5..40)).await;
        assert_eq!(waiting(&db).await.len(), 40, "nothing is let go before the answer");
        gate.add_permits(1);
        collector.holds(40).await;
        is_empty(&db).await;
        assert_eq!(names(&collector.log()), expected(40));
        assert_eq!(collector.again(), 0, "an answer that was waited for is believed");
        shipper.stop(Duration::from_secs(5)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_asks_for_time_gets_it() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let (outbox, collector) = (outbox(1_000), Played::new());
        let asked = Duration::from_millis(150);
        collector.play([Act::Down(Some(asked)), Act::Down(Some(Duration::from_secs(3_600)))]);
        record(&db, &outbox, 0..1).await;
        let patient = Pace { longest_wait: Duration::from_millis(300), ..pace() };
        let (shipper, _) = start(&db, &collector, patient.clone());
        collector.was_offered(3).await;
        let at: Vec<_> = collector.offers().iter().map(|offer| offer.0).collect();
        assert!(at[1] - at[0] >= asked, "{:?}", at[1] - at[0]);
        // Nobody can ask us to wait for longer than the pace says.
        let second = at[2] - at[1];
        assert!(second >= patient.longest_wait && second < Duration::from_secs(20), "{second:?}");
        shipper.stop(Duration::from_secs(5)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_asks_for_no_time_is_not_knocked_at_without_a_pause() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let (outbox, collector) = (outbox(1_000), Played::new());
        collector.play_for_ever(Some(Act::Down(Some(Duration::ZERO))));
        record(&db, &outbox, 0..1).await;
        let slow = Pace { first_wait: Duration::from_millis(40), longest_wait: Duration::from_millis(80), ..pace() };
        let (shipper, _) = start(&db, &collector, slow);
        let began = Instant::now();
        collector.was_offered(5).await;
        // Four waits of 20 ms at least, then 40, 40, 40.
        assert!(began.elapsed() >= Duration::from_millis(120), "{:?}", began.elapsed());
        collector.play_for_ever(None);
        collector.holds(1).await;
        shipper.stop(Duration::from_secs(5)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_over_restarts_of_the_shipper_and_of_the_database() {
    on_each::<Schema>(async |fixture: Fixture| {
        let (outbox, collector) = (outbox(1_000), Played::new());
        let mut db = fixture.db.clone();
        for round in 0..6 {
            // Even rounds go on in the epoch, as another handle would; odd ones begin one, as a start does.
            if round % 2 == 1 {
                legate_outbox::begin_epoch(&db).await.unwrap();
            }
            record(&db, &outbox, round * 10..round * 10 + 10).await;
            // Three were taken and the line went down before the answer; then it hangs.
            collector.play([Act::Partly(2), Act::LoseAnswer]);
            collector.play_for_ever(Some(Act::Silence));
            let (shipper, _) = start(&db, &collector, Pace { max_events: 3, ..pace() });
            let offered = collector.offers().len();
            collector.was_offered(offered + 3).await;
            // Killed in the middle of an offer.
            drop(shipper);
            collector.play_for_ever(None);
            db.close().await;
            db = fixture.again().await;
        }
        let (shipper, _) = start(&db, &collector, pace());
        collector.holds(60).await;
        is_empty(&db).await;
        shipper.stop(Duration::from_secs(5)).await;
        assert_eq!(names(&collector.log()), expected(60));
        collector.verify();
        assert!(collector.again() > 0, "batches came again");
        db.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_that_is_not_stored_is_got_again() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let (outbox, collector) = (outbox(1_000), Played::new());
        record(&db, &outbox, 0..20).await;
        db.faults().plan("outbox_ack", Planned::NotPersisted);
        db.faults().plan("outbox_ack", Planned::PersistedButReplyLost);
        db.faults().plan("outbox_batch", Planned::NotPersisted);
        let (shipper, _) = start(&db, &collector, pace());
        collector.holds(20).await;
        is_empty(&db).await;
        shipper.stop(Duration::from_secs(5)).await;
        assert_eq!(db.faults().pending(), 0);
        assert_eq!((names(&collector.log()), collector.again()), (expected(20), 8));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_shippers_of_one_store_do_no_harm() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let (outbox, collector) = (outbox(1_000), Played::new());
        collector.play([Act::LoseAnswer, Act::Partly(1), Act::Down(None), Act::Silence]);
        let (one, _) = start(&db, &collector, pace());
        let (two, _) = start(&db, &collector, Pace { max_events: 3, ..pace() });
        record(&db, &outbox, 0..60).await;
        collector.holds(60).await;
        is_empty(&db).await;
        one.stop(Duration::from_secs(5)).await;
        two.stop(Duration::from_secs(5)).await;
        assert_eq!(names(&collector.log()), expected(60));
        collector.verify();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ships_what_waits_and_ends_in_time_when_the_collector_hangs() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let (outbox, collector) = (outbox(1_000), Played::new());
        let patient = Pace { timeout: Duration::from_secs(3_600), ..pace() };
        let (shipper, _) = start(&db, &collector, patient.clone());
        record(&db, &outbox, 0..30).await;
        shipper.stop(Duration::from_secs(20)).await;
        assert_eq!(collector.log().len(), 30, "it had time to");
        assert!(waiting(&db).await.is_empty());

        let began = Instant::now();
        let (shipper, _) = start(&db, &collector, patient.clone());
        shipper.stop(Duration::from_secs(20)).await;
        assert!(began.elapsed() < Duration::from_secs(10), "with nothing to ship it ends at once");

        for act in [Act::Silence, Act::Down(Some(Duration::from_secs(3_600)))] {
            collector.play_for_ever(Some(act));
            let offered = collector.offers().len();
            deed(&db, &outbox, &format!("late-{offered}"), false).await.unwrap();
            let slow = Pace { longest_wait: Duration::from_secs(3_600), ..patient.clone() };
            let (shipper, _) = start(&db, &collector, slow);
            collector.was_offered(offered + 1).await;
            let began = Instant::now();
            soon(shipper.stop(Duration::from_millis(100))).await;
            assert!(began.elapsed() >= Duration::from_millis(100), "it had its grace");
            assert!(!waiting(&db).await.is_empty(), "what is not shipped waits");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backlog_and_its_age_are_told() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let (outbox, collector) = (outbox(1_000), Played::new());
        record(&db, &outbox, 0..12).await;
        collector.play_for_ever(Some(Act::Down(None)));
        let metrics = Metrics::default();
        let clock = crate::scene::clock();
        clock.advance(Duration::from_secs(90));
        let source = legate_outbox::DbSource::new(db.clone());
        let shipper = legate_outbox::ship(source, collector.clone(), pace(), clock, metrics.clone());
        collector.was_offered(2).await;
        assert_eq!((metrics.backlog(), metrics.oldest()), (12, Duration::from_secs(90)));

        collector.play_for_ever(None);
        collector.holds(12).await;
        is_empty(&db).await;
        shipper.stop(Duration::from_secs(5)).await;
        assert_eq!((metrics.backlog(), metrics.oldest()), (0, Duration::ZERO));
        let mut registry = Registry::with_prefix("legate");
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("legate_outbox_shipped_total 12\n"), "{text}");
        let failures = text.lines().find_map(|l| l.strip_prefix("legate_outbox_failures_total ")).unwrap();
        assert!(failures.parse::<u64>().unwrap() >= 1, "{text}");
        assert!(
            text.contains("legate_outbox_backlog 0\n") && text.contains("legate_outbox_oldest_seconds 0"),
            "{text}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emitter_that_tells_nothing_tells_each_minute_that_it_lives() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let (clock, collector) = (crate::scene::clock(), Played::new());
        let source = legate_outbox::DbSource::new(db.clone()).with_heartbeats(outbox(100), "here:7103".into());
        let shipper = legate_outbox::ship(source, collector.clone(), pace(), clock.clone(), Metrics::default());
        for beats in 1..=3 {
            // A minute that passes before the shipper has begun, or noted what it told, is not heard.
            while collector.log().len() < beats {
                clock.advance(Duration::from_secs(60));
                let _held = tokio::time::timeout(Duration::from_millis(500), collector.holds(beats)).await;
            }
        }
        let beaten = collector.log().len();
        deed(&db, &outbox(100), "deed", false).await.unwrap();
        collector.holds(beaten + 1).await;
        shipper.stop(Duration::from_secs(20)).await;
        collector.verify();
        let log = collector.log();
        let kinds: Vec<&str> = log.iter().map(|event| event.r#type.as_str()).collect();
        // Whoever is stopped says that it leaves, and that reaches the log as well.
        let [beats @ .., done, left] = kinds.as_slice() else { panic!("{kinds:?}") };
        assert!((*done, *left) == ("test.done", legate_outbox::LEFT), "{kinds:?}");
        assert!(beats.len() >= 3 && beats.iter().all(|kind| *kind == legate_outbox::HEARTBEAT), "{kinds:?}");
        let of_itself = log.iter().filter(|event| event.r#type != "test.done");
        assert!(
            of_itself.clone().count() >= 4 && of_itself.clone().all(|event| event.details["replica"] == "here:7103")
        );
        assert!(log.iter().all(|event| !event.event_id.is_empty() && event.time.is_some()));
    })
    .await;
}
