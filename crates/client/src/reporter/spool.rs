//! The reporter's disk: a journal, and beside it the name under which its records are numbered.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use legate_journal::{Durability, Journal, JournalError, Options};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::NotTold;

/// A segment can be dropped when all its records are acknowledged, so small ones free the disk sooner.
const SEGMENT: u64 = 4 << 20;

/// The name of a numbering, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Numbering {
    epoch: String,
    /// The place of the record whose number is 1.
    base: u64,
}

/// Records that wait for the log.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    journal: Journal,
    most_bytes: u64,
    numbering: Mutex<Numbering>,
    /// Everything before this place was acknowledged.
    place: AtomicU64,
    /// Bytes that wait.
    bytes: AtomicU64,
}

/// Records in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) epoch: String,
    pub(super) first_seq: u64,
    pub(super) events: Vec<Vec<u8>>,
}

fn new_epoch() -> String {
    let random: [u8; 16] = rand::random();
    random.iter().map(|b| format!("{b:02x}")).collect()
}

impl Spool {
    /// Opens the spool in `dir`. After a start everything that is kept is offered again: the log knows what it has.
    pub(super) fn open(dir: &Path, most_bytes: u64) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let options = Options { segment_bytes: SEGMENT, reserve_bytes: 64 << 10, ..Options::default() };
        let (journal, _) = Journal::open(&dir.join("records"), options).map_err(io::Error::other)?;
        let path = dir.join("numbering");
        let numbering = match std::fs::read_to_string(&path) {
            Ok(text) => read(&text).ok_or_else(|| io::Error::other(format!("{} is damaged", path.display())))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let numbering = Numbering { epoch: new_epoch(), base: journal.first_index() };
                write(&path, &numbering)?;
                numbering
            }
            Err(e) => return Err(e),
        };
        let spool = Self {
            path,
            most_bytes,
            place: AtomicU64::new(journal.first_index().max(numbering.base)),
            bytes: AtomicU64::new(0),
            numbering: Mutex::new(numbering),
            journal,
        };
        let mut at = spool.place();
        loop {
            let records = spool.journal.read(at, 4_096, 4 << 20).map_err(io::Error::other)?;
            let Some((last, _)) = records.last() else { break };
            at = last + 1;
            spool.bytes.fetch_add(records.iter().map(|(_, r)| r.len() as u64).sum(), Ordering::AcqRel);
        }
        Ok(spool)
    }

    fn place(&self) -> u64 {
        self.place.load(Ordering::Acquire)
    }

    /// How many records wait.
    pub(super) fn waiting(&self) -> u64 {
        self.journal.next_index().saturating_sub(self.place())
    }

    /// Keeps a record, on disk when it ends.
    pub(super) async fn keep(&self, record: Vec<u8>) -> Result<(), NotTold> {
        let bytes = record.len() as u64;
        if self.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes > self.most_bytes {
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(NotTold::Full);
        }
        let kept = self.journal.append(vec![record], Durability::Synced).await;
        if let Err(error) = kept {
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(error.into());
        }
        Ok(())
    }

    /// The oldest records that wait; only what is synced, so that the log never knows more than this disk does after a power cut.
    pub(super) fn next(&self, most: usize, most_bytes: usize) -> Result<Option<Batch>, JournalError> {
        let (place, end) = (self.place(), self.journal.synced_index());
        let records = self.journal.read(place, most, most_bytes)?;
        let events: Vec<Vec<u8>> = records.into_iter().filter(|(at, _)| *at < end).map(|(_, record)| record).collect();
        let numbering = self.numbering.lock().clone();
        let first_seq = place - numbering.base + 1;
        Ok((!events.is_empty()).then_some(Batch { epoch: numbering.epoch, first_seq, events }))
    }

    /// The log has everything of this epoch up to this number.
    pub(super) fn acked(&self, epoch: &str, seq: u64) -> Result<(), NotKept> {
        let mut numbering = self.numbering.lock();
        if numbering.epoch != epoch {
            return Ok(());
        }
        let (before, end) = (self.place(), self.journal.next_index());
        let place = numbering.base + seq;
        if place > end {
            // This directory is an older copy: the log has other events under these numbers. What waits is told anew.
            let anew = Numbering { epoch: new_epoch(), base: before };
            write(&self.path, &anew)?;
            *numbering = anew;
            return Ok(());
        }
        if place <= before {
            return Ok(());
        }
        let most = usize::try_from(place - before).unwrap_or(usize::MAX);
        let gone = self.journal.read(before, most, usize::MAX)?;
        let bytes: u64 = gone.iter().filter(|(at, _)| *at < place).map(|(_, record)| record.len() as u64).sum();
        self.place.store(place, Ordering::Release);
        let less = |waiting: u64| Some(waiting.saturating_sub(bytes));
        // The closure always gives a value.
        let _ = self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.journal.drop_below(place)?;
        Ok(())
    }

    /// Ends when there may be more.
    pub(super) async fn grown(&self) {
        let mut grown: watch::Receiver<u64> = self.journal.watch();
        grown.mark_unchanged();
        if self.waiting() > 0 {
            return tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(tokio::time::timeout(Duration::from_secs(1), grown.changed()).await);
    }
}

