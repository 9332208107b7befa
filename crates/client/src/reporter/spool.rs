//! The reporter's disk: a journal, and beside it the names under which its records are numbered.
//!
//! Every start numbers what it keeps under a new name, so that a directory that was put back to an earlier copy never gives a
//! number again under a name that the log knows: the log would take the new records for those that it has.

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

/// The name of a numbering, and where it begins; it ends where the next one does.
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
    /// In the order of their places, one at least.
    numberings: Mutex<Vec<Numbering>>,
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
    /// Opens the spool in `dir`, and begins a numbering for what it will keep. After a start everything that is kept is offered again
    /// under the numbers that it had: the log knows what it has.
    pub(super) fn open(dir: &Path, most_bytes: u64) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let options = Options { segment_bytes: SEGMENT, reserve_bytes: 64 << 10, ..Options::default() };
        let (journal, _) = Journal::open(&dir.join("records"), options).map_err(io::Error::other)?;
        let path = dir.join("numbering");
        let (first, next) = (journal.first_index(), journal.next_index());
        let before = match std::fs::read_to_string(&path) {
            Ok(text) => read(&text).ok_or_else(|| io::Error::other(format!("{} is damaged", path.display())))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        let place = before.first().map_or(first, |oldest| oldest.base.max(first));
        // Records that are not of the numberings beside them are told from the first on.
        let is_of_another = before.last().is_some_and(|newest| newest.base > next);
        let (before, place) = if is_of_another { (Vec::new(), first) } else { (before, place) };
        let numberings = begun(before, place, next);
        write(&path, &numberings)?;
        let spool = Self {
            path,
            most_bytes,
            place: AtomicU64::new(place),
            bytes: AtomicU64::new(0),
            numberings: Mutex::new(numberings),
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
        let place = self.place();
        let numberings = self.numberings.lock().clone();
        let ours = numberings.iter().rposition(|one| one.base <= place);
        let Some((ours, numbering)) = ours.and_then(|at| Some((at, numberings.get(at)?))) else { return Ok(None) };
        let end = self.journal.synced_index().min(numberings.get(ours + 1).map_or(u64::MAX, |next| next.base));
        let records = self.journal.read(place, most, most_bytes)?;
        let events: Vec<Vec<u8>> = records.into_iter().filter(|(at, _)| *at < end).map(|(_, record)| record).collect();
        let first_seq = place - numbering.base + 1;
        Ok((!events.is_empty()).then(|| Batch { epoch: numbering.epoch.clone(), first_seq, events }))
    }

    /// Whether the log has more of this epoch than was ever kept here.
    pub(super) fn is_ahead(&self, epoch: &str, seq: u64) -> bool {
        let numberings = self.numberings.lock();
        let Some(ours) = numberings.iter().position(|one| one.epoch == epoch) else { return false };
        numberings[ours].base.saturating_add(seq) > self.end_of(&numberings, ours)
    }

    /// The place behind the last record of a numbering.
    fn end_of(&self, numberings: &[Numbering], at: usize) -> u64 {
        numberings.get(at + 1).map_or_else(|| self.journal.next_index(), |next| next.base)
    }

    /// The log has everything of this epoch up to this number.
    pub(super) fn acked(&self, epoch: &str, seq: u64) -> Result<(), NotKept> {
        let mut numberings = self.numberings.lock();
        let Some(ours) = numberings.iter().position(|one| one.epoch == epoch) else { return Ok(()) };
        let before = self.place();
        let end = self.end_of(&numberings, ours);
        let place = numberings[ours].base.saturating_add(seq);
        if place > end {
            // This directory is an older copy: the log has other events under these numbers.
            return Ok(self.number_anew(&mut numberings)?);
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
        // Of whom everything is there nothing is offered again at the next start; the newest stays, to be gone on with.
        let done = numberings.iter().skip(1).take_while(|next| next.base <= place).count();
        if done > 0 {
            write(&self.path, &numberings[done..])?;
            numberings.drain(..done);
        }
        Ok(())
    }

    /// The log has other events under numbers of this epoch: what waits is told anew.
    pub(super) fn differs(&self, epoch: &str) -> Result<(), NotKept> {
        let mut numberings = self.numberings.lock();
        if numberings.iter().any(|one| one.epoch == epoch) {
            self.number_anew(&mut numberings)?;
        }
        Ok(())
    }

    /// Numbers everything that waits under a name that the log does not know: some of it may stand there twice then, and nothing of
    /// it is taken for something else.
    fn number_anew(&self, numberings: &mut Vec<Numbering>) -> io::Result<()> {
        let anew = vec![Numbering { epoch: new_epoch(), base: self.place() }];
        write(&self.path, &anew)?;
        *numberings = anew;
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

/// The numberings of what waits from `place` on, with a new one for what comes at `next`.
fn begun(mut numberings: Vec<Numbering>, place: u64, next: u64) -> Vec<Numbering> {
    // Without a name what is there gets the new one.
    let base = if numberings.is_empty() { place } else { next };
    numberings.push(Numbering { epoch: new_epoch(), base });
    let ends: Vec<u64> = numberings.iter().skip(1).map(|one| one.base).chain([u64::MAX]).collect();
    let of = numberings.into_iter().zip(ends).filter(|(one, end)| *end > place && *end > one.base);
    of.map(|(one, _)| one).collect()
}

fn read(text: &str) -> Option<Vec<Numbering>> {
    let line = |line: &str| {
        let (epoch, base) = line.split_once(' ')?;
        let is_epoch = epoch.len() == 32 && epoch.bytes().all(|b| b.is_ascii_hexdigit());
        Some(Numbering { epoch: epoch.to_owned(), base: base.parse().ok()? }).filter(|_| is_epoch)
    };
    let all: Vec<Numbering> = text.lines().map(line).collect::<Option<_>>()?;
    (!all.is_empty() && all.is_sorted_by_key(|one| one.base)).then_some(all)
}

fn write(path: &Path, numberings: &[Numbering]) -> io::Result<()> {
    let text: String = numberings.iter().map(|Numbering { epoch, base }| format!("{epoch} {base}\n")).collect();
    replace(path, text.as_bytes())
}

/// Written beside, synced, and put in place: never half.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
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
    async fn what_earlier_starts_told_is_not_offered_again_at_each_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut epochs = Vec::new();
        for _ in 0..5 {
            let spool = Spool::open(dir.path(), 1_000).unwrap();
            keep(&spool, 2).await;
            let mut offered = 0;
            while let Some(batch) = spool.next(10, 1_000).unwrap() {
                spool.acked(&batch.epoch, batch.first_seq - 1 + batch.events.len() as u64).unwrap();
                epochs.push(batch.epoch);
                offered += 1;
            }
            assert!(offered <= 2, "what the start before told, and this one");
        }
        epochs.dedup();
        assert_eq!(epochs.len(), 5, "each start has one of its own");
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
        // The same where the log says that it has others.
        spool.differs("another").unwrap();
        assert_eq!(spool.next(10, 1_000).unwrap().unwrap(), after);
        spool.differs(&after.epoch).unwrap();
        let last = spool.next(10, 1_000).unwrap().unwrap();
        assert!(last.epoch != after.epoch && last.first_seq == 1 && last.events == before.events);
        drop(spool);
        assert_eq!(Spool::open(dir.path(), 1_000).unwrap().next(10, 1_000).unwrap().unwrap(), last);
    }

    /// The log: what it has of each epoch, known by its number alone.
    #[derive(Default)]
    struct Log(std::collections::BTreeMap<String, Vec<Vec<u8>>>);

    impl Log {
        /// Takes everything that waits, as the collector does.
        fn take_all(&mut self, spool: &Spool) {
            while let Some(Batch { epoch, first_seq, events }) = spool.next(7, 1 << 20).unwrap() {
                let its = self.0.entry(epoch.clone()).or_default();
                let known = (its.len() + 1).checked_sub(usize::try_from(first_seq).unwrap()).expect("no gap");
                its.extend(events.into_iter().skip(known));
                let acked = its.len() as u64;
                spool.acked(&epoch, acked).unwrap();
            }
        }

        fn holds(&self, record: &[u8]) -> bool {
            self.0.values().flatten().any(|one| one == record)
        }
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_restored_directory_that_grows_past_what_the_log_has_loses_nothing() {
        let (dir, snapshot) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut log = Log::default();
        let tell = async |spool: &Spool, what: &str, count: u8| {
            for n in 0..count {
                spool.keep(format!("{what}-{n}").into_bytes()).await.unwrap();
            }
        };
        // Fifty, a copy, and fifty more; the log has all of them.
        let spool = Spool::open(dir.path(), 1 << 20).unwrap();
        tell(&spool, "early", 50).await;
        drop(spool);
        copy(dir.path(), snapshot.path());
        let spool = Spool::open(dir.path(), 1 << 20).unwrap();
        tell(&spool, "forgotten", 50).await;
        log.take_all(&spool);
        drop(spool);
        // The copy is put back, and sixty are told before the log is reached.
        let spool = Spool::open(snapshot.path(), 1 << 20).unwrap();
        tell(&spool, "late", 60).await;
        log.take_all(&spool);
        assert_eq!(spool.waiting(), 0);
        for (what, count) in [("early", 50), ("forgotten", 50), ("late", 60)] {
            assert!((0..count).all(|n| log.holds(format!("{what}-{n}").as_bytes())), "{what}");
        }
        assert_eq!(log.0.values().map(Vec::len).sum::<usize>(), 160, "and nothing is there twice");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_copy_that_was_made_beneath_a_running_reporter_loses_nothing_either() {
        let (dir, snapshot) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut log = Log::default();
        let spool = Spool::open(dir.path(), 1 << 20).unwrap();
        keep(&spool, 50).await;
        copy(dir.path(), snapshot.path());
        keep(&spool, 50).await;
        log.take_all(&spool);
        drop(spool);
        let spool = Spool::open(snapshot.path(), 1 << 20).unwrap();
        for n in 0..60 {
            spool.keep(format!("late-{n}").into_bytes()).await.unwrap();
        }
        log.take_all(&spool);
        assert_eq!(spool.waiting(), 0);
        assert!((0..60).all(|n| log.holds(format!("late-{n}").as_bytes())));
        // What the copy still had to tell comes a second time, since nothing tells that it is the same.
        assert_eq!(log.0.values().map(Vec::len).sum::<usize>(), 100 + 50 + 60);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_directory_of_an_earlier_version_is_told_under_its_name_and_what_comes_under_another() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), 1_000).unwrap();
        keep(&spool, 3).await;
        drop(spool);
        let old = new_epoch();
        std::fs::write(dir.path().join("numbering"), format!("{old} 1\n")).unwrap();
        let spool = Spool::open(dir.path(), 1_000).unwrap();
        keep(&spool, 1).await;
        let first = spool.next(10, 1_000).unwrap().unwrap();
        assert_eq!((&first.epoch, first.first_seq, first.events.len()), (&old, 1, 2), "from its base on, and no other");
        spool.acked(&old, 2).unwrap();
        let second = spool.next(10, 1_000).unwrap().unwrap();
        assert!(second.epoch != old && second.first_seq == 1 && second.events.len() == 1);
        drop(spool);
        for damaged in ["", "x 1\n", &format!("{old} 9\n{old} 2\n")] {
            std::fs::write(dir.path().join("numbering"), damaged).unwrap();
            assert!(Spool::open(dir.path(), 1_000).is_err(), "{damaged:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn starts_that_keep_nothing_leave_no_names_behind() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..5 {
            drop(Spool::open(dir.path(), 1_000).unwrap());
        }
        let spool = Spool::open(dir.path(), 1_000).unwrap();
        keep(&spool, 1).await;
        drop(spool);
        drop(Spool::open(dir.path(), 1_000).unwrap());
        let text = std::fs::read_to_string(dir.path().join("numbering")).unwrap();
        assert_eq!(text.lines().count(), 2, "that of the record, and the next: {text}");
    }
}
