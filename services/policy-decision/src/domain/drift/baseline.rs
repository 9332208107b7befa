//! What people last approved of an agent, and whether what it is given goes beyond it.

use std::collections::BTreeSet;

use legate_clock::Timestamp;

use super::granted::Granted;
use crate::domain::answer::CauseKind;
use crate::domain::preview::cells::Cell;

/// Who approved something, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Approval {
    pub(crate) time: Option<Timestamp>,
    /// Empty: nobody decided, and silence did.
    pub(crate) by: String,
    /// The round of a review; empty: it was approved with the agent.
    pub(crate) review: String,
}

/// What was approved of an agent. Nothing: nobody ever approved anything of it, and nothing is found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Baseline {
    /// Of which kinds of things everything was looked at.
    kinds: Vec<CauseKind>,
    approved: BTreeSet<Cell>,
    latest: Approval,
}

impl Baseline {
    /// One more thing that was decided about.
    pub(crate) fn add(&mut self, kind: CauseKind, cells: impl IntoIterator<Item = Cell>, approval: Approval) {
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
        }
        self.approved.extend(cells);
        if approval > self.latest {
            self.latest = approval;
        }
    }

    /// The last approval, where a permission goes beyond what was approved. What something of a kind gives that nobody looked at is not judged:
    /// it may never have been a question.
    pub(super) fn beyond(&self, one: &Granted) -> Option<&Approval> {
        if self.kinds.is_empty() || !one.sources.iter().all(|source| self.kinds.contains(&source.kind)) {
            return None;
        }
        let is_within = |cell: &Cell| self.approved.iter().any(|approved| approved.covers(cell));
        let is_beyond = !is_within(&one.cell) && one.left.iter().any(|cell| !is_within(cell));
        is_beyond.then_some(&self.latest)
    }
}
