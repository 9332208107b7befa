//! A journal: opened, appended to, read, and shortened from the front.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, oneshot};

use crate::segment::{Segment, Stretch, sync_directory};
use crate::writer::{Append, SYNC_EVERY, Writer};
use crate::{Durability, JournalError};

/// Bounds of a journal.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The size of a segment file in bytes.
    pub segment_bytes: u64,
    /// Records that were only written are synced together at least this often.
    pub sync_every: Duration,
    /// Appends that may wait for the writer.
    pub waiting: usize,
    /// The largest record in bytes.
    pub record_bytes: usize,
    /// A file of this size is kept so that a full disk can still record a little.
    pub reserve_bytes: u64,
    /// Records below this were acknowledged: a journal that ends before it is not opened, and its tail not cut.
    pub at_least: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            sync_every: SYNC_EVERY,
            waiting: 16_384,
            record_bytes: 1 << 17,
            reserve_bytes: 1 << 20,
            at_least: 0,
        }
    }
}

/// What opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that are there.
    pub records: u64,
    /// Bytes behind the last whole record that were cut off (kept beside in a `.torn` file); 0 after a clean end.
    pub torn_bytes: u64,
}

/// What the journal and its writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    dir: PathBuf,
    pub(crate) segments: RwLock<Vec<Segment>>,
    /// The index of the next record to be framed.
    next: AtomicU64,
    /// Records below are written and can be read.
    readable: AtomicU64,
    /// Records below are synced.
    synced: AtomicU64,
    /// Sizes of records that are framed and not yet written.
    pending: Mutex<Vec<usize>>,
    poison: RwLock<Option<String>>,
    on_reserve: AtomicBool,
    grown: tokio::sync::watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    pub(crate) fn pending(&self, sizes: &[usize]) {
        self.pending.lock().extend_from_slice(sizes);
        self.next.fetch_add(sizes.len() as u64, Ordering::AcqRel);
    }

    pub(crate) fn settle(&self) {
        let sizes = std::mem::take(&mut *self.pending.lock());
        let mut segments = self.segments.write();
        if let Some(last) = segments.last_mut() {
            last.wrote(sizes.into_iter());
        }
        drop(segments);
        let next = self.next();
        self.readable.store(next, Ordering::Release);
        self.grown.send_replace(next);
    }

    pub(crate) fn synced(&self) {
        self.synced.store(self.readable.load(Ordering::Acquire), Ordering::Release);
    }

    pub(crate) fn poison(&self) -> Option<String> {
        self.poison.read().clone()
    }

    pub(crate) fn poison_with(&self, why: String) {
        self.poison.write().get_or_insert(why);
    }

    fn reserve_path(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    pub(crate) fn use_reserve(&self) -> bool {
        self.on_reserve.store(true, Ordering::Release);
        std::fs::remove_file(self.reserve_path()).is_ok()
    }
}

/// An append-only journal in a directory of its own. Clones share it; it is closed when the last is dropped.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    options: Options,
    writer: Arc<Handle>,
}

/// The way to the writer; when it goes, the writer syncs and ends.
#[derive(Debug)]
struct Handle {
    sender: Option<mpsc::Sender<Append>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Journal {
    /// Opens the journal in `dir`, or begins one there with record 0. A torn tail of the last segment is cut off and reported.
    ///
    /// # Errors
    /// When the directory cannot be used, or the segments are damaged other than at the very end.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovery), JournalError> {
        Self::open_at(dir, options, 0)
    }

