//! Equal changes of many agents, told once with their number and some of their names.

use std::collections::BTreeMap;

use legate_clock::Timestamp;
use legate_wire::policy as wire;

use crate::convert;
use crate::domain::answer::{Cause, CauseKind};
use crate::domain::preview::cells::Cell;
use crate::domain::preview::compare::{Difference, Effect};

/// Entries that are told.
pub(super) const MOST: usize = 2_000;
/// Names that are told of one entry.
pub(super) const NAMES: usize = 20;

/// What makes changes equal.
type Key = (String, String, Effect, Cell, Option<Timestamp>, Option<Timestamp>, Vec<String>, Vec<String>);

#[derive(Debug)]
struct Group {
    agents: Vec<String>,
    count: u32,
    reasons: Vec<wire::Reason>,
    depends_on: Vec<wire::Reason>,
}

/// The changes of all agents so far.
#[derive(Debug, Default)]
pub(super) struct Groups {
    all: BTreeMap<Key, Group>,
    more: usize,
}

impl Groups {
    /// `behalf` is for whom the agent acts; empty: for itself.
    pub(super) fn add(&mut self, namespace: &str, (agent, behalf): (&str, &str), differences: Vec<Difference>) {
        if agent.is_empty() {
            return;
        }
        for one in differences {
            // What speaks of the agent itself would make a group of each.
            let causes: Vec<&Cause> = one.causes.iter().filter(|c| c.kind != CauseKind::AgentState).collect();
            let lines = causes.iter().map(|cause| cause.line()).collect();
            let on = one.depends.iter().map(|on| on.cause.line()).collect();
            let key = (namespace.to_owned(), behalf.to_owned(), one.effect, one.cell, one.from, one.until, lines, on);
            if !self.all.contains_key(&key) && self.all.len() >= MOST {
                self.more += 1;
                continue;
            }
            let group = self.all.entry(key).or_insert_with(|| Group {
                agents: Vec::new(),
                count: 0,
                reasons: causes.iter().map(|cause| convert::reason(cause)).collect(),
                depends_on: one.depends.iter().map(|on| convert::reason(&on.cause)).collect(),
            });
            group.count += 1;
            if group.agents.len() < NAMES {
                group.agents.push(agent.to_owned());
            }
        }
    }

    /// The entries, and how many changes are in none.
    pub(super) fn told(self) -> (Vec<wire::AccessChange>, usize) {
        let told = self.all.into_iter().map(|((namespace, on_behalf_of, effect, cell, from, until, ..), group)| {
            wire::AccessChange {
                effect: word(effect).into(),
                namespace,
                action: cell.action.clone(),
                resource: Some(cell.selector()),
                agent_count: group.count,
                agents: group.agents,
                reasons: group.reasons,
                depends_on: group.depends_on,
                from: from.map(Into::into),
                until: until.map(Into::into),
                on_behalf_of,
            }
        });
        (told.collect(), self.more)
    }
}

fn word(effect: Effect) -> wire::AccessEffect {
    match effect {
        Effect::Gains => wire::AccessEffect::Gains,
        Effect::Loses => wire::AccessEffect::Loses,
        Effect::Widens => wire::AccessEffect::Widens,
        Effect::Narrows => wire::AccessEffect::Narrows,
        Effect::DependsOtherwise => wire::AccessEffect::DependsOtherwise,
    }
}
