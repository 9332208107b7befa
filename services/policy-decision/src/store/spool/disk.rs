//! The spool's paper: a journal in a directory of its own.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use legate_clock::Timestamp;
use legate_journal::{Durability, Journal, JournalError, Options};
use legate_wire::audit::AuditEvent;
use prost::Message;

use super::renumbered::{Renumberings, numbered};
use super::{Before, Paper, Refused};

/// A segment can be dropped when all its records are acknowledged, so small ones free the disk sooner.
const SEGMENT: u64 = 16 << 20;

/// The journal, and how much of it waits for the collector.
#[derive(Debug)]
pub(crate) struct Disk {
    journal: Journal,
    waiting: AtomicU64,
    renumbered: Renumberings,
}

/// One record as it is read back.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) place: u64,
    pub(crate) epoch: String,
    pub(crate) seq: u64,
    pub(crate) time: Timestamp,
    /// How much it takes on the disk.
    pub(crate) size: u64,
    pub(crate) bytes: Vec<u8>,
}

fn refused(error: JournalError) -> Refused {
    match error {
        JournalError::Full(_) | JournalError::Size { .. } => Refused::Full,
        error => {
            tracing::error!(%error, "the spool's journal has failed");
            Refused::Broken
        }
    }
}

/// The epoch that a record was written in; empty: it is no event.
fn epoch_of(record: &[u8]) -> String {
    AuditEvent::decode(record).ok().and_then(|event| event.emitter).unwrap_or_default().epoch
}

impl Disk {
    /// Opens the journal in `dir`, and tells how the epoch before ended.
    ///
    /// # Errors
    /// When the directory cannot be used or records are damaged.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Before), JournalError> {
        let options = Options { segment_bytes: SEGMENT, ..Options::default() };
        let (journal, recovery) = Journal::open(dir, options)?;
        let failed = |e: std::io::Error| JournalError::Io { path: dir.to_owned(), why: e.to_string() };
        let renumbered = Renumberings::open(dir).map_err(failed)?;
        let disk = Self { journal, waiting: AtomicU64::new(0), renumbered };
        let mut epochs = BTreeSet::new();
        let mut before = Before { torn_bytes: recovery.torn_bytes, ..Before::default() };
        let mut place = disk.first();
        loop {
            let records = disk.journal.read(place, 4_096, 4 << 20)?;
            let Some((last, _)) = records.last() else { break };
            place = last + 1;
            let bytes: usize = records.iter().map(|(_, r)| r.len()).sum();
            disk.waiting.fetch_add(bytes as u64, Ordering::AcqRel);
            epochs.extend(records.iter().map(|(_, record)| epoch_of(record)));
            if let Some((_, newest)) = records.last() {
                // What is not ours cannot be shipped either; the source says so.
                let event = AuditEvent::decode(newest.as_slice()).unwrap_or_default();
                let emitter = event.emitter.unwrap_or_default();
                before.is_clean = event.r#type == "spool.closed" && recovery.torn_bytes == 0;
                before.last_time = event.time.and_then(|time| Timestamp::try_from(time).ok());
                (before.epoch, before.last_seq) = disk.renumbered.told(emitter.epoch, emitter.seq);
            }
        }
        disk.renumbered.forget_all_but(epochs);
        Ok((disk, before))
    }

    /// The oldest place that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.journal.first_index()
    }

    /// The place after the newest record that is on disk: only what cannot be lost any more is shipped, so that the
    /// log never knows more of an epoch than its spool does after a power cut.
    pub(crate) fn end(&self) -> u64 {
        self.journal.synced_index()
    }

    /// Told whenever records were written.
    pub(crate) fn grown(&self) -> tokio::sync::watch::Receiver<u64> {
        self.journal.watch()
    }

    /// Records from `place` on, of one epoch, `most` and about `most_bytes` at most.
    ///
    /// # Errors
    /// When they cannot be read, or are no events.
    pub(crate) fn read(&self, place: u64, most: usize, most_bytes: usize) -> Result<Vec<Kept>, String> {
        let end = self.end();
        let records = self.journal.read(place, most, most_bytes).map_err(|e| e.to_string())?;
        let mut kept: Vec<Kept> = Vec::with_capacity(records.len());
        for (place, bytes) in records.into_iter().filter(|(place, _)| *place < end) {
            let event = AuditEvent::decode(bytes.as_slice())
                .map_err(|e| format!("record {place} of the spool is no audit event: {e}"))?;
            let emitter = event.emitter.clone().unwrap_or_default();
            let (epoch, seq) = self.renumbered.told(emitter.epoch.clone(), emitter.seq);
            if kept.first().is_some_and(|first| first.epoch != epoch) {
                break;
            }
            let (time, size) = (event.time.and_then(|t| Timestamp::try_from(t).ok()), bytes.len() as u64);
            let bytes = if epoch == emitter.epoch { bytes } else { numbered(event, &epoch, seq) };
            kept.push(Kept { place, epoch, seq, time: time.unwrap_or_default(), size, bytes });
        }
        Ok(kept)
    }

    /// Under which epoch and number a record is told.
    pub(crate) fn told(&self, epoch: String, seq: u64) -> (String, u64) {
        self.renumbered.told(epoch, seq)
    }

    /// The event by which an epoch begins that goes on from another one.
    pub(crate) fn opening(&self, epoch: &str) -> Option<Bytes> {
        self.renumbered.opening(epoch)
    }

    /// What waits goes on in the epoch that `opened` begins.
    ///
    /// # Errors
    /// When that cannot be kept.
    pub(crate) fn renumber(&self, opened: &AuditEvent) -> Result<(), String> {
        self.renumbered.begin(opened).map_err(|e| e.to_string())
    }

    /// The collector has `bytes` more, and everything below `place`.
    ///
    /// # Errors
    /// When a segment cannot be removed.
    pub(crate) fn acked(&self, place: u64, bytes: u64) -> Result<(), String> {
        let less = |waiting: u64| Some(waiting.saturating_sub(bytes));
        // The closure always gives a value.
        let _ = self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.journal.drop_below(place).map_err(|e| e.to_string())
    }
}

#[async_trait::async_trait]
impl Paper for Disk {
    async fn write(&self, records: Vec<Vec<u8>>) -> Result<(), Refused> {
        let bytes: usize = records.iter().map(Vec::len).sum();
        // Counted before, so that the shipper cannot acknowledge what is not counted.
        self.waiting.fetch_add(bytes as u64, Ordering::AcqRel);
        let written = self.journal.append(records, Durability::Written).await;
        written.map(|_| ()).map_err(|error| {
            self.waiting.fetch_sub(bytes as u64, Ordering::AcqRel);
            refused(error)
        })
    }

    async fn sync(&self) -> Result<(), Refused> {
        let synced = self.journal.append(Vec::new(), Durability::Synced).await;
        synced.map(|_| ()).map_err(refused)
    }

    fn waiting_bytes(&self) -> u64 {
        self.waiting.load(Ordering::Acquire)
    }
}
