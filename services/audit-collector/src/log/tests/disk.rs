//! A full disk, where `LEGATE_TEST_SMALL_DISK` names an empty directory on a file system of its own of about 64 MiB, as `.ci/run` makes one.

use std::path::Path;
use std::time::Duration;

use super::scene::{append, audit, open, own, producer, setup};
use crate::log::{Log, NotAppended};

/// Writes a file until there is no room left.
fn stuff(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![1; 64 << 10];
    while file.write_all(&block).is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_events_says_so_on_record_and_goes_on_by_itself() {
    let Ok(disk) = std::env::var("LEGATE_TEST_SMALL_DISK") else { return };
    let disk = Path::new(&disk);
    let dir = disk.join("log");
    std::fs::create_dir(&dir).unwrap();
    let mut small = setup(&dir);
    small.segment_bytes = 8 << 20;
    // Nothing but the log's own files decides when it is full.
    small.checkpoint_every = Duration::from_millis(100);
    let (log, tasks, _) = Log::open(small, None).await.unwrap();
    let me = producer("registry", "e1");
    append(&log, &me, 1, 10).await.unwrap();
    stuff(&disk.join("stuffing"));
    let mut next = 11;
    let refused = loop {
        match append(&log, &me, next, 1_000).await {
            Ok(told) => next = told.acked_seq + 1,
            Err(refused) => break refused,
        }
        assert!(next < 1_000_000, "the disk does not fill");
    };
    assert_eq!(refused, NotAppended::Full);
    // What is known is acknowledged on a full disk too.
    assert_eq!(append(&log, &me, 1, 10).await.unwrap().appended, 0);
    assert!(log.is_full() && log.why_stopped().is_none());
    assert_eq!(own(&log).pop().unwrap().r#type, "log.storage_full");

    std::fs::remove_file(disk.join("stuffing")).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match append(&log, &me, next, 10).await {
            Ok(_) => break,
            Err(refused) => {
                assert!(refused == NotAppended::Full && tokio::time::Instant::now() < deadline, "{refused}")
            }
        }
        tokio::task::yield_now().await;
    }
    assert!(own(&log).iter().any(|e| e.r#type == "log.storage_recovered"));
    tasks.close().await;
    assert_eq!(audit(&dir, None).unwrap().entries, log.size());
    drop(log);
    let (log, tasks) = open(&dir).await;
    assert_eq!(append(&log, &me, next, 10).await.unwrap().appended, 0);
    tasks.close().await;
}
