//! Whether an agent may do anything at all: only ACTIVE, before its end, and with nothing above it suspended and no stop order on it.

use legate_clock::Timestamp;
use legate_view::{Agent, AgentState, Snapshot, Stop};

use super::answer::{Answer, Cause, CauseKind, Why};

/// The denial that the agent's state, that of its class or namespace, or a stop order makes, where it makes one.
pub(crate) fn judge(snapshot: &Snapshot, agent: &Agent, now: Timestamp) -> Option<Answer> {
    let (why, text) = match snapshot.life_of(agent, now).stop? {
        Stop::Expired => (Why::AgentExpired, "the agent's time has run out"),
        Stop::Namespace => (Why::NamespaceSuspended, "the agent's namespace is suspended"),
        Stop::Order => (Why::AgentStopped, "a stop order that stands names the agent"),
        Stop::Ancestor => (Why::ParentStopped, "an agent that made it, or is further above it, does not work"),
        Stop::Class => {
            let text = format!("the agent's class {} is suspended", agent.class);
            return Some(Answer::deny(Why::ClassSuspended, Cause::of_agent(CauseKind::AgentState, agent, text)));
        }
        Stop::State(state) => state_denies(state),
    };
    Some(Answer::deny(why, Cause::of_agent(CauseKind::AgentState, agent, text)))
}

fn state_denies(state: AgentState) -> (Why, &'static str) {
    match state {
        AgentState::Suspended => (Why::AgentSuspended, "the agent is suspended"),
        AgentState::Quarantined => (Why::AgentQuarantined, "the agent is quarantined"),
        AgentState::Expired => (Why::AgentExpired, "the agent's time has run out"),
        AgentState::Retired => (Why::AgentRetired, "the agent is retired"),
        AgentState::PendingApproval => (Why::AgentNotActive, "the agent waits for approval"),
        AgentState::Staged => (Why::AgentNotActive, "the agent is not switched on yet"),
        AgentState::Active | AgentState::Unknown => {
            (Why::AgentNotActive, "the agent is in a state that is not known here")
        }
    }
}
