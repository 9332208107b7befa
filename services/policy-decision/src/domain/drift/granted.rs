//! Everything that an agent was given, each permission once: what gives it, since when, and what the ceilings leave of it.

use std::collections::{BTreeMap, BTreeSet};

use legate_authority::{Grant, ResourceSelector};
use legate_clock::Timestamp;
use legate_view::{Agent, CeilingOf, Snapshot, Source};

use crate::domain::answer::{Cause, CauseKind};
use crate::domain::preview::cells::{Cell, LEFT, MOST};

/// One permission.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) cell: Cell,
    /// What gives it.
    pub(crate) sources: Vec<Cause>,
    /// Since when something has given it as it does now; `None`: nothing gives it at this moment.
    pub(crate) since: Option<Timestamp>,
    /// What of it is below every ceiling.
    pub(crate) left: BTreeSet<Cell>,
}

/// What an agent was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct All {
    pub(crate) granted: Vec<Granted>,
    /// Whether there is more than is looked at, or a ceiling is not known.
    pub(crate) is_partial: bool,
}

/// Everything that the agent is given, in or out of its windows.
pub(crate) fn granted(snapshot: &Snapshot, agent: &Agent, now: Timestamp) -> All {
    let mut all = All::default();
    let Some(ceilings) = snapshot.ceilings_of(agent) else {
        all.is_partial = true;
        return all;
    };
    let mut seen: BTreeMap<Cell, (Vec<Cause>, Option<Timestamp>)> = BTreeMap::new();
    for grant in snapshot.grants_of(agent) {
        let since = since(&grant, now);
        for permission in grant.permissions {
            let whole = Cell::of(permission);
            let narrowed: Vec<Cell> = match grant.narrowing {
                None => vec![whole],
                Some(narrowing) => narrowing.iter().filter_map(|selector| whole.meet(selector)).collect(),
            };
            for cell in narrowed {
                if seen.len() >= MOST && !seen.contains_key(&cell) {
                    all.is_partial = true;
                    continue;
                }
                let (sources, first) = seen.entry(cell).or_default();
                let cause = cause(&grant.source);
                if !sources.contains(&cause) {
                    sources.push(cause);
                }
                // What several give it has had since the first of them.
                *first = match (*first, since) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            }
        }
    }
    for (cell, (sources, since)) in seen {
        let mut left = BTreeSet::from([cell.clone()]);
        for (_, ceiling) in &ceilings {
            let parts = left.iter().flat_map(|one| ceiling.entries().iter().filter_map(|entry| one.below(entry)));
            let below: BTreeSet<Cell> = parts.take(LEFT + 1).collect();
            all.is_partial |= below.len() > LEFT;
            left = below;
        }
        all.granted.push(Granted { cell, sources, since, left });
    }
    all
}

/// Whether anything that the agent is given speaks of some resources of a type and not of others, by their ids.
pub(crate) fn is_of_some(snapshot: &Snapshot, agent: &Agent) -> bool {
    let names = |selector: &ResourceSelector| selector.id().as_ref() != "*";
    snapshot.grants_of(agent).any(|grant| {
        let of_binding = grant.narrowing.is_some_and(|narrowing| narrowing.iter().any(names));
        of_binding || grant.permissions.iter().any(|permission| names(permission.resource()))
    })
}

/// Since when it gives what it gives now, where it does at this moment: it may have given it before its last write, but nobody
/// can say so here.
fn since(grant: &Grant<'_, Source>, now: Timestamp) -> Option<Timestamp> {
    if !grant.window.holds_at(now.micros()) {
        return None;
    }
    let written = match &grant.source {
        Source::Class(class) => class.label.updated,
        Source::Binding(binding, role, group) => {
            let updated = binding.label.updated.max(role.label.updated);
            group.as_ref().map_or(updated, |group| updated.max(group.label.updated))
        }
    };
    let begins = grant.window.not_before().map(Timestamp::from_micros);
    Some(begins.map_or(written, |begins| begins.max(written)))
}

fn cause(source: &Source) -> Cause {
    match source {
        Source::Class(class) => Cause::of(CauseKind::Class, &class.label, "gives it"),
        Source::Binding(binding, role, _) => {
            Cause::of(CauseKind::Binding, &binding.label, format!("gives it (role {})", role.label))
        }
    }
}

/// The ceilings that leave nothing of a permission.
pub(crate) fn cut_by(snapshot: &Snapshot, agent: &Agent, cell: &Cell) -> Vec<Cause> {
    let ceilings = snapshot.ceilings_of(agent).unwrap_or_default();
    let cutting =
        ceilings.into_iter().filter(|(_, ceiling)| ceiling.entries().iter().all(|entry| cell.below(entry).is_none()));
    let text = "leaves nothing of it";
    cutting
        .map(|(of, _)| match of {
            CeilingOf::Class(label) => Cause::of(CauseKind::Ceiling, label, text),
            CeilingOf::Agent(agent) => Cause::of_agent(CauseKind::Ceiling, agent, text),
        })
        .collect()
}
