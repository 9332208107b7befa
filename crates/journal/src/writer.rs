//! The one thread that writes: takes what is waiting, writes it at once, syncs at most once, then answers all.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use legate_planted::Bug;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::journal::{Options, Shared};
use crate::segment::Segment;
use crate::{Durability, JournalError, frame};

/// One append that waits.
pub(crate) struct Append {
    pub(crate) payloads: Vec<Vec<u8>>,
    pub(crate) durability: Durability,
    pub(crate) answer: oneshot::Sender<Result<u64, JournalError>>,
    /// Its share of the bound on waiting appends.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// At most so many appends become one write.
const GROUP: usize = 1_024;

pub(crate) struct Writer {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) shared: Arc<Shared>,
    pub(crate) file: File,
    pub(crate) buffer: Vec<u8>,
    pub(crate) unsynced_since: Option<Instant>,
}

impl Writer {
    /// Works until every sender is gone, then syncs what is left.
    pub(crate) fn run(mut self, waiting: &Receiver<Append>) {
        loop {
            let first = match self.unsynced_since {
                None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => waiting.recv_timeout(self.options.sync_every.saturating_sub(since.elapsed())),
            };
            let mut group = Vec::new();
            match first {
                Ok(append) => group.push(append),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.sync_or_stop();
                    return;
                }
            }
            group.extend(waiting.try_iter().take(GROUP - group.len()));
            self.commit(group);
            if self.unsynced_since.is_some_and(|since| since.elapsed() >= self.options.sync_every) {
                self.sync_or_stop();
            }
        }
    }

    fn commit(&mut self, group: Vec<Append>) {
        if group.is_empty() {
            return;
        }
        if let Some(why) = self.shared.poison() {
            for append in group {
                let _gone = append.answer.send(Err(JournalError::Poisoned(why.clone())));
            }
            return;
        }
        let mut written = Vec::with_capacity(group.len());
        for append in group {
            let first = self.shared.next();
            match self.put(&append.payloads) {
                Ok(()) => written.push((first, append)),
                Err(error) => {
                    let _gone = append.answer.send(Err(error));
                }
            }
        }
        // It may have stopped in the midst of the group; then nobody in it can be told that his records are there.
        let flushed = match self.shared.poison() {
            Some(why) => Err(JournalError::Poisoned(why)),
            None => self.flush(),
        };
        if let Err(error) = flushed {
            self.stop(&error);
            for (_, append) in written {
                let _gone = append.answer.send(Err(error.clone()));
            }
            return;
        }
        let (synced, rest): (Vec<_>, Vec<_>) =
            written.into_iter().partition(|(_, a)| a.durability == Durability::Synced);
        for (first, append) in rest {
            let _gone = append.answer.send(Ok(first));
        }
        if synced.is_empty() {
            return;
        }
        let outcome = if legate_planted::is(Bug::AckBeforeFsync) { Ok(()) } else { self.sync() };
        if let Err(error) = &outcome {
            self.stop(error);
        }
        for (first, append) in synced {
            let _gone = append.answer.send(outcome.clone().map(|()| first));
        }
    }

    /// Frames the payloads into the buffer, in this segment or the next.
    fn put(&mut self, payloads: &[Vec<u8>]) -> Result<(), JournalError> {
        if let Some(why) = self.shared.poison() {
            return Err(JournalError::Poisoned(why));
        }
        let bytes: usize = payloads.iter().map(|p| p.len() + frame::HEAD).sum();
        let full = {
            let segments = self.shared.segments.read();
            let more = (self.buffer.len() + bytes) as u64;
            segments.last().is_none_or(|s| s.count > 0 && s.end + more > s.room.min(self.options.segment_bytes))
        };
        if full {
            // What fails here has failed for every record before it as well.
            if let Err(error) = self.flush().and_then(|()| self.sync()) {
                self.stop(&error);
                return Err(error);
            }
            self.roll()?;
        }
        for (index, payload) in (self.shared.next()..).zip(payloads) {
            frame::write(&mut self.buffer, index, payload);
        }
        let sizes: Vec<usize> = payloads.iter().map(Vec::len).collect();
        self.shared.pending(&sizes);
        Ok(())
    }

    /// Writes the buffer where the segment ends.
    fn flush(&mut self) -> Result<(), JournalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let (path, end) = {
            let segments = self.shared.segments.read();
            let last = segments.last().ok_or(JournalError::Closed)?;
            (last.path.clone(), last.end)
        };
        self.file.write_all_at(&self.buffer, end).map_err(|e| JournalError::io(&path, &e))?;
        self.buffer.clear();
        self.shared.settle();
        self.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        if self.unsynced_since.is_none() {
            return Ok(());
        }
        self.file.sync_data().map_err(|e| JournalError::io(&self.dir, &e))?;
        self.unsynced_since = None;
        self.shared.synced();
        Ok(())
    }

    /// A new segment, once the last one is synced. When the disk is full, the reserve makes room once.
    fn roll(&mut self) -> Result<(), JournalError> {
        let first = self.shared.next();
        let made = match Segment::create(&self.dir, first, self.options.segment_bytes) {
            Err(JournalError::Full(_)) if self.shared.use_reserve() => {
                Segment::create(&self.dir, first, self.options.reserve_bytes.max(1 << 16))
            }
            made => made,
        };
        let (segment, file) = made?;
        self.file = file;
        self.shared.segments.write().push(segment);
        Ok(())
    }

    fn sync_or_stop(&mut self) {
        if let Err(error) = self.sync() {
            self.stop(&error);
        }
    }

    /// After a failed write or sync the kernel may have dropped what it held, so a later success would prove nothing.
    fn stop(&mut self, error: &JournalError) {
        if self.shared.poison().is_none() {
            tracing::error!(%error, "the journal stops");
        }
        self.shared.poison_with(error.to_string());
        self.unsynced_since = None;
        self.buffer.clear();
    }
}

/// The grouped sync of records that were only written.
pub(crate) const SYNC_EVERY: Duration = Duration::from_millis(50);
