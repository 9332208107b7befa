//! The copy of a log whose truth is in PostgreSQL: every row is held against the tree before it becomes part of the copy.
//!
//! A collector that stands by keeps its copy up with the rows, so that it has little to read when it takes the lead.

use std::fs::File;

use legate_journal::{Durability, Journal, JournalError};
use legate_merkle::{Frontier, Rotation, leaf_hash};

use super::files::{AckMark, Files};
use super::key::Keys;
use super::publisher::Published;
use super::recover::{LogError, is_of_this_tree, rotation_in};
use super::shelf::Shelf;
use crate::ledger::{Batch, Head, Held, Ledger, NotDone};

/// Under which name the newest checkpoint is kept beside the rows.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// Leaves of the copy that are read at once, in bytes.
const CHUNK: usize = 4 << 20;

/// A copy that follows the rows.
#[derive(Debug)]
pub(crate) struct Copy {
    files: Files,
    lock: File,
    origin: String,
    /// What this directory is called.
    holder: String,
    keys: Keys,
    /// What the rows say of the log's key, as far as they are taken over.
    rotations: Vec<Rotation>,
    journal: Journal,
    ledger: Ledger,
    tree: Frontier,
    epoch: u64,
    /// What was signed of this log, as far as it is known here.
    signed: Vec<Published>,
}

/// A copy that holds every row, and the lease.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(super) held: Held,
    pub(super) lock: File,
    pub(super) tree: Frontier,
}

impl Ground {
    /// The lease.
    pub(crate) fn held(&self) -> &Held {
        &self.held
    }
}

impl Copy {
    /// Opens the copy in a directory, or begins one there, and keeps every other collector out of it. The rows are not looked at yet.
    /// `may_make`: there is no such log yet, so that its key can be made.
    pub(crate) fn open(
        files: Files,
        ledger: Ledger,
        origin: &str,
        segment_bytes: u64,
        may_make: bool,
    ) -> Result<Self, LogError> {
        let lock = super::recover::lock(&files)?;
        let keys = Keys::open(files.dir(), origin, may_make)?;
        let holder = files.holder().map_err(|why| LogError::Io { path: files.dir().to_owned(), why })?;
        let options = Shelf::options(segment_bytes, 0);
        let (journal, _) = Journal::open(&files.segments(), options).map_err(LogError::Copy)?;
        let mut copy = Self {
            files,
            lock,
            origin: origin.to_owned(),
            holder,
            keys,
            rotations: Vec::new(),
            journal,
            ledger,
            tree: Frontier::new(),
            epoch: 0,
            signed: Vec::new(),
        };
        if let Some(note) = copy.files.read_checkpoint().map_err(|why| copy.io(why))? {
            copy.signed.push(copy.keys.open_checkpoint(note)?);
        }
        Ok(copy)
    }

    fn io(&self, why: std::io::Error) -> LogError {
        LogError::Io { path: self.files.dir().to_owned(), why }
    }

    /// The log's public keys, as far as they are known here: the one that signs first, then the one that waits to follow on it, and those
    /// before.
    pub(crate) fn verifier_keys(&self) -> Vec<String> {
        let before = self.keys.chain().keys().map(ToString::to_string);
        self.keys.names().into_iter().chain(before).collect()
    }

