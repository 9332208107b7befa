//! Whether an agent may do anything at all: only ACTIVE, and only before its end.

use legate_clock::Timestamp;
use legate_view::{Agent, AgentState};

use super::answer::{Answer, Cause, CauseKind, Why};

/// The denial that the agent's state makes, where it makes one.
pub(crate) fn judge(agent: &Agent, now: Timestamp) -> Option<Answer> {
    let (why, text) = match agent.state {
        AgentState::Active if agent.expires.is_some_and(|end| end <= now) => {
            (Why::AgentExpired, "the agent's time has run out")
        }
        AgentState::Active => return None,
        AgentState::Suspended => (Why::AgentSuspended, "the agent is suspended"),
        AgentState::Quarantined => (Why::AgentQuarantined, "the agent is quarantined"),
        AgentState::Expired => (Why::AgentExpired, "the agent's time has run out"),
        AgentState::Retired => (Why::AgentRetired, "the agent is retired"),
        AgentState::PendingApproval => (Why::AgentNotActive, "the agent waits for approval"),
        AgentState::Staged => (Why::AgentNotActive, "the agent is not switched on yet"),
        AgentState::Unknown => (Why::AgentNotActive, "the agent is in a state that is not known here"),
    };
    Some(Answer::deny(why, Cause::of(CauseKind::AgentState, &agent.label, text)))
}
