//! The spool on a real disk: epochs, ends in peace and otherwise, shipping, acknowledgement.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use futures_util::FutureExt;
use legate_clock::SystemClock;
use legate_outbox::{Batch, Source};

use super::*;

fn terms(max_bytes: u64) -> Terms {
    Terms {
        emitter: "spiffe://example.org/legate/policy-decision".into(),
        replica: "here:7102".into(),
        max_bytes,
        clock: SystemClock::shared(),
    }
}

async fn open(dir: &Path) -> (Arc<Disk>, Spool, Before) {
    let (disk, before) = Disk::open(dir).unwrap();
    let disk = Arc::new(disk);
    let spool = Spool::open(Arc::clone(&disk) as Arc<dyn Paper>, &before, terms(1 << 30)).await.unwrap();
    (disk, spool, before)
}

fn event(n: usize) -> AuditEvent {
    AuditEvent { r#type: "decision.made".into(), reason: format!("{n}"), ..AuditEvent::default() }
}

/// Everything that the source offers, acknowledged batch by batch.
async fn drain(source: &SpoolSource, most: usize) -> Vec<Batch> {
    let mut all = Vec::new();
    while let Some(batch) = source.next_batch(most, 1 << 20).await.unwrap() {
        source.acked(&batch.epoch, batch.last_seq()).await.unwrap();
        all.push(batch);
    }
    all
}

fn decode(batch: &Batch) -> Vec<AuditEvent> {
    batch.events.iter().map(|e| AuditEvent::decode(e.as_ref()).unwrap()).collect()
}

/// Waits until everything written can be shipped.
async fn on_disk(disk: &Disk) {
    disk.sync().await.unwrap();
}

#[tokio::test]
async fn a_peaceful_end_is_told_to_the_next_epoch_and_the_rest_is_shipped_under_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, spool, before) = open(dir.path()).await;
    assert_eq!(before, Before::default());
    spool.write((0..3).map(event).collect(), false).await.unwrap();
    spool.close().await;
    drop((disk, spool));

    let (disk, spool, before) = open(dir.path()).await;
    assert_eq!((before.last_seq, before.is_clean, before.torn_bytes), (5, true, 0));
    spool.write(vec![event(3)], true).await.unwrap();
    let batches = drain(&SpoolSource::new(Arc::clone(&disk)), 100).await;
    assert_eq!(batches.len(), 2, "one epoch a batch");
    assert_eq!((batches[0].epoch.clone(), batches[0].first_seq, batches[0].events.len()), (before.epoch.clone(), 1, 5));
    assert_eq!((batches[1].first_seq, batches[1].events.len()), (1, 2));
    assert_ne!(batches[1].epoch, before.epoch);
    let opened = &decode(&batches[1])[0];
    assert_eq!(opened.r#type, "spool.opened");
    assert_eq!(opened.details["previous_epoch"], before.epoch);
    assert_eq!(opened.details["previous_last_seq"], "5");
    assert_eq!(opened.details["previous_ended_clean"], "true");
    assert_eq!(disk.waiting_bytes(), 0);
}

#[tokio::test]
async fn an_end_without_peace_loses_nothing_that_was_written_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, spool, _) = open(dir.path()).await;
    spool.write((0..3).map(event).collect(), false).await.unwrap();
    drop((disk, spool));
    let (disk, _spool, before) = open(dir.path()).await;
    assert_eq!((before.last_seq, before.is_clean), (4, false));
    on_disk(&disk).await;
    let batches = drain(&SpoolSource::new(disk), 100).await;
    assert_eq!(decode(&batches[1])[0].details["previous_ended_clean"], "false");
}

