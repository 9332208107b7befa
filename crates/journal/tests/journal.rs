//! A journal over real files: what was answered is there again, whatever happened to the tail.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use legate_journal::{Durability, Journal, JournalError, Options};
use proptest::prelude::*;

fn small() -> Options {
    Options { segment_bytes: 4_096, record_bytes: 1_024, reserve_bytes: 4_096, ..Options::default() }
}

fn payload(i: u64) -> Vec<u8> {
    format!("record {i} {}", "x".repeat(usize::try_from(i % 97).unwrap())).into_bytes()
}

fn last_segment(dir: &Path) -> PathBuf {
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|p| p.extension().is_some_and(|e| e == "seg"));
    all.sort();
    all.pop().unwrap()
}

async fn fill(journal: &Journal, range: std::ops::Range<u64>) {
    for i in range {
        let at = journal.append(vec![payload(i)], Durability::Written).await.unwrap();
        assert_eq!(at, i);
    }
}

fn all(journal: &Journal) -> Vec<(u64, Vec<u8>)> {
    let mut out = Vec::new();
    loop {
        let from = out.last().map_or(journal.first_index(), |(i, _)| i + 1);
        let more = journal.read(from, 33, 2_000).unwrap();
        if more.is_empty() {
            return out;
        }
        out.extend(more);
    }
}

#[tokio::test]
async fn records_outlive_a_reopening_and_roll_over_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, found) = Journal::open(dir.path(), small()).unwrap();
    assert_eq!(found.records, 0);
    fill(&journal, 0..500).await;
    drop(journal);
    let (journal, found) = Journal::open(dir.path(), small()).unwrap();
    assert_eq!((found.records, found.torn_bytes), (500, 0));
    fill(&journal, 500..600).await;
    let read = all(&journal);
    assert_eq!(read.len(), 600);
    assert!(read.iter().all(|(i, p)| *p == payload(*i)));
    journal.drop_below(300).unwrap();
    assert!(journal.first_index() > 0 && journal.first_index() <= 300);
    assert_eq!(all(&journal).last().unwrap().0, 599);
}

#[tokio::test]
async fn many_appenders_share_syncs_and_each_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), small()).unwrap();
    let tasks: Vec<_> = (0..32u64)
        .map(|t| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for n in 0..20u64 {
                    let batch = vec![format!("{t}:{n}:a").into_bytes(), format!("{t}:{n}:b").into_bytes()];
                    mine.push((n, journal.append(batch, Durability::Synced).await.unwrap()));
                }
                (t, mine)
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    let read = all(&journal);
    assert_eq!(read.len(), 32 * 20 * 2);
    assert_eq!(journal.synced_index(), 32 * 20 * 2);
    for (t, mine) in answers {
        for (n, first) in mine {
            let at = usize::try_from(first).unwrap();
            assert_eq!(read[at].1, format!("{t}:{n}:a").into_bytes());
            assert_eq!(read[at + 1].1, format!("{t}:{n}:b").into_bytes());
        }
    }
}

#[tokio::test]
async fn damage_before_the_end_is_refused_and_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), small()).unwrap();
    fill(&journal, 0..500).await;
    drop(journal);
    let first = dir.path().join(format!("{:020}.seg", 0));
    std::fs::OpenOptions::new().write(true).open(first).unwrap().write_all_at(b"!", 200).unwrap();
    assert!(matches!(Journal::open(dir.path(), small()), Err(JournalError::Damaged { .. })));
}

#[tokio::test]
async fn a_record_of_the_wrong_size_is_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), small()).unwrap();
    for bad in [vec![], vec![0; 1_025]] {
        let refused = journal.append(vec![bad], Durability::Written).await;
        assert!(matches!(refused, Err(JournalError::Size { .. })));
    }
    fill(&journal, 0..1).await;
}

#[tokio::test]
async fn a_journal_that_lost_what_was_acknowledged_is_not_opened_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), small()).unwrap();
    fill(&journal, 0..20).await;
    drop(journal);
    let file = last_segment(dir.path());
    let mut bytes = std::fs::read(&file).unwrap();
    let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    bytes[used - 1] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let refused = Journal::open(dir.path(), Options { at_least: 20, ..small() });
    assert!(matches!(refused, Err(JournalError::Short { found: 19, wanted: 20, .. })));
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    let (journal, found) = Journal::open(dir.path(), Options { at_least: 19, ..small() }).unwrap();
    assert_eq!(journal.next_index(), 19);
    assert!(found.torn_bytes > 0);
}

