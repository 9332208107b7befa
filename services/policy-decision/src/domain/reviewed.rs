//! Whether what agents may do is what was decided in a round of access reviews: what rests on what was taken, what goes beyond what was
//! certified, and what a round gave or took that it was not to.

use std::collections::BTreeSet;
use std::sync::Arc;

use legate_authority::Permission;
use legate_wire::registry as wire;
use wire::{RemediationState, ReviewDecision, ReviewItem, ReviewedThing};

use super::answer::CauseKind;
use super::entitled::Entitled;
use super::preview::cells::{self, Cell};
use super::preview::outlook::Holds;

#[cfg(test)]
mod tests;

/// What an agent may do at some moment, taken for ACTIVE.
#[derive(Clone, Debug, Default)]
pub(crate) struct Able {
    pub(crate) all: Vec<Entitled>,
    /// It does nothing of that.
    pub(crate) is_stopped: bool,
    /// So much was not looked at.
    pub(crate) left_out: u32,
}

/// What an agent could do before a round wrote something of it, and after that.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) revision: u64,
    pub(crate) before: Arc<Able>,
    pub(crate) after: Arc<Able>,
}

fn permission(cell: &Cell) -> wire::Permission {
    wire::Permission { action: cell.action.clone(), resource: Some(cell.selector()) }
}

fn all_of(some: &[wire::Permission]) -> Vec<Permission> {
    some.iter().filter_map(cells::permission).collect()
}

/// Whether one of all includes it. What cannot be read is in nothing.
pub(crate) fn is_within(one: &wire::Permission, all: &[Permission]) -> bool {
    cells::permission(one).is_some_and(|one| all.iter().any(|of| of.includes(&one)))
}

/// Whether an item says that the agent has it.
fn is_certified(one: &wire::Permission, item: &ReviewItem) -> bool {
    let on =
        |resource: &wire::ResourceSelector| wire::Permission { action: "*".into(), resource: Some(resource.clone()) };
    let resources: Vec<wire::Permission> = item.resources.iter().map(on).collect();
    is_within(one, &all_of(&item.permissions)) && (resources.is_empty() || is_within(one, &all_of(&resources)))
}

/// What stays of a grant as was decided.
fn stays(item: &ReviewItem) -> &[wire::Permission] {
    match item.decision() {
        ReviewDecision::Certify => &item.permissions,
        ReviewDecision::Reduce => &item.keep,
        _ => &[],
    }
}

/// What is left of a grant beyond what was to stay.
pub(crate) fn left_beyond(item: &ReviewItem, left: &[wire::Permission]) -> Option<String> {
    let stays = all_of(stays(item));
    let beyond = left.iter().find(|one| !is_within(one, &stays))?;
    Some(format!("the grant still gives {}", text_of(beyond)))
}

/// What was to go of a grant.
pub(crate) fn gone(item: &ReviewItem) -> impl Iterator<Item = &wire::Permission> {
    let stays = all_of(stays(item));
    item.permissions.iter().filter(move |one| !is_within(one, &stays))
}

/// A permission as it is told.
pub(crate) fn text_of(one: &wire::Permission) -> String {
    cells::permission(one).map_or_else(|| one.action.clone(), |one| Cell::of(&one).to_string())
}

/// What was found already when the round was written.
pub(crate) fn failed(item: &ReviewItem) -> Option<String> {
    let of = item.remediation.as_ref()?;
    match of.state() {
        RemediationState::Failed => Some(format!("it could not be changed: {}", of.told)),
        RemediationState::Outgrown => Some(of.told.clone()),
        _ => None,
    }
}

/// What is otherwise than was decided, by what an agent may do at some moment.
pub(crate) fn as_decided(item: &ReviewItem, then: &Able) -> Option<String> {
    match item.reviewed() {
        ReviewedThing::DelegationGrant | ReviewedThing::Unspecified => None,
        _ if item.decision() == ReviewDecision::Certify => more(item, then),
        ReviewedThing::RoleBinding => still_there(item, then),
        ReviewedThing::AgentClass => (!then.is_stopped).then(|| "the agent works".to_owned()),
    }
}