    /// What this directory is called; no other one is.
    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }

    /// Takes over every row that there is now.
    pub(crate) async fn pull(&mut self) -> Result<(), LogError> {
        loop {
            let page = self.ledger.batches(self.tree.size()).await.map_err(of_rows)?;
            if page.is_empty() {
                return Ok(());
            }
            for batch in page {
                self.take(batch).await?;
            }
        }
    }

    async fn take(&mut self, batch: Batch) -> Result<(), LogError> {
        let first = self.tree.size();
        let refused = |why| Err(LogError::Row { first, why });
        if batch.first != first {
            return refused("it is missing, or another one is in its place");
        }
        if batch.previous_root != self.tree.root() {
            return refused("it does not follow on those before it");
        }
        if batch.epoch < self.epoch {
            return refused("it was committed in an earlier epoch than those before it");
        }
        let (mut tree, mut rotations) = (self.tree.clone(), Vec::new());
        for leaf in &batch.leaves {
            if let Some(rotation) = rotation_in(leaf, tree.size())? {
                is_of_this_tree(&rotation, tree.root())?;
                rotations.push(rotation);
            }
            tree.push(leaf_hash(leaf));
            if self.signed.iter().any(|signed| signed.size == tree.size() && signed.root != tree.root()) {
                return Err(LogError::Root(tree.size()));
            }
        }
        if tree.root() != batch.root {
            return refused("its events do not make its root: somebody has changed it");
        }
        self.compare(&batch)?;
        let known = usize::try_from(self.journal.next_index().saturating_sub(first)).unwrap_or(usize::MAX);
        let new: Vec<Vec<u8>> = batch.leaves.into_iter().skip(known).collect();
        self.journal.append(new, Durability::Written).await.map_err(LogError::Copy)?;
        (self.tree, self.epoch) = (tree, batch.epoch);
        rotations.into_iter().try_for_each(|rotation| self.hear(rotation))
    }

    /// Takes up that the log's key was rotated. Where the key that follows waits here, it takes over, so that no old one is left on the
    /// disk of a collector that stands by; where it does not, this one cannot lead any more.
    fn hear(&mut self, rotation: Rotation) -> Result<(), LogError> {
        let is_here = self.keys.names().contains(&rotation.to().to_string());
        self.rotations.push(rotation);
        if !is_here || self.rotations.len() < self.keys.chain().rotations().len() {
            return Ok(());
        }
        self.keys.hold_against(&self.rotations)?;
        self.keys.take_over()
    }

    /// Holds a row against what the copy has of it already.
    fn compare(&self, batch: &Batch) -> Result<(), LogError> {
        let (mut at, end) = (batch.first, batch.end().min(self.journal.next_index()));
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX);
            let kept = self.journal.read(at, most, CHUNK).map_err(LogError::Copy)?;
            if kept.is_empty() {
                return Err(LogError::Differs(at));
            }
            for (index, leaf) in kept {
                let row = usize::try_from(index - batch.first).ok().and_then(|n| batch.leaves.get(n));
                if row != Some(&leaf) {
                    return Err(LogError::Differs(index));
                }
                at = index + 1;
            }
        }
        Ok(())
    }

    /// Everything that is to be had under a lease: the copy holds every row, all that was signed is in it, and the head fits.
    pub(crate) async fn complete(mut self, held: Held, head: Head) -> Result<Ground, LogError> {
        // All rows first: they say which keys signed when.
        self.pull().await?;
        self.keys.hold_against(&self.rotations)?;
        // What the one before signed last; it is in the rows, or the rows are not what they were.
        if let Some(note) = self.ledger.note(CHECKPOINT).await.map_err(of_rows)? {
            let newest = self.keys.open_checkpoint(note)?;
            if newest.size <= self.tree.size() && !self.was(&newest).map_err(LogError::Copy)? {
                return Err(LogError::Root(newest.size));
            }
            if self.signed.iter().all(|signed| signed.size < newest.size) {
                self.files.write_checkpoint(&newest.note).map_err(|why| self.io(why))?;
            }
            self.signed.push(newest);
        }
        let mark = AckMark::open(&self.files).and_then(|mark| mark.read()).map_err(|why| self.io(why))?;
        let wanted = self.signed.iter().map(|signed| signed.size).chain(mark).chain([self.journal.next_index()]).max();
        let found = self.tree.size();
        if let Some(wanted) = wanted.filter(|wanted| *wanted > found) {
            return Err(LogError::RolledBack { found, wanted });
        }
        if (head.size, head.root) != (found, self.tree.root()) {
            return Err(LogError::RolledBack { found, wanted: head.size });
        }
        if self.signed.is_empty() && !self.rotations.is_empty() {
            // The key that signs now does not sign for the empty log.
            return Err(LogError::CheckpointGone);
        }
        if self.signed.is_empty() {
            super::recover::begin(&self.files, &self.keys, &self.origin)?;
        }
        self.journal.append(Vec::new(), Durability::Synced).await.map_err(LogError::Copy)?;
        let Self { lock, tree, journal, .. } = self;
        // It is opened again by whoever reads the log.
        let closing = tokio::task::spawn_blocking(move || drop(journal));
        closing.await.map_err(|e| LogError::Broken(e.to_string()))?;
        Ok(Ground { held, lock, tree })
    }

    /// Whether a checkpoint is of a beginning of the tree that was pulled.
    fn was(&self, checkpoint: &Published) -> Result<bool, JournalError> {
        let mut tree = Frontier::new();
        while tree.size() < checkpoint.size {
            let most = usize::try_from(checkpoint.size - tree.size()).unwrap_or(usize::MAX).min(8_192);
            let leaves = self.journal.read(tree.size(), most, CHUNK)?;
            if leaves.is_empty() {
                return Ok(false);
            }
            leaves.iter().for_each(|(_, leaf)| tree.push(leaf_hash(leaf)));
        }
        Ok(tree.root() == checkpoint.root)
    }
}

/// Why rows cannot be read, to whoever opens the log.
pub(super) fn of_rows(e: NotDone) -> LogError {
    LogError::Rows(e.to_string())
}
