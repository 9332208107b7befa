//! Access reviews as arithmetic: when a round starts, who may decide, and what a decision changes.

mod changes;
pub(crate) mod evidence;
mod granted;
mod less;
mod remedy;
mod reviewers;

use std::time::Duration;

use legate_clock::Timestamp;
use legate_wire::registry::{
    OnSilence, Permission, Review, ReviewCampaignSpec, ReviewDecision, ReviewItem, ReviewState, ReviewedThing,
};

use super::delegation::permission;

pub(crate) use changes::{Changes, Now, changes, text};
pub(crate) use granted::{Span, permissions_of, resources_of, window_of};
pub(crate) use less::is_only_less;
pub(crate) use remedy::{Cut, Done, Remedy, narrowed, of_binding};
pub(crate) use reviewers::{barred, escalation, operators_of, reviewers};

/// How long a round waits after it was due, where the campaign does not say.
const USUAL_GRACE: Duration = Duration::from_secs(7 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

/// The moment for which a round is due to start by the clock: the latest one that had none. Those before it are left out, so that a
/// registry that was down asks once.
pub(crate) fn due_slot(
    spec: &ReviewCampaignSpec,
    declared: Timestamp,
    last: Option<i64>,
    now: Timestamp,
) -> Option<Timestamp> {
    let every = DAY.saturating_mul(spec.every_days);
    let stated = spec.start_time.and_then(|at| Timestamp::try_from(at).ok());
    let first = stated.or_else(|| (!every.is_zero()).then_some(declared))?;
    if now < first {
        return None;
    }
    let slot = match every.as_micros() {
        0 => first,
        every => {
            let rounds = now.since(first).as_micros() / every;
            first.plus(Duration::from_micros(u64::try_from(rounds * every).unwrap_or(u64::MAX)))
        }
    };
    last.is_none_or(|last| last < slot.micros()).then_some(slot)
}

/// Until when reviewers have, and when a round that starts at `now` closes by itself.
pub(crate) fn ends(spec: &ReviewCampaignSpec, now: Timestamp) -> (Timestamp, Timestamp) {
    let span = |of: Option<prost_types::Duration>| of.and_then(|of| Duration::try_from(of).ok());
    let due = now.plus(span(spec.due).unwrap_or_default());
    (due, due.plus(span(spec.grace).unwrap_or(USUAL_GRACE)))
}

/// Whether a round asks about things of this kind.
pub(crate) fn asks_about(spec: &ReviewCampaignSpec, thing: ReviewedThing) -> bool {
    spec.reviews.is_empty() || spec.reviews.contains(&(thing as i32))
}

/// Whether a round that is due passes on to those of `escalation`.
pub(crate) fn escalates(spec: &ReviewCampaignSpec) -> bool {
    spec.on_silence() == OnSilence::Escalate
}

/// Whether a round is open after it was due.
pub(crate) fn is_late(review: &Review, now: Timestamp) -> bool {
    let due = review.due_time.and_then(|at| Timestamp::try_from(at).ok());
    review.state() == ReviewState::Open && due.is_some_and(|due| due <= now)
}

/// A decision in a word.
pub(crate) fn word(decision: ReviewDecision) -> &'static str {
    match decision {
        ReviewDecision::Unspecified => "PENDING",
        ReviewDecision::Certify => "CERTIFY",
        ReviewDecision::Reduce => "REDUCE",
        ReviewDecision::Revoke => "REVOKE",
        ReviewDecision::Reassign => "REASSIGN",
    }
}

/// What is reviewed, in a word.
pub(crate) fn thing(reviewed: ReviewedThing) -> &'static str {
    match reviewed {
        ReviewedThing::Unspecified => "thing",
        ReviewedThing::RoleBinding => "RoleBinding",
        ReviewedThing::AgentClass => "AgentClass",
        ReviewedThing::DelegationGrant => "DelegationGrant",
    }
}

/// How to see why the agent has it.
pub(crate) fn explain(item: &ReviewItem) -> String {
    let agent = format!("{}/{}", item.namespace, item.agent);
    let one = item.permissions.iter().find(|one| !one.action.contains('*'));
    match (item.reviewed(), one) {
        (ReviewedThing::DelegationGrant, Some(one)) => {
            let of = one.resource.as_ref().map(|of| of.r#type.as_str()).unwrap_or_default();
            let action = &one.action;
            format!("legate explain --agent {agent} --action {action} --resource {of}:ID --on-behalf-of {}", item.role)
        }
        _ => format!("legate what-can --agent {agent}"),
    }
}

/// Why what is to stay of some permissions is no part of them: each has to be within one of them, and something has to go.
pub(crate) fn why_no_part(keep: &[Permission], of: &[Permission]) -> Option<String> {
    if keep.is_empty() {
        return Some("is empty; give what stays, or revoke it".to_owned());
    }
    let whole: Vec<_> = of.iter().filter_map(permission).collect();
    let mut kept = Vec::new();
    for (n, one) in keep.iter().enumerate() {
        match permission(one) {
            Some(one) if whole.iter().any(|of| of.includes(&one)) => kept.push(one),
            Some(_) => return Some(format!("[{n}] is within no permission of the item")),
            None => return Some(format!("[{n}] is no permission")),
        }
    }
    let is_all = whole.iter().all(|of| kept.iter().any(|kept| kept.includes(of)));
    is_all.then(|| "is all that the item gives; certify it".to_owned())
}

#[cfg(test)]
mod tests;
