//! Recording: numbers without gaps, the event and the change together or not at all, and the bounds.

use futures_util::future::join_all;
use legate_clock::Timestamp;
use legate_db::testing::{Fixture, on_each};
use legate_db::{Fault as Planned, TxError};
use legate_ids::EventId;
use legate_outbox::{DbSource, Source as _, Standard};
use legate_rpc::{Fault, Told};
use legate_wire::audit::AuditEvent;

use crate::scene::{EMITTER, Schema, deed, deed_as, deeds, event, names, numbers, outbox, waiting};

fn told(error: TxError<Fault>) -> Told {
    match error {
        TxError::Flow(fault) => Told::from_status(&fault.into()),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_have_no_gaps_however_many_record_and_give_up() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let outbox = outbox(10_000);
        let all = join_all((0..150).map(|n| {
            let (db, outbox) = (&db, &outbox);
            async move { (n, deed(db, outbox, &format!("deed-{n:03}"), n % 3 == 0).await) }
        }))
        .await;
        let mut given = Vec::new();
        for (n, end) in all {
            assert_eq!(end.is_ok(), n % 3 != 0, "{n}: {end:?}");
            given.extend(end);
        }
        given.sort_unstable();
        assert_eq!(given, (1..=100).collect::<Vec<u64>>(), "each caller was told its own number");

        let events = waiting(&db).await;
        assert_eq!(numbers(&events), given);
        let mut recorded = names(&events);
        recorded.sort_unstable();
        assert_eq!(recorded, deeds(&db).await, "exactly the deeds that were kept");
        let first = events[0].emitter.as_ref().unwrap();
        assert!(events.iter().all(|e| {
            let emitter = e.emitter.as_ref().unwrap();
            emitter.spiffe_id == EMITTER && emitter.epoch == first.epoch && !first.epoch.is_empty()
        }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_leaves_no_gap() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let outbox = outbox(10_000);
        for n in 0..40 {
            let name = format!("deed-{n:02}");
            // Dropped at some step of it, which differs from run to run: it committed or it did not.
            let mut step = Box::pin(deed(&db, &outbox, &name, false));
            for _ in 0..n {
                if futures_util::poll!(&mut step).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        deed(&db, &outbox, "last", false).await.unwrap();
        let events = waiting(&db).await;
        assert_eq!(numbers(&events), (1..=events.len() as u64).collect::<Vec<_>>());
        let mut recorded = names(&events);
        assert_eq!(recorded.last().map(String::as_str), Some("last"));
        recorded.sort_unstable();
        assert_eq!(recorded, deeds(&db).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_event_commits_with_the_change_or_not_at_all() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let outbox = outbox(10_000);
        db.faults().plan("deed", Planned::NotPersisted);
        let lost = deed(&db, &outbox, "lost", false).await;
        assert!(matches!(lost, Err(TxError::Unavailable(_))), "{lost:?}");
        assert_eq!((deeds(&db).await.len(), waiting(&db).await.len()), (0, 0));

        db.faults().plan("deed", Planned::PersistedButReplyLost);
        let kept = deed(&db, &outbox, "kept", false).await;
        assert!(matches!(kept, Err(TxError::Unavailable(_))), "{kept:?}");
        assert_eq!((deeds(&db).await, names(&waiting(&db).await)), (vec!["kept".into()], vec!["kept".into()]));

        // The number that was given to nobody is given again.
        assert_eq!(deed(&db, &outbox, "next", false).await.unwrap(), 2);
        // The same deed once more breaks the key: its event goes with it.
        deed(&db, &outbox, "next", false).await.unwrap_err();
        assert_eq!(names(&waiting(&db).await), deeds(&db).await);
        assert_eq!(numbers(&waiting(&db).await), [1, 2]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_outbox_refuses_and_keeps_a_reserve_for_what_stops_somebody() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let outbox = outbox(20);
        for n in 0..20 {
            deed(&db, &outbox, &format!("deed-{n:02}"), false).await.unwrap();
        }
        let refused = told(deed(&db, &outbox, "too-many", false).await.unwrap_err());
        assert_eq!(refused.reason, "AUDIT_UNAVAILABLE");
        assert_eq!(refused.code, legate_rpc::Code::Unavailable);
        assert!(refused.retry_after.is_some() && refused.message.contains("20 audit events"), "{refused:?}");

        // A tenth of 20, and one.
        for n in 0..3 {
            deed_as(&db, &outbox, Standard::Stopping, &format!("stop-{n}"), false).await.unwrap();
            assert!(deed(&db, &outbox, "too-many", false).await.is_err(), "the reserve is not for everybody");
        }
        let refused = told(deed_as(&db, &outbox, Standard::Stopping, "stop-3", false).await.unwrap_err());
        assert_eq!(refused.reason, "AUDIT_UNAVAILABLE");
        assert_eq!(deeds(&db).await.len(), 23, "what was refused was not done");

        // Room is made by an acknowledgement, and by nothing else.
        let source = DbSource::new(db.clone());
        let batch = source.next_batch(100, usize::MAX).await.unwrap().unwrap();
        assert_eq!((batch.waiting, batch.events.len()), (23, 23));
        source.acked(&batch.epoch, 4).await.unwrap();
        assert_eq!(deed(&db, &outbox, "fits", false).await.unwrap(), 24);
        deed(&db, &outbox, "too-many", false).await.unwrap_err();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_collector_would_not_take_is_not_recorded() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let outbox = outbox(10);
        for (length, fits) in [(60 * 1_024, false), (60 * 1_024 - 300, true), (1 << 20, false)] {
            let outbox = outbox.clone();
            let end = db.tx::<_, Fault, _>("large", move |tx| {
                let outbox = outbox.clone();
                Box::pin(async move {
                    let large = AuditEvent { reason: "x".repeat(length), ..event("") };
                    Ok(outbox.record(tx, Standard::Ordinary, large).await?)
                })
            });
            match end.await {
                Ok(seq) => assert!(fits && seq == 1, "{length}"),
                // A defect of the service, so the caller learns an incident and no more.
                Err(TxError::Flow(fault)) => assert!(!fits && fault.reason() == "INTERNAL", "{fault}"),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(waiting(&db).await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_said_is_filled_in_and_what_is_said_stays() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let outbox = outbox(10);
        let id = EventId::from_parts(7, [7; 10]).to_string();
        let time = Some(Timestamp::from_secs(5).into());
        let mine = AuditEvent { event_id: id.clone(), time, ..event("mine") };
        for event in [event("bare"), mine] {
            let outbox = outbox.clone();
            let done = db.tx::<_, Fault, _>("record", move |tx| {
                let (outbox, event) = (outbox.clone(), event.clone());
                Box::pin(async move { Ok(outbox.record(tx, Standard::Ordinary, event).await?) })
            });
            done.await.unwrap();
        }
        let events = waiting(&db).await;
        EventId::parse(&events[0].event_id).unwrap();
        assert_eq!(events[0].time.as_ref().unwrap().seconds, 1_800_000_000);
        assert_eq!((&events[1].event_id, events[1].time.as_ref().unwrap().seconds), (&id, 5));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_are_numbered_as_if_one_by_one_and_whoever_can_wait_leaves_half() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let outbox = outbox(600);
        let record = async |standard, count: usize| {
            let outbox = outbox.clone();
            let done = db.tx::<_, Fault, _>("record", move |tx| {
                let outbox = outbox.clone();
                let events = (0..count).map(|n| event(&format!("event-{n}"))).collect();
                Box::pin(async move { Ok(outbox.record_all(tx, standard, events).await?) })
            });
            done.await.map_err(|e| told(e).reason)
        };
        assert_eq!(record(Standard::Patient, 0).await, Ok(0));
        assert_eq!(record(Standard::Patient, 290).await, Ok(290));
        // All of them, or none.
        assert_eq!(record(Standard::Patient, 11).await, Err("AUDIT_UNAVAILABLE".to_owned()));
        assert_eq!(record(Standard::Patient, 10).await, Ok(300));
        assert_eq!(record(Standard::Patient, 1).await, Err("AUDIT_UNAVAILABLE".to_owned()));
        assert_eq!(record(Standard::Ordinary, 300).await, Ok(600));
        assert_eq!(record(Standard::Ordinary, 1).await, Err("AUDIT_UNAVAILABLE".to_owned()));
        assert_eq!(record(Standard::Stopping, 61).await, Ok(661));
        assert_eq!(numbers(&waiting(&db).await), (1..=661).collect::<Vec<u64>>());
    })
    .await;
}
