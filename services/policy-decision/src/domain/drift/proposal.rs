//! A smaller grant: what an agent would keep if what is unused were taken from it, as a ceiling of its own.

use std::collections::BTreeSet;

use legate_view::{Agent, Snapshot};

use super::evidence::Silence;
use super::granted::granted;
use super::{Finding, Known, Terms, at_work, silence, words};
use crate::domain::preview::cells::Cell;

/// Entries of a ceiling that may be declared.
const MOST: usize = 256;

/// What would be kept and lost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proposal {
    /// Nothing, where something is lost: all of it is unused, and no ceiling says so, since one without entries cuts nothing.
    pub(crate) keep: Vec<Cell>,
    /// Nothing: there is nothing to take away.
    pub(crate) lose: Vec<Finding>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotProposed {
    /// The ceiling would have more entries than may be declared, or not all that it has was looked at.
    TooMuch,
}

/// Keeps whatever is used, or too young to be judged, or given outside of its window, as far as it is below the ceilings now. An
/// agent that makes or delegates keeps what those below it and those that act for it use.
pub(crate) fn propose(
    snapshot: &Snapshot,
    agent: &Agent,
    known: &Known,
    terms: &Terms<'_>,
) -> Result<Proposal, NotProposed> {
    let all = granted(snapshot, agent, terms.now);
    if all.is_partial {
        return Err(NotProposed::TooMuch);
    }
    let at_work = at_work(snapshot, agent, known, terms.now);
    let (mut keep, mut unused): (BTreeSet<Cell>, Vec<(BTreeSet<Cell>, Finding)>) = (BTreeSet::new(), Vec::new());
    for one in all.granted {
        let found = one.since.map(|available| silence(known, &one, available.max(at_work), terms));
        match found {
            // What is above a ceiling is lost already.
            Some(Silence::Long { .. }) if one.left.is_empty() => {}
            Some(Silence::Long { since, threshold }) => {
                let finding = words::unused(agent, &one, known.uses(&one.cell), since, threshold);
                unused.push((one.left, finding));
            }
            _ => keep.extend(one.left),
        }
    }
    // What something else gives that is used stays, whoever else gives it.
    let is_lost = |left: &BTreeSet<Cell>| left.iter().any(|cell| !keep.iter().any(|kept| kept.covers(cell)));
    let lose: Vec<Finding> = unused.into_iter().filter(|(left, _)| is_lost(left)).map(|(_, finding)| finding).collect();
    if lose.is_empty() {
        return Ok(Proposal::default());
    }
    // What lies within another entry is kept by that.
    let whole: Vec<Cell> = keep.into_iter().collect();
    let within = |one: &Cell| whole.iter().any(|other| other != one && other.covers(one) && !one.covers(other));
    let keep: Vec<Cell> = whole.iter().filter(|one| !within(one)).cloned().collect();
    if keep.len() > MOST { Err(NotProposed::TooMuch) } else { Ok(Proposal { keep, lose }) }
}
