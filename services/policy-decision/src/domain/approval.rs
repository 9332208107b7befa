//! Policies that hold something back until a person approves it, and the approvals that lift them.
//!
//! Such a policy is a `forbid` with the annotation `@approval("...")`. Whoever does not know the annotation, reads it
//! wrongly or finds no approval is left with a forbid.

use std::sync::Arc;

use cedar_policy::{Effect, Policy};
use legate_clock::Timestamp;
use legate_view::{Agent, Approval, Snapshot};

use super::answer::{Cause, CauseKind};
use super::question::Question;

/// The annotation's name.
pub(crate) const ANNOTATION: &str = "approval";
/// How many people have to agree, beside it.
const APPROVERS: &str = "approvers";
/// Whether what is approved counts once.
const SINGLE_USE: &str = "single_use";

/// Whether an approval is what a policy asks for, by the policy's own words: it was given by as many people, and counts once
/// where that is said. A number that cannot be read is one that nobody reaches; the registry takes no such policy.
pub(crate) fn suffices(rule: &Policy, approval: &Approval) -> bool {
    let approvers = match rule.annotation(APPROVERS) {
        None | Some("1") => 1,
        Some("2") => 2,
        Some("3") => 3,
        Some(_) => usize::MAX,
    };
    approval.approvers.len() >= approvers && (approval.single_use || rule.annotation(SINGLE_USE).is_none())
}

/// Which of several approvals a decision rests on: one that counts as often as it is asked before one that counts once, and then
/// the one that holds longest, so that an answer is not good for less than it could be.
pub(crate) fn rank(approval: &Approval) -> impl Ord + use<> {
    (!approval.single_use, approval.window.not_after())
}

/// What is to be approved, in the annotation's words; `None`: the policy holds nothing back in this way.
///
/// # Errors
/// On a permit it would be read as a condition, and it is none; without a text nobody knows what is asked for.
pub(crate) fn annotation(rule: &Policy) -> Result<Option<&str>, String> {
    match (rule.annotation(ANNOTATION), rule.effect()) {
        (None, _) => Ok(None),
        (Some(_), Effect::Permit) => Err("it has @approval on a permit, where it would hold nothing back".into()),
        (Some(text), Effect::Forbid) if text.trim().is_empty() => Err("it has @approval without a text".into()),
        (Some(text), Effect::Forbid) => Ok(Some(text)),
    }
}

/// What was approved for the agent of this very question, towards one of these; `None`: towards whom is not asked. Where it
/// can be towards several, what was approved towards one alone does not count: another link might be for another.
pub(crate) fn of(
    snapshot: &Snapshot,
    agent: &Agent,
    question: &Question,
    towards: Option<&[&str]>,
    now: Timestamp,
) -> Vec<Arc<Approval>> {
    let request = question.request();
    let fits = |one: &&Arc<Approval>| {
        let is_sure = one.audience.is_none() || towards.is_none_or(|all| all.len() == 1);
        is_sure && one.is_towards(towards) && one.permissions.iter().any(|permission| permission.covers(&request))
    };
    snapshot.approvals_of(agent, now).filter(fits).cloned().collect()
}

/// Those of several audiences towards which alone something was approved for one of the agents.
pub(crate) fn audiences<'a, 'g>(
    snapshot: &Snapshot,
    agents: impl Iterator<Item = &'g Arc<Agent>>,
    towards: &[&'a str],
    now: Timestamp,
) -> Vec<&'a str> {
    if towards.len() < 2 {
        return Vec::new();
    }
    let all: Vec<_> = agents.flat_map(|agent| snapshot.approvals_of(agent, now).cloned().collect::<Vec<_>>()).collect();
    let is_named = |audience: &str| all.iter().any(|one| one.audience.as_deref() == Some(audience));
    towards.iter().copied().filter(|audience| is_named(audience)).collect()
}

/// An approval as a decision names it.
pub(crate) fn cause(approval: &Approval) -> Cause {
    let until = approval.window.not_after().map(|at| Timestamp::from_micros(at).to_string()).unwrap_or_default();
    let by = approval.approvers.iter().map(String::as_str).collect::<Vec<_>>().join(" and ");
    let once = if approval.single_use { "once, " } else { "" };
    let text = format!("lets it through {once}until {until}, approved by {by}");
    Cause::of(CauseKind::Approval, &approval.label, text)
}

/// What is to be asked for.
pub(crate) fn cure(question: &Question) -> String {
    let Question { action, resource_type, resource_id, .. } = question;
    format!("; ask for an approval of {action} on {resource_type}:{resource_id}")
}