/// Why an acknowledgement is not kept; what it is of is offered again.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotKept {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Numbering(#[from] io::Error),
}

fn read(text: &str) -> Option<Numbering> {
    let (epoch, base) = text.trim_end().split_once(' ')?;
    let is_epoch = epoch.len() == 32 && epoch.bytes().all(|b| b.is_ascii_hexdigit());
    Some(Numbering { epoch: epoch.to_owned(), base: base.parse().ok()? }).filter(|_| is_epoch)
}

/// Written beside, synced, and put in place: never half.
fn write(path: &Path, numbering: &Numbering) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    writeln!(file, "{} {}", numbering.epoch, numbering.base)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(dir) => std::fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    async fn keep(spool: &Spool, count: u8) {
        for n in 0..count {
            spool.keep(vec![n + 1; 10]).await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_not_acknowledged_is_offered_again_under_the_same_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), 1_000).unwrap();
        keep(&spool, 5).await;
        let first = spool.next(3, 1_000).unwrap().unwrap();
        assert_eq!((first.first_seq, first.events.len()), (1, 3));
        spool.acked(&first.epoch, 2).unwrap();
        let next = spool.next(10, 1_000).unwrap().unwrap();
        assert_eq!((next.first_seq, next.events.len(), spool.waiting()), (3, 3, 3));
        drop(spool);
        // What was acknowledged is in a segment that goes on, so it is offered once more; its numbers are the same.
        let again = Spool::open(dir.path(), 1_000).unwrap();
        let offered = again.next(10, 1_000).unwrap().unwrap();
        assert_eq!((&offered.epoch, offered.first_seq, offered.events.len()), (&first.epoch, 1, 5));
        again.acked(&offered.epoch, 5).unwrap();
        assert_eq!((again.next(10, 1_000).unwrap(), again.waiting()), (None, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_is_bounded_and_room_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), 50).unwrap();
        keep(&spool, 5).await;
        assert!(matches!(spool.keep(vec![1]).await, Err(NotTold::Full)));
        let all = spool.next(10, 1_000).unwrap().unwrap();
        spool.acked(&all.epoch, 5).unwrap();
        spool.keep(vec![1]).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_older_copy_of_the_directory_takes_a_new_name_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), 1_000).unwrap();
        keep(&spool, 2).await;
        let before = spool.next(10, 1_000).unwrap().unwrap();
        // The log says that it has seven events of this epoch, and only two were ever kept here.
        spool.acked(&before.epoch, 7).unwrap();
        let after = spool.next(10, 1_000).unwrap().unwrap();
        assert!(after.epoch != before.epoch && after.first_seq == 1 && after.events == before.events);
        drop(spool);
        assert_eq!(Spool::open(dir.path(), 1_000).unwrap().next(10, 1_000).unwrap().unwrap(), after);
    }
}
