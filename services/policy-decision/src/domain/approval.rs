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
const ANNOTATION: &str = "approval";

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

/// What was approved for the agent of this very question, towards one of these; `None`: towards whom is not asked.
pub(crate) fn of(
    snapshot: &Snapshot,
    agent: &Agent,
    question: &Question,
    towards: Option<&[&str]>,
    now: Timestamp,
) -> Vec<Arc<Approval>> {
    let request = question.request();
    let fits = |one: &&Arc<Approval>| {
        one.is_towards(towards) && one.permissions.iter().any(|permission| permission.covers(&request))
    };
    snapshot.approvals_of(agent, now).filter(fits).cloned().collect()
}

/// An approval as a decision names it.
pub(crate) fn cause(approval: &Approval) -> Cause {
    let until = approval.window.not_after().map(|at| Timestamp::from_micros(at).to_string()).unwrap_or_default();
    let text = format!("lets it through until {until}, approved by {}", approval.approver);
    Cause::of(CauseKind::Approval, &approval.label, text)
}

/// What is to be asked for.
pub(crate) fn cure(question: &Question) -> String {
    let Question { action, resource_type, resource_id, .. } = question;
    format!("; ask for an approval of {action} on {resource_type}:{resource_id}")
}