#[tokio::test]
async fn a_segment_that_was_being_made_when_the_process_died_is_no_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), small()).unwrap();
    fill(&journal, 0..20).await;
    drop(journal);
    // Made and not yet begun: without room, and with room that nothing was written to.
    for bytes in [0, 4_096] {
        std::fs::write(dir.path().join(format!("{:020}.seg", 20)), vec![0; bytes]).unwrap();
        let (journal, found) = Journal::open(dir.path(), small()).unwrap();
        assert_eq!((journal.next_index(), found.torn_bytes), (20, 0));
    }
    let (journal, _) = Journal::open(dir.path(), small()).unwrap();
    fill(&journal, 20..40).await;
    assert_eq!(all(&journal).len(), 40);
}

#[tokio::test]
async fn what_lies_behind_a_lost_record_never_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), small()).unwrap();
    let one = |text: &str| vec![text.as_bytes().to_vec()];
    for text in ["aaaa", "bbbb", "cccc"] {
        journal.append(one(text), Durability::Written).await.unwrap();
    }
    drop(journal);
    // The power went: the disk has the third record and not the second.
    let file = last_segment(dir.path());
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().write_all_at(&[0; 12], 28).unwrap();
    let (journal, found) = Journal::open(dir.path(), small()).unwrap();
    assert_eq!(found.records, 1);
    assert!(found.torn_bytes > 0, "what lies behind is kept beside and cut off");
    let kept = file.with_extension("torn");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&kept).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it is as private as the journal");
    journal.append(one("BBBB"), Durability::Synced).await.unwrap();
    drop(journal);
    let (journal, _) = Journal::open(dir.path(), small()).unwrap();
    assert_eq!(all(&journal), [(0, b"aaaa".to_vec()), (1, b"BBBB".to_vec())]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Wherever reading begins and however little is wanted, what comes is what was written there, in order, and something does.
    #[test]
    fn what_is_read_anywhere_is_what_was_written_there(
        count in 1u64..300,
        places in prop::collection::vec((any::<prop::sample::Index>(), 1usize..70, 1usize..4_000), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (journal, _) = Journal::open(dir.path(), small()).unwrap();
            fill(&journal, 0..count).await;
            for (from, most, bytes) in places {
                let from = from.index(usize::try_from(count).unwrap()) as u64;
                let read = journal.read(from, most, bytes).unwrap();
                assert!(!read.is_empty() && read.len() <= most);
                assert!((from..).zip(&read).all(|(i, (at, written))| *at == i && *written == payload(i)));
                let before_last: usize = read[..read.len() - 1].iter().map(|(_, written)| written.len()).sum();
                assert!(before_last < 2 * bytes + 110, "of each of two segments so much and the record that goes beyond");
            }
            assert!(journal.read(count, 5, 100).unwrap().is_empty());
        });
    }

    /// Any cut of the last segment leaves exactly the records before it, and the journal goes on from there.
    #[test]
    fn a_torn_tail_is_cut_to_the_last_whole_record(count in 1u64..60, cut in any::<prop::sample::Index>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (journal, _) = Journal::open(dir.path(), small()).unwrap();
            fill(&journal, 0..count).await;
            drop(journal);
            let file = last_segment(dir.path());
            let bytes = std::fs::read(&file).unwrap();
            let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
            let cut = 16 + cut.index(used - 16);
            std::fs::write(&file, &bytes[..cut]).unwrap();

            let (journal, found) = Journal::open(dir.path(), small()).unwrap();
            let kept = journal.next_index();
            assert!(kept <= count && found.records == kept);
            let read = all(&journal);
            assert!(read.iter().enumerate().all(|(n, (i, p))| *i == n as u64 && *p == payload(*i)));
            fill(&journal, kept..kept + 3).await;
            assert_eq!(all(&journal).len() as u64, kept + 3);
        });
    }
}
