//! The spool as a source for the shipper: oldest epoch first, each under its own name.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use legate_outbox::{Batch, Source, SourceError};
use parking_lot::Mutex;

use super::Spool;
use super::disk::Disk;

/// What was offered last, to know where an acknowledged number stands.
#[derive(Debug, Default)]
struct Offered {
    epoch: String,
    first_seq: u64,
    /// The number of the first record: it comes behind the event by which its epoch begins, where that has none.
    first_record: u64,
    /// The place of the first record that is not acknowledged.
    place: u64,
    /// Of each event, the place behind it and how much it takes on the disk.
    events: Vec<(u64, u64)>,
}

/// Ships what the spool keeps. After a start everything kept is offered again: the collector knows what it has.
#[derive(Debug)]
pub(crate) struct SpoolSource {
    disk: Arc<Disk>,
    offered: Mutex<Offered>,
    /// By which it is recorded that the emitter lives.
    spool: Option<Arc<Spool>>,
}

impl SpoolSource {
    pub(crate) fn new(disk: Arc<Disk>) -> Self {
        let offered = Offered { place: disk.first(), ..Offered::default() };
        Self { disk, offered: Mutex::new(offered), spool: None }
    }

    /// The same, which tells that the emitter lives.
    pub(crate) fn with_heartbeats(self, spool: Arc<Spool>) -> Self {
        Self { spool: Some(spool), ..self }
    }
}

impl SpoolSource {
    /// Whether the log has more of the running epoch than was ever written here: then it has other events under these numbers.
    fn is_ahead(&self, epoch: &str, seq: u64) -> bool {
        let Some(spool) = &self.spool else { return false };
        let (last_epoch, last_seq) = spool.last();
        let (told, last) = self.disk.told(last_epoch, last_seq);
        let offered = self.offered.lock();
        told == epoch && seq > last && seq >= offered.first_seq + offered.events.len() as u64
    }
}

impl Source for SpoolSource {
    async fn next_batch(&self, max_events: usize, max_bytes: usize) -> Result<Option<Batch>, SourceError> {
        let place = self.offered.lock().place;
        let disk = Arc::clone(&self.disk);
        let read = tokio::task::spawn_blocking(move || disk.read(place, max_events, max_bytes));
        let kept = read.await.map_err(|e| SourceError(e.to_string()))?.map_err(SourceError)?;
        let Some(first) = kept.first() else {
            return Ok(None);
        };
        let (epoch, first_record, oldest) = (first.epoch.clone(), first.seq, first.time);
        if let Some((odd, _)) = kept.iter().zip(first_record..).find(|(k, seq)| k.seq != *seq) {
            return Err(SourceError(format!("record {} of the spool is out of order", odd.place)));
        }
        let opening = self.disk.opening(&epoch).filter(|_| first_record == 2);
        let first_seq = if opening.is_some() { 1 } else { first_record };
        let mut offered = self.offered.lock();
        offered.epoch.clone_from(&epoch);
        offered.first_seq = first_seq;
        offered.place = first.place;
        offered.first_record = first_record;
        let records = kept.iter().map(|k| (k.place + 1, k.size));
        offered.events = opening.iter().map(|_| (first.place, 0)).chain(records).collect();
        Ok(Some(Batch {
            epoch,
            first_seq,
            oldest,
            waiting: self.disk.end().saturating_sub(first.place),
            events: opening.into_iter().chain(kept.into_iter().map(|k| Bytes::from(k.bytes))).collect(),
        }))
    }

    async fn acked(&self, epoch: &str, seq: u64) -> Result<(), SourceError> {
        if self.is_ahead(epoch, seq) {
            self.differs(epoch).await?;
            // Told as a failure, and what waits is offered again under its new numbers.
            return Err(SourceError(format!(
                "audit-collector holds event {seq} of the epoch {epoch}, which this spool never gave: the machine was set back to an \
                 earlier moment; what waits goes on in a new epoch, and nothing of it is dropped"
            )));
        }
        let (place, bytes) = {
            let mut offered = self.offered.lock();
            if offered.epoch != epoch || seq < offered.first_seq {
                return Ok(());
            }
            // The collector may know more of the epoch than was offered now; what was offered is what is let go.
            let count = usize::try_from(seq - offered.first_seq + 1).unwrap_or(usize::MAX);
            let count = count.min(offered.events.len());
            let gone: Vec<(u64, u64)> = offered.events.drain(..count).collect();
            let bytes: u64 = gone.iter().map(|(_, size)| size).sum();
            offered.place = gone.last().map_or(offered.place, |(behind, _)| *behind);
            offered.first_seq += count as u64;
            (offered.place, bytes)
        };
        let disk = Arc::clone(&self.disk);
        let dropped = tokio::task::spawn_blocking(move || disk.acked(place, bytes));
        dropped.await.map_err(|e| SourceError(e.to_string()))?.map_err(SourceError)
    }

    async fn differs(&self, epoch: &str) -> Result<(), SourceError> {
        let Some(spool) = &self.spool else { return Ok(()) };
        let last = {
            let offered = self.offered.lock();
            if offered.epoch != epoch || offered.events.is_empty() {
                return Ok(());
            }
            offered.first_record - 1
        };
        let (disk, opened) = (Arc::clone(&self.disk), spool.goes_on(epoch, last));
        let kept = tokio::task::spawn_blocking(move || disk.renumber(&opened));
        kept.await.map_err(|e| SourceError(e.to_string()))?.map_err(SourceError)?;
        // What is told of it from now on is about other events.
        self.offered.lock().epoch.clear();
        tracing::warn!(epoch, last, "the log has other events behind this one: what waits is told in a new epoch");
        Ok(())
    }

    async fn beat(&self) -> Result<(), SourceError> {
        let Some(spool) = &self.spool else { return Ok(()) };
        spool.beat().await.map_err(|e| SourceError(e.to_string()))
    }

    async fn changed(&self) {
        let mut grown = self.disk.grown();
        grown.mark_unchanged();
        if self.offered.lock().place < self.disk.end() {
            return;
        }
        // What was written is on disk, and can be shipped, a moment later.
        let _ = tokio::time::timeout(Duration::from_secs(1), grown.changed()).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}
