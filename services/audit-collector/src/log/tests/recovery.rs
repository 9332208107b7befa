//! What a crash, a thief or a careless restore leaves behind: recovered where nothing is lost, refused where something is.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use legate_merkle::WalkError;

use super::scene::{
    ORIGIN, all, append, audit, checkpoint, copy, open, own, producer, refusal, segments, setup, until_published,
};
use crate::log::Log;
use crate::log::recover::LogError;

fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1)
}

fn flip(path: &Path, at: usize) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], at as u64).unwrap();
}

/// A log of some hundred events over several segments, published and closed.
async fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (log, tasks) = open(dir.path()).await;
    for round in 0..8 {
        append(&log, &producer("registry", "e1"), 1 + round * 100, 100).await.unwrap();
    }
    until_published(&log).await;
    tasks.close().await;
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_cut_at_any_byte_is_cut_to_whole_events_and_nothing_before_it_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (log, tasks) = open(dir.path()).await;
    let me = producer("registry", "e1");
    append(&log, &me, 1, 4).await.unwrap();
    until_published(&log).await;
    let before = copy(dir.path());
    let (size, root) = (log.size(), checkpoint(before.path()));
    append(&log, &me, 5, 3).await.unwrap();
    let whole = std::fs::read(segments(dir.path()).pop().unwrap()).unwrap();
    tasks.close().await;
    drop(log);
    let segment = segments(before.path()).pop().unwrap();
    let start = used(&std::fs::read(&segment).unwrap());
    let end = used(&whole);
    let mut kept = size;
    for cut in start..=end {
        let dir = copy(before.path());
        let mut torn = whole[..cut].to_vec();
        torn.resize(whole.len(), 0);
        std::fs::write(segments(dir.path()).pop().unwrap(), torn).unwrap();
        let (log, tasks, found) = Log::open(setup(dir.path()), None).await.unwrap();
        assert!(found.leaves >= kept && found.leaves <= size + 3, "{cut}");
        kept = found.leaves;
        // The emitter offers everything that was not acknowledged once more.
        append(&log, &me, 5, 3).await.unwrap();
        let seqs: Vec<u64> = all(&log).into_iter().filter(|(p, _)| *p == me).map(|(_, seq)| seq).collect();
        assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7], "{cut}");
        let recovered = own(&log).pop().unwrap();
        assert_eq!(recovered.r#type, "log.recovered");
        assert_eq!(recovered.details["torn_bytes"], found.torn_bytes.to_string());
        tasks.close().await;
        assert_eq!(audit(dir.path(), Some(&root)).unwrap().continues, Some(size), "{cut}");
    }
    assert_eq!(kept, size + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ends_of_runs_are_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let (log, tasks) = open(dir.path()).await;
    until_published(&log).await;
    tasks.close().await;
    drop(log);
    let (log, tasks) = open(dir.path()).await;
    append(&log, &producer("registry", "e1"), 1, 1).await.unwrap();
    let killed = copy(dir.path());
    tasks.close().await;
    let (log, tasks) = open(killed.path()).await;
    append(&log, &producer("registry", "e1"), 2, 1).await.unwrap();
    let kinds: Vec<String> = own(&log).into_iter().map(|e| e.r#type).collect();
    assert_eq!(kinds, ["log.opened", "log.closed", "log.opened", "log.recovered"]);
    tasks.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_acknowledged_events_is_refused_and_not_touched() {
    let good = filled().await;
    let size = checkpoint(good.path()).size;

    // The last event's bytes are damaged: to the journal it looks torn.
    let dir = copy(good.path());
    let last = segments(dir.path()).pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    flip(&last, used(&bytes) - 1);
    let damaged = std::fs::read(&last).unwrap();
    let refused = refusal(dir.path()).await;
    assert!(matches!(refused, LogError::Shorter { found, wanted } if found < wanted && wanted == size), "{refused}");
    assert_eq!(std::fs::read(&last).unwrap(), damaged);

    // A whole segment is gone.
    let dir = copy(good.path());
    assert!(segments(dir.path()).len() > 1);
    std::fs::remove_file(segments(dir.path()).pop().unwrap()).unwrap();
    assert!(matches!(refusal(dir.path()).await, LogError::Shorter { .. }));

    // All of them, and the mark as well: the checkpoint still knows.
    let dir = copy(good.path());
    std::fs::remove_dir_all(dir.path().join("segments")).unwrap();
    std::fs::remove_file(dir.path().join("acked")).unwrap();
    assert!(matches!(refusal(dir.path()).await, LogError::Shorter { found: 0, wanted } if wanted == size));

    // An event in the middle is damaged.
    let dir = copy(good.path());
    flip(&segments(dir.path())[0], 300);
    assert!(matches!(refusal(dir.path()).await, LogError::Journal(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_rewritten_with_its_checksum_is_named() {
    let good = filled().await;
    let dir = copy(good.path());
    // What somebody does who knows the format: one event is other, and its checksum right.
    let path = segments(dir.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let mut at = 16;
    for _ in 0..7 {
        at += 8 + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    }
    let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let told = bytes[at + 8..at + 8 + length].windows(4).position(|w| w == b"told").unwrap();
    bytes[at + 8 + told] = b'T';
    let sum = crc32c_of(7, &bytes[at + 8..at + 8 + length]);
    bytes[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let refused = refusal(dir.path()).await;
    assert!(matches!(refused, LogError::Leaf(7)), "{refused}");
    // And with its tiles made new, the signed root still does not fit.
    std::fs::remove_dir_all(dir.path().join("tile")).unwrap();
    let refused = refusal(dir.path()).await;
    assert!(matches!(refused, LogError::Root(_)), "{refused}");
}

/// CRC-32C over the index and the payload, bit by bit.
fn crc32c_of(index: u64, payload: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in index.to_le_bytes().iter().chain(payload) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_checkpoints_and_names_that_do_not_belong_to_it_are_refused() {
    let good = filled().await;
    let dir = copy(good.path());
    std::fs::remove_file(dir.path().join("checkpoint")).unwrap();
    assert!(matches!(refusal(dir.path()).await, LogError::CheckpointGone));

    let dir = copy(good.path());
    std::fs::remove_file(dir.path().join("log.key")).unwrap();
    assert!(matches!(refusal(dir.path()).await, LogError::Key { .. }));

    let dir = copy(good.path());
    flip(&dir.path().join("checkpoint"), ORIGIN.len() + 8);
    assert!(matches!(refusal(dir.path()).await, LogError::Checkpoint(_)));

    let dir = copy(good.path());
    let other = filled().await;
    std::fs::copy(other.path().join("checkpoint"), dir.path().join("checkpoint")).unwrap();
    assert!(matches!(refusal(dir.path()).await, LogError::Checkpoint(_)));

    let mut renamed = setup(good.path());
    renamed.origin = "example.org/another".into();
    assert!(matches!(Log::open(renamed, None).await.unwrap_err(), LogError::Checkpoint(_)));

    let (_log, tasks) = open(good.path()).await;
    assert!(matches!(refusal(good.path()).await, LogError::Taken(_)));
    tasks.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiles_that_are_gone_or_wrong_are_made_again_from_the_segments() {
    let good = filled().await;
    let saved = checkpoint(good.path());
    let dir = copy(good.path());
    flip(&dir.path().join("tile/entries/001"), 40);
    std::fs::remove_file(dir.path().join("tile/0/002")).unwrap();
    let (log, tasks, found) = Log::open(setup(dir.path()), None).await.unwrap();
    assert_eq!(found.tiles_mended, 1);
    append(&log, &producer("registry", "e1"), 801, 1).await.unwrap();
    assert_eq!(own(&log).pop().unwrap().details["tiles_mended"], "1");
    tasks.close().await;
    drop(log);
    audit(dir.path(), Some(&saved)).unwrap();

    std::fs::remove_dir_all(dir.path().join("tile")).unwrap();
    let (_log, tasks) = open(dir.path()).await;
    tasks.close().await;
    audit(dir.path(), Some(&saved)).unwrap();
}

/// Every full tile and bundle.
fn full_tiles(dir: &Path) -> Vec<std::path::PathBuf> {
    let of = |kind: &str| std::fs::read_dir(dir.join("tile").join(kind)).unwrap().map(|entry| entry.unwrap().path());
    of("0").chain(of("entries")).filter(|path| path.is_file()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiles_that_a_power_cut_left_unwritten_are_made_again_however_many_and_others_are_not() {
    let good = filled().await;
    let saved = checkpoint(good.path());
    let tiles = full_tiles(good.path()).len();
    let bytes = |path: &std::path::PathBuf| usize::try_from(path.metadata().unwrap().len()).unwrap();
    let most = full_tiles(good.path()).iter().map(bytes).sum::<usize>();
    assert!(tiles == 6 && most > 64 << 10, "more than would be kept aside: {most}");

    let half = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let zero = |bytes: &mut Vec<u8>| bytes.fill(0);
    let end = |bytes: &mut Vec<u8>| bytes.iter_mut().skip(4_096).for_each(|byte| *byte = 0);
    let hole = |bytes: &mut Vec<u8>| bytes[512..1_024].fill(0);
    type Way<'a> = &'a dyn Fn(&mut Vec<u8>);
    let ways: [Way<'_>; 5] = [&Vec::clear, &half, &zero, &end, &hole];
    for (n, way) in ways.into_iter().enumerate() {
        let dir = copy(good.path());
        for path in full_tiles(dir.path()) {
            let mut bytes = std::fs::read(&path).unwrap();
            way(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
        }
        let (_log, tasks, found) = Log::open(setup(dir.path()), None).await.unwrap();
        assert_eq!(found.tiles_mended, tiles, "{n}");
        tasks.close().await;
        audit(dir.path(), Some(&saved)).unwrap();
    }

    // What was written and is other was not left so by a power cut. The hashes are right, so no event is to blame.
    let dir = copy(good.path());
    let mut other = 0;
    for path in full_tiles(dir.path()).into_iter().filter(|path| path.parent().unwrap().ends_with("entries")) {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[40] = if bytes[40] == 1 { 2 } else { 1 };
        std::fs::write(&path, &bytes).unwrap();
        other += bytes.len();
    }
    assert!(other > 64 << 10, "{other}");
    let before: Vec<_> = full_tiles(dir.path()).iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(matches!(refusal(dir.path()).await, LogError::Tiles));
    let after: Vec<_> = full_tiles(dir.path()).iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_auditor_who_has_only_the_directory_names_what_is_wrong() {
    let good = filled().await;
    let saved = checkpoint(good.path());
    assert_eq!(audit(good.path(), Some(&saved)).unwrap().entries, saved.size);

    let dir = copy(good.path());
    let bundle = dir.path().join("tile/entries/001");
    let bytes = std::fs::read(&bundle).unwrap();
    let at = 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]])) + 20;
    flip(&bundle, at);
    assert!(matches!(audit(dir.path(), None), Err(WalkError::Entry { index: 257, .. })));

    // The tail is cut, and the log goes on as if it had never been: only who kept a checkpoint can tell.
    let cut = tempfile::tempdir().unwrap();
    let (log, tasks) = open(cut.path()).await;
    append(&log, &producer("registry", "e1"), 1, 10).await.unwrap();
    let short = copy(cut.path());
    append(&log, &producer("registry", "e1"), 11, 10).await.unwrap();
    tasks.close().await;
    drop(log);
    let saved = checkpoint(cut.path());
    let (log, tasks) = open(short.path()).await;
    until_published(&log).await;
    assert!(matches!(audit(short.path(), Some(&saved)), Err(WalkError::Shorter { .. })));
    append(&log, &producer("registry", "e1"), 11, 20).await.unwrap();
    tasks.close().await;
    assert!(matches!(audit(short.path(), Some(&saved)), Err(WalkError::Fork { .. })));
}
