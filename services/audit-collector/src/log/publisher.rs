//! Turns what is on disk into tiles, and signs a checkpoint over them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use legate_merkle::{Checkpoint, Hash, SeedSigner};
use tokio::sync::watch;

use super::copy::CHECKPOINT;
use super::shelf::{Shelf, State};
use super::tiler::Tiler;
use crate::ledger::Held;
use crate::metrics::Metrics;

/// Leaves that are read at once, in bytes.
const BATCH_BYTES: usize = 4 << 20;

/// The newest checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// How many leaves it covers.
    pub(crate) size: u64,
    /// The root over them.
    pub(crate) root: Hash,
    /// The signed note.
    pub(crate) note: String,
}

/// Why a round did not end with a checkpoint.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotPublished {
    #[error("leaves cannot be read: {0}")]
    Read(#[from] legate_journal::JournalError),
    #[error("tiles or the checkpoint cannot be written: {0}")]
    Write(#[from] std::io::Error),
    #[error(transparent)]
    Sign(#[from] legate_merkle::SignError),
}

/// The task's own things.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) shelf: Arc<Shelf>,
    pub(super) tiler: Tiler,
    pub(super) signer: Arc<SeedSigner>,
    pub(super) origin: String,
    pub(super) every: Duration,
    pub(super) out: watch::Sender<Published>,
    pub(super) state: Arc<State>,
    pub(super) metrics: Metrics,
    /// Keeps the newest checkpoint beside the rows too, so that whoever leads next begins with it.
    pub(super) beside: Option<Held>,
}

impl Publisher {
    /// Works until the engine has ended and everything is published.
    pub(super) async fn run(mut self, mut acked: watch::Receiver<u64>) {
        loop {
            let is_last = acked.has_changed().is_err();
            let target = *acked.borrow_and_update();
            let is_behind = self.out.borrow().size < target;
            if is_behind {
                let state = Arc::clone(&self.state);
                let round = tokio::task::spawn_blocking(move || {
                    let outcome = self.round(target);
                    (self, outcome)
                });
                let Ok((this, outcome)) = round.await else {
                    state.stop("the task that publishes checkpoints has broken off".to_owned());
                    return;
                };
                self = this;
                if !self.note(outcome) && is_last {
                    return;
                }
                self.put_beside().await;
            }
            if is_last {
                if self.out.borrow().size == target {
                    return;
                }
                continue;
            }
            if is_behind {
                // Checkpoints are not signed more often than this.
                tokio::time::sleep(self.every).await;
            } else {
                // An error means that the engine has ended; seen at the top.
                let _ended = acked.changed().await;
            }
        }
    }

    /// Keeps the newest checkpoint beside the rows. One that is not kept there is followed by another.
    async fn put_beside(&self) {
        let Some(held) = &self.beside else { return };
        let note = self.out.borrow().note.clone().into_bytes();
        if let Err(error) = held.put_note_once(CHECKPOINT, Some(note)).await {
            tracing::debug!(%error, "the newest checkpoint is not kept beside the rows");
        }
    }

    /// Tells how a round ended, once; whether well.
    fn note(&self, outcome: Result<(), NotPublished>) -> bool {
        let trouble = outcome.err().map(|e| e.to_string());
        let is_well = trouble.is_none();
        if self.state.note_publishing(trouble.clone()) {
            match trouble {
                Some(error) => tracing::error!(error, "no checkpoint can be published; it is tried again"),
                None => tracing::info!("checkpoints are published"),
            }
        }
        is_well
    }

    /// Tiles over leaves up to `target`, as many as fit into the interval, and a checkpoint over those.
    fn round(&mut self, target: u64) -> Result<(), NotPublished> {
        let started = Instant::now();
        while self.tiler.size() < target && started.elapsed() < self.every {
            for (_, leaf) in self.shelf.read(self.tiler.size(), target, BATCH_BYTES)? {
                self.tiler.push(leaf)?;
            }
            self.tiler.write_full()?;
        }
        self.tiler.write_all()?;
        let (size, root) = (self.tiler.size(), self.tiler.root());
        let note = Checkpoint::new(&self.origin, size, root).sign(&*self.signer)?.to_string();
        // The tiles first and the checkpoint last: whoever reads it finds what it covers.
        self.shelf.files.write_checkpoint(&note)?;
        self.out.send_replace(Published { size, root, note });
        self.tiler.drop_partials();
        for tile in self.tiler.take_replaced() {
            tracing::warn!(%tile, "a tile was not what it has to be, and was written again");
        }
        self.metrics.published(size);
        Ok(())
    }
}