    /// As [`Journal::open`]; a new journal begins with record `first`.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_at(dir: &Path, options: Options, first: u64) -> Result<(Self, Recovery), JournalError> {
        std::fs::create_dir_all(dir).map_err(|e| JournalError::io(dir, &e))?;
        let mut segments = Segment::list(dir)?;
        if let Some(last) = segments.last()
            && last.is_unbegun()?
        {
            std::fs::remove_file(&last.path).map_err(|e| JournalError::io(&last.path, &e))?;
            segments.pop();
        }
        let firsts: Vec<u64> = segments.iter().map(|s| s.first).collect();
        let mut torn = crate::segment::Torn::default();
        for (i, segment) in segments.iter_mut().enumerate() {
            let whole = firsts.get(i + 1).map(|next| next - segment.first);
            torn = segment.scan(whole)?;
        }
        let found = segments.last().map_or(first, |s| s.first + s.count);
        if found < options.at_least {
            return Err(JournalError::Short { dir: dir.to_owned(), found, wanted: options.at_least });
        }
        let file = match segments.last() {
            Some(last) => last.cut_torn(torn)?,
            None => {
                let (segment, file) = Segment::create(dir, first, options.segment_bytes)?;
                segments.push(segment);
                file
            }
        };
        let begin = segments.first().map_or(first, |s| s.first);
        let next = segments.last().map_or(first, |s| s.first + s.count);
        let recovery = Recovery { records: next - begin, torn_bytes: torn.bytes };

        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            segments: RwLock::new(segments),
            next: AtomicU64::new(next),
            readable: AtomicU64::new(next),
            synced: AtomicU64::new(next),
            pending: Mutex::default(),
            poison: RwLock::default(),
            on_reserve: AtomicBool::new(false),
            grown: tokio::sync::watch::Sender::new(next),
        });
        make_reserve(&shared, options.reserve_bytes);
        let (sender, waiting) = mpsc::channel();
        let writer = Writer {
            dir: dir.to_owned(),
            options,
            shared: shared.clone(),
            file,
            buffer: Vec::new(),
            unsynced_since: None,
        };
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(&waiting))
            .map_err(|e| JournalError::io(dir, &e))?;
        let journal = Self {
            shared,
            places: Arc::new(Semaphore::new(options.waiting)),
            options,
            writer: Arc::new(Handle { sender: Some(sender), thread: Some(thread) }),
        };
        Ok((journal, recovery))
    }

    /// Appends records next to each other, in order, all or none; gives the index of the first. Waits when too many wait already.
    /// When the caller stops waiting, the records may or may not be appended. No records and [`Durability::Synced`]: returns
    /// when everything written before is on disk.
    ///
    /// # Errors
    /// When a record has the wrong size, the disk is full, or the journal stopped.
    pub async fn append(&self, payloads: Vec<Vec<u8>>, durability: Durability) -> Result<u64, JournalError> {
        let most = self.options.record_bytes;
        for payload in &payloads {
            if payload.is_empty() || payload.len() > most {
                return Err(JournalError::Size { most, found: payload.len() });
            }
        }
        if payloads.is_empty() && durability == Durability::Written {
            return Ok(self.next_index());
        }
        let place = self.places.clone().acquire_owned().await.map_err(|_| JournalError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let append = Append { payloads, durability, answer, _place: place };
        let sender = self.writer.sender.as_ref().ok_or(JournalError::Closed)?;
        sender.send(append).map_err(|_| JournalError::Closed)?;
        answered.await.map_err(|_| JournalError::Closed)?
    }

    /// The index of the oldest record that is kept.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.shared.segments.read().first().map_or(0, |s| s.first)
    }

    /// One more than the index of the newest record that is written.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.shared.readable.load(Ordering::Acquire)
    }

    /// One more than the index of the newest record that is synced.
    #[must_use]
    pub fn synced_index(&self) -> u64 {
        self.shared.synced.load(Ordering::Acquire)
    }

    /// Reads records from `from` on: at most `most`, and about `most_bytes`; none when `from` is the end.
    ///
    /// # Errors
    /// When a record is damaged or the file cannot be read.
    pub fn read(&self, from: u64, most: usize, most_bytes: usize) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
        let until = self.next_index();
        let mut out = Vec::new();
        let from = from.max(self.first_index());
        // Where they are is copied out, so that reading does not hold up the writer.
        let stretches: Vec<Stretch> = {
            let all = self.shared.segments.read();
            let at = all.partition_point(|s| s.first + s.count <= from);
            all[at..].iter().take(2).filter_map(|s| s.stretch(from.max(s.first), until, most)).collect()
        };
        for stretch in stretches {
            // A segment that was read only in part is not followed by the next.
            let follows = out.last().is_none_or(|(index, _)| index + 1 == stretch.from);
            if out.len() >= most || !follows {
                break;
            }
            stretch.read(most_bytes, &mut out)?;
        }
        out.truncate(most);
        Ok(out)
    }

    /// Tells the end whenever it moves.
    #[must_use]
    pub fn watch(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.grown.subscribe()
    }

    /// Removes segments all of whose records are below `index`; the newest segment always stays.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn drop_below(&self, index: u64) -> Result<(), JournalError> {
        let dir = &self.shared.dir;
        loop {
            let gone = {
                let mut segments = self.shared.segments.write();
                if segments.get(1).is_none_or(|next| next.first > index) {
                    break;
                }
                segments.remove(0)
            };
            std::fs::remove_file(&gone.path).map_err(|e| JournalError::io(&gone.path, &e))?;
            sync_directory(dir).map_err(|e| JournalError::io(dir, &e))?;
        }
        if self.on_reserve() {
            make_reserve(&self.shared, self.options.reserve_bytes);
        }
        Ok(())
    }

    /// Whether the disk was full and the reserve is in use.
    #[must_use]
    pub fn on_reserve(&self) -> bool {
        self.shared.on_reserve.load(Ordering::Acquire)
    }

    /// Why the journal stopped, if it did.
    #[must_use]
    pub fn poisoned(&self) -> Option<String> {
        self.shared.poison()
    }
}

/// Keeps a file whose removal makes room. Without space for it there is none; that is no reason not to start.
fn make_reserve(shared: &Shared, bytes: u64) {
    let path = shared.reserve_path();
    let make = || -> std::io::Result<()> {
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes.max(1))?;
        Ok(())
    };
    match make() {
        Ok(()) => shared.on_reserve.store(false, Ordering::Release),
        Err(error) => tracing::warn!(%error, "no reserve file can be kept"),
    }
}

#[cfg(test)]
mod tests;
