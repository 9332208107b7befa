//! What became of a question: a permit can be had from an ALLOW and from nothing else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use legate_rpc::Told;
use legate_wire::policy as wire;

/// No view of the registry decides that is older, and no answer is believed that may rest on an older one.
const BOUND: Duration = Duration::from_secs(5);

/// Whether an answer that came `after` so long, from a view of this age, may still be believed.
pub(super) fn is_fresh(age: Option<&prost_types::Duration>, after: Duration) -> bool {
    let age = age.and_then(|age| Duration::try_from(*age).ok());
    age.is_some_and(|age| age.saturating_add(after) <= BOUND)
}

/// What became of a question.
#[must_use = "only an ALLOW lets anything happen"]
#[derive(Clone, Debug)]
pub enum Decided {
    /// It may.
    Allowed(Permit),
    /// It may not.
    Denied(Denied),
    /// It is not known, so it may not.
    Undecided(Undecided),
}

impl Decided {
    /// The permit, which is there when it was allowed.
    ///
    /// # Errors
    /// Why there is none.
    pub fn permit(self) -> Result<Permit, NotAllowed> {
        match self {
            Self::Allowed(permit) => Ok(permit),
            Self::Denied(denied) => Err(NotAllowed::Denied(denied)),
            Self::Undecided(undecided) => Err(NotAllowed::Undecided(undecided)),
        }
    }

    /// Reads an answer that came `after` so long to a question about `at_least` this revision.
    pub(super) fn of(answer: wire::EvaluateResponse, at_least: u64, after: Duration) -> Self {
        if answer.decision() == wire::Decision::Allow && answer.denial() == wire::Denial::Unspecified {
            if answer.revision < at_least || !is_fresh(answer.view_age.as_ref(), after) {
                return Self::Undecided(Undecided::stale());
            }
            return Self::Allowed(Permit(Arc::new(answer)));
        }
        if answer.denial() == wire::Denial::Undecided {
            return Self::Undecided(Undecided::new(Why::NotAble, &answer.reason_code, &answer.message));
        }
        Self::Denied(Denied { reason: answer.reason_code, message: answer.message, decision_id: answer.decision_id })
    }
}

/// It was allowed, and this says on what grounds. Only an ALLOW of policy-decision makes one. It stands for one request: it is not
/// to be kept for the next.
#[derive(Clone, PartialEq)]
pub struct Permit(Arc<wire::EvaluateResponse>);

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("agent", &self.agent_id()).field("decision", &self.decision_id()).finish()
    }
}

impl Permit {
    /// The agent that may, `agt_...`.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        &self.0.agent_id
    }

    /// For whom it acts: `user:NAME`, or an agent's id; `None`: for itself.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        Some(self.0.subject.as_str()).filter(|subject| !subject.is_empty())
    }

    /// Who acts and who acted before it, newest first, by agent id; empty where the agent acts for itself.
    #[must_use]
    pub fn chain(&self) -> &[String] {
        &self.0.chain
    }

    /// Names the decision in the audit log, `dec_...`.
    #[must_use]
    pub fn decision_id(&self) -> &str {
        &self.0.decision_id
    }

    /// The registry's revision that it was decided at.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.0.revision
    }

    /// The whole answer.
    #[must_use]
    pub fn answer(&self) -> &wire::EvaluateResponse {
        &self.0
    }
}

/// It may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Denied {
    /// The stable word, as in docs/errors.md: `NOT_PERMITTED`, `AGENT_SUSPENDED`, `TOKEN_EXPIRED`.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// Names the decision in the audit log, `dec_...`.
    pub decision_id: String,
}

/// Why it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No answer came within the deadline, or one that is not believed any more.
    Late,
    /// No policy-decision is reached, or it was lost before it answered.
    Unreachable,
    /// policy-decision answered that it cannot decide now.
    NotAble,
    /// policy-decision does not take the question: it breaks the grammar, or the caller has no right to ask it.
    Refused,
}