#[tokio::test]
async fn many_callers_at_once_are_numbered_without_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, spool, _) = open(dir.path()).await;
    let spool = Arc::new(spool);
    let callers: Vec<_> = (0..200)
        .map(|n| {
            let spool = Arc::clone(&spool);
            tokio::spawn(async move { spool.write(vec![event(n), event(n)], n % 16 == 0).await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    on_disk(&disk).await;
    let batches = drain(&SpoolSource::new(disk), 64).await;
    let events: Vec<_> = batches.iter().flat_map(decode).collect();
    let numbers: Vec<_> = events.iter().map(|e| e.emitter.as_ref().unwrap().seq).collect();
    assert_eq!(numbers, (1..=401).collect::<Vec<_>>());
    // The two records of one caller stand side by side.
    assert!(events[1..].chunks(2).all(|pair| pair[0].reason == pair[1].reason));
    assert_eq!(batches.iter().map(|b| b.events.len()).max(), Some(64));
}

#[tokio::test]
async fn what_is_not_acknowledged_is_offered_again() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, spool, _) = open(dir.path()).await;
    spool.write((0..9).map(event).collect(), true).await.unwrap();
    let source = SpoolSource::new(Arc::clone(&disk));
    let full = disk.waiting_bytes();
    let first = source.next_batch(4, 1 << 20).await.unwrap().unwrap();
    assert_eq!((first.first_seq, first.events.len(), first.waiting), (1, 4, 10));
    // The answer was lost: the same again.
    let again = source.next_batch(4, 1 << 20).await.unwrap().unwrap();
    assert_eq!(again.events, first.events);
    // Half of it was taken.
    source.acked(&first.epoch, 2).await.unwrap();
    let rest = source.next_batch(100, 1 << 20).await.unwrap().unwrap();
    assert_eq!((rest.first_seq, rest.events.len()), (3, 8));
    assert!(disk.waiting_bytes() < full);
    // Another epoch's number, an old number and one too far let nothing else go.
    source.acked("other", 9).await.unwrap();
    source.acked(&rest.epoch, 1).await.unwrap();
    let same = source.next_batch(100, 1 << 20).await.unwrap().unwrap();
    assert_eq!(same.first_seq, 3);
    source.acked(&rest.epoch, 1_000).await.unwrap();
    assert!(source.next_batch(100, 1 << 20).await.unwrap().is_none());
    assert_eq!(disk.waiting_bytes(), 0);
}

#[tokio::test]
async fn a_caller_that_left_leaves_no_record() {
    let paper = crate::testing::TestPaper::new();
    let spool = Spool::open(Arc::clone(&paper) as Arc<dyn Paper>, &Before::default(), terms(1 << 20)).await.unwrap();
    let mut leaving = Box::pin(spool.write(vec![event(1)], false));
    // Queued, and dropped before the writer ran.
    assert!(leaving.as_mut().now_or_never().is_none());
    drop(leaving);
    spool.write(vec![event(2)], false).await.unwrap();
    let reasons: Vec<_> = paper.events().into_iter().map(|e| e.reason).collect();
    assert_eq!(reasons, ["", "2"]);
}

#[tokio::test]
async fn a_full_spool_refuses_until_the_collector_took_something() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, before) = Disk::open(dir.path()).unwrap();
    let disk = Arc::new(disk);
    let spool = Spool::open(Arc::clone(&disk) as Arc<dyn Paper>, &before, terms(2_000)).await.unwrap();
    let mut written = 0;
    while spool.write(vec![event(written)], true).await.is_ok() {
        written += 1;
        assert!(written < 100);
    }
    assert_eq!(spool.write(vec![event(0)], false).await, Err(NotRecorded::Full));
    drain(&SpoolSource::new(disk), 100).await;
    assert_eq!(spool.write(vec![event(0)], false).await, Ok(()));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Takes everything that is offered, as the collector does: what it has is known by its number alone.
async fn take_all(log: &mut BTreeMap<String, Vec<AuditEvent>>, source: &SpoolSource) {
    while let Some(batch) = source.next_batch(7, 1 << 20).await.unwrap() {
        let its = log.entry(batch.epoch.clone()).or_default();
        let known = (its.len() + 1).checked_sub(usize::try_from(batch.first_seq).unwrap()).expect("no gap");
        its.extend(decode(&batch).into_iter().skip(known));
        source.acked(&batch.epoch, its.len() as u64).await.unwrap();
    }
}

