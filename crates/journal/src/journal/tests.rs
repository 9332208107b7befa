//! A disk that takes writes and does not sync them: nothing more is believed of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

/// A journal whose current file takes every write and refuses every sync, as /dev/null does.
fn on_a_disk_that_does_not_sync(dir: &Path) -> Journal {
    let hour = Duration::from_secs(3_600);
    let options = Options { segment_bytes: 4_096, record_bytes: 1_024, sync_every: hour, ..Options::default() };
    let (segment, _) = Segment::create(dir, 0, options.segment_bytes).unwrap();
    let shared = Arc::new(Shared {
        dir: dir.to_owned(),
        segments: RwLock::new(vec![segment]),
        next: AtomicU64::new(0),
        readable: AtomicU64::new(0),
        synced: AtomicU64::new(0),
        pending: Mutex::default(),
        poison: RwLock::default(),
        on_reserve: AtomicBool::new(false),
        grown: tokio::sync::watch::Sender::new(0),
    });
    let file = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    let (sender, waiting) = mpsc::channel();
    let writer =
        Writer { dir: dir.to_owned(), options, shared: shared.clone(), file, buffer: Vec::new(), unsynced_since: None };
    let thread = std::thread::spawn(move || writer.run(&waiting));
    let writer = Arc::new(Handle { sender: Some(sender), thread: Some(thread) });
    Journal { shared, places: Arc::new(Semaphore::new(options.waiting)), options, writer }
}

#[tokio::test]
async fn a_sync_that_fails_between_two_segments_stops_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let journal = on_a_disk_that_does_not_sync(dir.path());
    let append = || journal.append(vec![vec![b'x'; 1_000]], Durability::Written);
    for _ in 0..4 {
        append().await.unwrap();
    }
    // The segment is full: what it holds has to be on disk before the next one begins, and cannot be put there.
    let failed = append().await;
    assert!(failed.is_err(), "{failed:?}");
    assert!(journal.poisoned().is_some(), "a failed sync is never tried again");
    assert!(matches!(append().await, Err(JournalError::Poisoned(_))));
    assert_eq!(journal.synced_index(), 0);
}

#[tokio::test]
async fn a_sync_that_fails_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let journal = on_a_disk_that_does_not_sync(dir.path());
    let failed = journal.append(vec![vec![b'x'; 1_000]], Durability::Synced).await;
    assert!(failed.is_err(), "{failed:?}");
    assert!(journal.poisoned().is_some(), "a failed sync is never tried again");
    assert_eq!(journal.synced_index(), 0);
}
