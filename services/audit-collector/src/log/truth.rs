//! Where the log's truth is: in the segments, or in rows of PostgreSQL that the segments are a copy of.

use std::sync::Arc;

use legate_merkle::{Frontier, leaf_hash};

use super::shelf::State;
use crate::ledger::{Batch, Held, NotDone};

/// What makes a group of leaves part of the log. After it, whatever becomes of the process, they are.
#[derive(Debug)]
pub(super) enum Truth {
    /// The segments do: they are written next, and synced.
    Segments,
    /// Rows do: the segments are for those who read.
    Rows(Box<Rows>),
}

/// Rows that are appended to under a lease.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) held: Held,
    /// The tree over all that is committed.
    pub(super) tree: Frontier,
    pub(super) state: Arc<State>,
}

impl Truth {
    /// Whether the segments are a copy.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Rows(_))
    }

    /// Commits leaves behind all others, with the sealed names that they commit to.
    pub(super) async fn commit(&mut self, leaves: &[Vec<u8>], names: Vec<Vec<u8>>) -> Result<(), NotDone> {
        let Self::Rows(rows) = self else { return Ok(()) };
        let mut tree = rows.tree.clone();
        leaves.iter().for_each(|leaf| tree.push(leaf_hash(leaf)));
        let batch = Batch {
            first: rows.tree.size(),
            epoch: rows.held.epoch(),
            previous_root: rows.tree.root(),
            root: tree.root(),
            leaves: leaves.to_vec(),
            names,
        };
        let state = Arc::clone(&rows.state);
        rows.held.commit(batch, |why| state.note_away(why)).await?;
        rows.tree = tree;
        Ok(())
    }

    /// That nobody else has appended anything: what is known of emitters is what there is.
    pub(super) async fn confirm(&self) -> Result<(), NotDone> {
        match self {
            Self::Segments => Ok(()),
            Self::Rows(rows) => rows.held.confirm(|why| rows.state.note_away(why)).await,
        }
    }
}
