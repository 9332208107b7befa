//! The log's tiles in an object store, in the layout of C2SP tlog-tiles: behind the log and never in its way, the checkpoint last.

mod bucket;
mod sigv4;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use legate_clock::Clock;
use legate_merkle::{TileId, new_tiles};
use tokio::task::JoinSet;

use crate::config::{BadConfig, TilesConfig};
use crate::log::{Log, Published, read_tile};
use crate::metrics::Metrics;
use bucket::{Bucket, NotStored, Only};

/// So many objects are put at once.
const AT_ONCE: usize = 8;

/// The wait after a failure doubles from the first to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

const CHECKPOINT: &str = "checkpoint";
const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

/// Why the store has not everything; it is tried again.
#[derive(Debug, thiserror::Error)]
enum NotKept {
    #[error("{0}")]
    Store(#[from] NotStored),
    #[error("what is in the store is not of this log: {0}; move it away, or give this log another prefix")]
    OtherLog(String),
    #[error("{0} in the store is not what this log has there; somebody has changed it")]
    Changed(TileId),
    #[error("tiles cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("a task has broken off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// The place in a store.
#[derive(Debug)]
pub(crate) struct Depot {
    bucket: Arc<Bucket>,
    every: Duration,
}

/// What the store has.
#[derive(Debug, Default)]
struct Stored {
    size: u64,
    /// Whether it has a checkpoint, and the tag of that.
    is_begun: bool,
    tag: Option<String>,
    /// Partial tiles that are not covered by full ones yet.
    partial: Vec<TileId>,
}

impl Depot {
    /// That of a configuration, where it has one.
    pub(crate) fn of(config: &TilesConfig, clock: Arc<dyn Clock>) -> Result<Option<Self>, BadConfig> {
        let bucket = Bucket::of(config, clock)?;
        Ok(bucket.map(|bucket| Self { bucket: Arc::new(bucket), every: config.every() }))
    }

    /// Keeps the store up with the log for as long as the process leads it.
    pub(crate) async fn keep_up_forever(self, log: Log, metrics: Metrics, clock: Arc<dyn Clock>) {
        let mut published = log.published();
        let (mut stored, mut wait, mut told) = (None, WAITS.0, None);
        let mut whole_at = clock.monotonic();
        loop {
            let newest = published.borrow_and_update().clone();
            let outcome = self.round(&log, &metrics, &mut stored, &newest).await;
            let now = clock.monotonic();
            let why = outcome.as_ref().err().map(ToString::to_string);
            if why != told {
                match &why {
                    Some(why) => tracing::warn!(why, "tiles are not stored; the log goes on, and it is tried again"),
                    None => tracing::info!(leaves = newest.size, "tiles are stored"),
                }
                told = why;
            }
            if outcome.is_ok() {
                (wait, whole_at) = (WAITS.0, now);
                metrics.stored(newest.size);
                tokio::time::sleep(self.every).await;
                if published.changed().await.is_err() {
                    return;
                }
            } else {
                // Somebody else may have written meanwhile: it is looked at again.
                stored = None;
                metrics.store_behind(now.saturating_sub(whole_at));
                tokio::time::sleep(wait / 2 + (wait / 2).mul_f64(rand::random::<f64>())).await;
                wait = (wait * 2).min(WAITS.1);
            }
        }
    }

    /// Stores what the newest checkpoint covers and the store has not, then the checkpoint.
    async fn round(
        &self,
        log: &Log,
        metrics: &Metrics,
        stored: &mut Option<Stored>,
        newest: &Published,
    ) -> Result<(), NotKept> {
        let mut before = match stored.take() {
            Some(stored) => stored,
            None => self.look(log, newest).await?,
        };
        if before.size < newest.size || !before.is_begun {
            let tiles = new_tiles(before.size, newest.size);
            for some in tiles.chunks(AT_ONCE) {
                self.put_some(log, metrics, some.to_vec()).await?;
            }
            let only = match before.tag.as_deref() {
                // Whoever led before and woke up does not set it back.
                Some(tag) => Only::IfStill(tag),
                None if before.is_begun => Only::Always,
                None => Only::IfNew,
            };
            let note = Bytes::from(newest.note.clone());
            let tag = self.bucket.put(CHECKPOINT, TEXT, note, only).await;
            metrics.put(tag.is_ok());
            before.tag = tag?;
            (before.size, before.is_begun) = (newest.size, true);
            before.partial.extend(tiles.iter().filter(|tile| !tile.is_full()));
            self.remove_covered(&mut before).await;
        }
        *stored = Some(before);
        Ok(())
    }

    /// What is there, if it is a beginning of this log.
    async fn look(&self, log: &Log, newest: &Published) -> Result<Stored, NotKept> {
        let Some((note, tag)) = self.bucket.get(CHECKPOINT).await? else { return Ok(Stored::default()) };
        let other = |why: String| NotKept::OtherLog(why);
        let found = log.keys().open(&note).map_err(|e| other(e.to_string()))?;
        let size = found.size;
        if size > newest.size {
            return Err(other(format!("it has {size} events, and the log {}", newest.size)));
        }
        let root = log.reading(move |log| log.root_at(size)).await?.map_err(std::io::Error::other)?;
        if root != found.root {
            return Err(other(format!("its first {size} events are not those of the log")));
        }
        Ok(Stored { size, is_begun: true, tag, partial: Vec::new() })
    }

    /// Puts some tiles at once. A full one never changes: where one is, it is compared.
    async fn put_some(&self, log: &Log, metrics: &Metrics, tiles: Vec<TileId>) -> Result<(), NotKept> {
        let read = move |log: &Log| tiles.into_iter().map(|tile| Ok((tile, read_tile(log.dir(), tile)?))).collect();
        let read: Result<Vec<(TileId, Vec<u8>)>, std::io::Error> = log.reading(read).await?;
        let mut putting = JoinSet::new();
        for (tile, bytes) in read? {
            let bucket = Arc::clone(&self.bucket);
            putting.spawn(async move { put_one(&bucket, tile, bytes.into()).await });
        }
        while let Some(done) = putting.join_next().await {
            let done = done?;
            metrics.put(done.is_ok());
            done?;
        }
        Ok(())
    }

    /// Removes partial tiles whose full ones are there, as far as they are remembered. What is left is in nobody's way.
    async fn remove_covered(&self, stored: &mut Stored) {
        let size = stored.size;
        let is_covered = |tile: &TileId| {
            let shift = match tile.kind {
                legate_merkle::TileKind::Entries => 0,
                legate_merkle::TileKind::Hashes(level) => u32::from(level) * legate_merkle::TILE_HEIGHT,
            };
            (tile.index + 1).saturating_mul(legate_merkle::TILE_WIDTH) <= size >> shift
        };
        let (covered, left): (Vec<TileId>, Vec<TileId>) = stored.partial.drain(..).partition(is_covered);
        stored.partial = left;
        for some in covered.chunks(AT_ONCE) {
            let mut removing = JoinSet::new();
            for tile in some {
                let (bucket, key) = (Arc::clone(&self.bucket), tile.to_string());
                removing.spawn(async move { bucket.remove(&key).await });
            }
            while let Some(done) = removing.join_next().await {
                if let Ok(Err(error)) = done {
                    tracing::debug!(%error, "an old partial tile is left in the store");
                }
            }
        }
    }
}

async fn put_one(bucket: &Bucket, tile: TileId, bytes: Bytes) -> Result<(), NotKept> {
    let key = tile.to_string();
    let only = if tile.is_full() { Only::IfNew } else { Only::Always };
    match bucket.put(&key, BYTES, bytes.clone(), only).await {
        Err(NotStored::Other) => match bucket.get(&key).await? {
            Some((there, _)) if there == bytes => Ok(()),
            Some(_) => Err(NotKept::Changed(tile)),
            None => Err(NotStored::Away("an object came and went".into()).into()),
        },
        done => Ok(done.map(drop)?),
    }
}