#[tokio::test]
async fn a_restored_directory_that_grows_past_what_the_log_has_loses_nothing() {
    let (dir, snapshot) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut log = BTreeMap::new();
    // Ten, a copy beneath the running service, and ten more of the same epoch; the log has all of them.
    let (disk, spool, _) = open(dir.path()).await;
    spool.write((0..10).map(event).collect(), true).await.unwrap();
    copy(dir.path(), snapshot.path());
    spool.write((10..20).map(event).collect(), true).await.unwrap();
    take_all(&mut log, &SpoolSource::new(Arc::clone(&disk))).await;
    drop((disk, spool));
    // The copy is put back, and fifteen are written before the log is reached.
    let (disk, spool, before) = open(snapshot.path()).await;
    assert_eq!(before.last_seq, 11, "spool.opened and ten");
    spool.write((20..35).map(event).collect(), true).await.unwrap();
    take_all(&mut log, &SpoolSource::new(Arc::clone(&disk))).await;
    assert_eq!(disk.waiting_bytes(), 0);
    let told: Vec<String> = log.values().flatten().map(|event| event.reason.clone()).collect();
    for n in 0..35 {
        assert_eq!(told.iter().filter(|one| **one == n.to_string()).count(), 1, "{n}");
    }
}

#[tokio::test]
async fn a_heartbeat_is_an_event_like_others_and_none_stands_behind_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, spool, _) = open(dir.path()).await;
    let spool = Arc::new(spool);
    let source = SpoolSource::new(Arc::clone(&disk)).with_heartbeats(Arc::clone(&spool));
    source.beat().await.unwrap();
    spool.close().await;
    source.beat().await.unwrap();
    assert_eq!(spool.write(vec![event(1)], false).await, Err(NotRecorded::Closed));
    spool.close().await;
    on_disk(&disk).await;
    let told: Vec<AuditEvent> = drain(&source, 10).await.iter().flat_map(decode).collect();
    let kinds: Vec<&str> = told.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(kinds, ["spool.opened", legate_outbox::HEARTBEAT, "spool.closed"]);
    assert!(told[1].time.is_some());
    assert!(told.iter().all(|event| event.details[legate_outbox::REPLICA] == "here:7102"), "{told:?}");
    SpoolSource::new(disk).beat().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_told_while_it_ends_stands_before_the_end_or_nowhere() {
    for _ in 0..200 {
        let paper = crate::testing::TestPaper::new();
        let before = Before::default();
        let opening = Spool::open(Arc::clone(&paper) as Arc<dyn Paper>, &before, terms(1 << 20));
        let spool = Arc::new(opening.await.unwrap());
        let beating = Arc::clone(&spool);
        let beats = tokio::spawn(async move {
            // Until it has ended: a beat that is told nowhere is none that failed.
            while !*beating.is_closed.read() {
                beating.beat().await.unwrap();
            }
            beating.beat().await.unwrap();
        });
        spool.close().await;
        beats.await.unwrap();
        let kinds: Vec<String> = paper.events().into_iter().map(|event| event.r#type).collect();
        assert_eq!(kinds.iter().position(|kind| kind == "spool.closed"), Some(kinds.len() - 1), "{kinds:?}");
    }
}

#[tokio::test]
async fn what_the_log_has_other_events_for_goes_on_in_another_epoch_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, spool, _) = open(dir.path()).await;
    let spool = Arc::new(spool);
    let source = SpoolSource::new(Arc::clone(&disk)).with_heartbeats(Arc::clone(&spool));
    spool.write((0..3).map(event).collect(), true).await.unwrap();
    let taken = source.next_batch(100, 1 << 20).await.unwrap().unwrap();
    source.acked(&taken.epoch, 4).await.unwrap();
    // The machine is set back to this moment: of what it told since the log has other events, and refuses these.
    spool.write((10..13).map(event).collect(), true).await.unwrap();
    let refused = source.next_batch(100, 1 << 20).await.unwrap().unwrap();
    assert_eq!((refused.epoch.as_str(), refused.first_seq), (taken.epoch.as_str(), 5));
    source.differs("another epoch").await.unwrap();
    assert_eq!(source.next_batch(100, 1 << 20).await.unwrap().unwrap().events, refused.events);
    source.differs(&refused.epoch).await.unwrap();
    let again = source.next_batch(2, 1 << 20).await.unwrap().unwrap();
    assert!(again.epoch != taken.epoch && again.first_seq == 1 && again.waiting == 3, "{again:?}");
    let told = decode(&again);
    let kinds: Vec<&str> = told.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(kinds, ["spool.opened", "decision.made", "decision.made"]);
    assert_eq!(
        (told[0].details["previous_epoch"].as_str(), told[0].details["previous_last_seq"].as_str()),
        (taken.epoch.as_str(), "4")
    );
    assert_eq!(told[0].details[legate_outbox::REPLICA], "here:7102");
    for (event, seq) in told.iter().zip(1..) {
        let emitter = event.emitter.as_ref().unwrap();
        assert_eq!((emitter.epoch.as_str(), emitter.seq), (again.epoch.as_str(), seq));
        assert!(!event.event_id.is_empty() && emitter.spiffe_id.ends_with("policy-decision"));
    }
    assert_eq!(told[1].reason, "10");
    // A part of it is taken, and what comes is told behind it.
    source.acked(&again.epoch, 2).await.unwrap();
    spool.write(vec![event(13)], true).await.unwrap();
    let rest = source.next_batch(100, 1 << 20).await.unwrap().unwrap();
    let reasons: Vec<String> = decode(&rest).into_iter().map(|event| event.reason).collect();
    assert_eq!((rest.first_seq, reasons), (3, vec!["11".to_owned(), "12".into(), "13".into()]));
    // Of these as well the log turns out to have others: it has more than was ever given.
    assert!(source.acked(&rest.epoch, 900).await.unwrap_err().0.contains("which this spool never gave"));
    source.acked(&rest.epoch, 900).await.unwrap();
    let third = source.next_batch(100, 1 << 20).await.unwrap().unwrap();
    assert_eq!((third.first_seq, decode(&third)[0].details["previous_last_seq"].as_str()), (1, "2"));
    drop((source, disk, spool));

    let (disk, spool, before) = open(dir.path()).await;
    assert_eq!((&before.epoch, before.last_seq), (&third.epoch, 4), "what ended is the epoch that it was told in");
    let source = SpoolSource::new(Arc::clone(&disk)).with_heartbeats(Arc::new(spool));
    let batches = drain(&source, 100).await;
    let epochs: Vec<(&str, u64, usize)> =
        batches.iter().map(|batch| (batch.epoch.as_str(), batch.first_seq, batch.events.len())).collect();
    assert_eq!(epochs[..3], [(&*taken.epoch, 1, 4), (&*again.epoch, 1, 2), (&*third.epoch, 1, 4)]);
    assert_eq!((batches[0].events.clone(), batches[2].events.clone()), (taken.events, third.events));
    let opened = &decode(&batches[3])[0];
    assert_eq!((&opened.details["previous_epoch"], disk.waiting_bytes()), (&third.epoch, 0));
    // What nothing is kept of any more is forgotten.
    let files = || std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap).map(|one| one.path());
    let renumbered = || files().filter(|path| path.extension().is_some_and(|ending| ending == "renumbered")).count();
    assert_eq!(renumbered(), 2);
    renumbered::Renumberings::open(dir.path()).unwrap().forget_all_but(std::collections::BTreeSet::new());
    assert_eq!(renumbered(), 0);
}