/// What the writes of the round gave, or took of what was to stay. `all`: every item of the agent.
pub(crate) fn by_the_round(item: &ReviewItem, all: &[ReviewItem], written: &[Written]) -> Option<String> {
    let is_kept = item.decision() == ReviewDecision::Certify;
    let is_binding = item.reviewed() == ReviewedThing::RoleBinding;
    let lost = || written.iter().filter(|_| is_kept && is_binding).find_map(|written| lost(item, all, written));
    let gained = || {
        let gains = |written: &Written| new_in(&written.before, &written.after);
        written.iter().filter(|_| is_kept || is_binding).find_map(gains)
    };
    lost().or_else(|| gained().map(|what| format!("the agent may {what} and could not before")))
}

/// What the agent may do in the one and not in the other.
pub(crate) fn new_in(before: &Able, after: &Able) -> Option<String> {
    let before: Vec<Permission> =
        before.all.iter().filter_map(|one| cells::permission(&permission(&one.cell))).collect();
    after.all.iter().find(|one| !is_within(&permission(&one.cell), &before)).map(|one| one.cell.to_string())
}

fn name_of(item: &ReviewItem, name: &str) -> String {
    format!("{}/{name}", item.namespace)
}

/// What the agent may do by something.
fn by<'a>(able: &'a Able, kind: CauseKind, name: &str) -> impl Iterator<Item = &'a Entitled> {
    able.all.iter().filter(move |one| one.causes.iter().any(|cause| cause.kind == kind && cause.name == name))
}

/// What the agent may do by something that it keeps, and nobody certified.
fn more(item: &ReviewItem, now: &Able) -> Option<String> {
    let (kind, what) = match item.reviewed() {
        ReviewedThing::RoleBinding => (CauseKind::Binding, "binding"),
        ReviewedThing::AgentClass => (CauseKind::Class, "class"),
        ReviewedThing::DelegationGrant | ReviewedThing::Unspecified => return None,
    };
    let name = name_of(item, &item.granted);
    let one = by(now, kind, &name).find(|one| !is_certified(&permission(&one.cell), item))?;
    Some(format!("the agent may {} by the {what} {}, which nobody certified", one.cell, item.granted))
}

/// What was taken and is still there.
fn still_there(item: &ReviewItem, now: &Able) -> Option<String> {
    if let Some(one) = by(now, CauseKind::Binding, &name_of(item, &item.granted)).next() {
        return Some(format!("the agent may {} by the binding {}", one.cell, item.granted));
    }
    let reduced = item.remediation.as_ref().map(|of| of.reduced_to.as_str()).filter(|name| !name.is_empty())?;
    let keep = all_of(&item.keep);
    let is_kept = |one: &wire::Permission| is_within(one, &keep) && is_certified(one, item);
    let name = name_of(item, reduced);
    let beyond = by(now, CauseKind::Binding, &name).find(|one| !is_kept(&permission(&one.cell)))?;
    Some(format!("the agent may {} by the binding {reduced}, which was not to stay", beyond.cell))
}

/// What the agent could do by something that it keeps, and no longer by anything once the round was written.
fn lost(item: &ReviewItem, all: &[ReviewItem], written: &Written) -> Option<String> {
    // An agent that was suspended for its class does nothing, whatever it keeps; what it could do is told all the same.
    let after: Vec<Permission> =
        written.after.all.iter().filter_map(|one| cells::permission(&permission(&one.cell))).collect();
    let taken: BTreeSet<String> = all
        .iter()
        .filter(|other| other.decision() != ReviewDecision::Certify)
        .map(|other| name_of(other, &other.granted))
        .collect();
    let name = name_of(item, &item.granted);
    let kept = by(&written.before, CauseKind::Binding, &name);
    let kept = kept.filter(|one| matches!(one.holds, Holds::Always) && one.until.is_none());
    let mut kept = kept.filter(|one| !one.causes.iter().any(|cause| taken.contains(&cause.name)));
    let gone = kept.find(|one| !is_within(&permission(&one.cell), &after))?;
    Some(format!("the agent may no longer {}, which it was to keep", gone.cell))
}