/// It is not known, so it may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Undecided {
    /// Why it is not known.
    pub why: Why,
    /// The stable word: of docs/errors.md, such as `STALE`, or `DEADLINE_EXCEEDED`, `UNREACHABLE`.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
}

impl Undecided {
    pub(super) fn new(why: Why, reason: &str, message: impl Into<String>) -> Self {
        Self { why, reason: reason.to_owned(), message: message.into() }
    }

    pub(super) fn stale() -> Self {
        Self::new(Why::Late, "STALE", "the answer rests on an older state than was asked for, or came too late")
    }

    pub(super) fn late() -> Self {
        Self::new(Why::Late, "DEADLINE_EXCEEDED", "no answer came within the deadline")
    }

    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Why::Unreachable, "UNREACHABLE", message)
    }

    /// What policy-decision said instead of an answer.
    pub(super) fn told(told: &Told) -> Self {
        use legate_rpc::Code;
        let why = match told.code {
            Code::DeadlineExceeded => Why::Late,
            Code::Unavailable | Code::Cancelled | Code::Unknown => Why::Unreachable,
            Code::ResourceExhausted | Code::Internal => Why::NotAble,
            _ => Why::Refused,
        };
        let reason = if told.reason.is_empty() { "UNREACHABLE" } else { told.reason.as_str() };
        Self::new(why, reason, told.message.as_str())
    }

    /// Whether asking elsewhere may help.
    pub(super) fn may_pass(&self) -> bool {
        self.why != Why::Refused
    }
}

/// Why there is no permit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// It may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It is not known.
    #[error(transparent)]
    Undecided(#[from] Undecided),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn allow() -> wire::EvaluateResponse {
        wire::EvaluateResponse {
            decision: wire::Decision::Allow.into(),
            reason_code: "ALLOWED".into(),
            revision: 7,
            view_age: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            ..wire::EvaluateResponse::default()
        }
    }

    proptest! {
        /// The law of this file: whatever an answer holds, it is a permit only as a plain, fresh ALLOW of the wanted revision.
        #[test]
        fn nothing_but_a_fresh_allow_is_a_permit(
            decision in -1..5, denial in -1..5, revision in 0..10_u64, at_least in 0..10_u64,
            age in proptest::option::of(-2..8_i64), after in 0..8_u64, word in "[A-Z]{0,3}",
        ) {
            let answer = wire::EvaluateResponse {
                decision, denial, revision, reason_code: word,
                view_age: age.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
                ..wire::EvaluateResponse::default()
            };
            // An unknown number reads as unset: it denies as a decision, and says nothing as a kind of denial.
            let is_plain = decision == 1 && !(1..=3).contains(&denial);
            let is_fresh = age.is_some_and(|age| age >= 0 && age.unsigned_abs() + after <= 5);
            let decided = Decided::of(answer, at_least, Duration::from_secs(after));
            prop_assert_eq!(decided.permit().is_ok(), is_plain && is_fresh && revision >= at_least);
        }
    }

    #[test]
    fn the_three_outcomes_are_told_apart() {
        let of = |answer| Decided::of(answer, 0, Duration::ZERO);
        assert_eq!(of(allow()).permit().unwrap().revision(), 7);
        let denied = |denial: wire::Denial, word: &str| wire::EvaluateResponse {
            decision: wire::Decision::Deny.into(),
            denial: denial.into(),
            reason_code: word.into(),
            ..allow()
        };
        assert!(matches!(of(denied(wire::Denial::NotPermitted, "NOT_PERMITTED")), Decided::Denied(_)));
        assert!(matches!(of(denied(wire::Denial::Undecided, "STALE")), Decided::Undecided(u) if u.why == Why::NotAble));
        assert!(matches!(of(wire::EvaluateResponse::default()), Decided::Denied(_)));
    }
}
