//! How an agent lives: which state leads to which, and what a step writes down.
//!
//! ```text
//! PENDING_APPROVAL -approve-> STAGED -activate-> ACTIVE <-suspend, resume-> SUSPENDED
//! STAGED -a change-> PENDING_APPROVAL                (what was approved is what is switched on)
//! ACTIVE -expire-> EXPIRED -resume-> ACTIVE          (once its expire_time lies ahead)
//! STAGED, ACTIVE, SUSPENDED, EXPIRED -quarantine-> QUARANTINED -release-> SUSPENDED
//! any -retire-> RETIRED                              (final)
//! ```
//! Only what is ACTIVE can expire: an agent that was never approved must not reach ACTIVE by way of EXPIRED.

use std::fmt;

use legate_clock::Timestamp;
use legate_wire::registry as wire;
use wire::AgentState;

use super::succession;

/// A step in an agent's life. To revoke its credentials is none: the agent stays ACTIVE (see [`revoke_credentials`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transition {
    Approve,
    Activate,
    Suspend,
    Resume,
    Quarantine,
    Release,
    Retire,
    Expire,
}

impl Transition {
    /// Every step.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 8] = [
        Self::Approve,
        Self::Activate,
        Self::Suspend,
        Self::Resume,
        Self::Quarantine,
        Self::Release,
        Self::Retire,
        Self::Expire,
    ];

    /// The states that it leads from.
    fn from(self) -> &'static [AgentState] {
        use AgentState::{Active, Expired, PendingApproval, Quarantined, Staged, Suspended};
        match self {
            Self::Approve => &[PendingApproval],
            Self::Activate => &[Staged],
            Self::Suspend | Self::Expire => &[Active],
            Self::Resume => &[Suspended, Expired],
            Self::Quarantine => &[Staged, Active, Suspended, Expired],
            Self::Release => &[Quarantined],
            Self::Retire => &[PendingApproval, Staged, Active, Suspended, Quarantined, Expired],
        }
    }

    /// The state that it leads to.
    fn to(self) -> AgentState {
        match self {
            Self::Approve => AgentState::Staged,
            Self::Activate | Self::Resume => AgentState::Active,
            Self::Suspend | Self::Release => AgentState::Suspended,
            Self::Quarantine => AgentState::Quarantined,
            Self::Retire => AgentState::Retired,
            Self::Expire => AgentState::Expired,
        }
    }

    /// Whether it goes down: whatever was issued before is dead for ever.
    fn goes_down(self) -> bool {
        matches!(self, Self::Suspend | Self::Quarantine | Self::Retire | Self::Expire)
    }

    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Activate => "activate",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Quarantine => "quarantine",
            Self::Release => "release",
            Self::Retire => "retire",
            Self::Expire => "expire",
        }
    }
}

/// A step that the agent's state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadTransition {
    /// The state that the agent is in.
    pub(crate) from: AgentState,
    /// The word for the step.
    pub(crate) step: &'static str,
    /// What stands in the way.
    pub(crate) why: Obstacle,
}

/// What stands in the way of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// It leads from these states only.
    State(&'static [AgentState]),
    /// The agent's `expire_time` has come, so it cannot be ACTIVE.
    TimeIsOver,
    /// An expired agent needs an `expire_time` that lies ahead, and has none.
    NoExpireTime,
    /// Every sponsor that it names has left.
    Orphaned,
}

/// The name of a state as people say it.
pub(crate) fn state_name(state: AgentState) -> &'static str {
    match state.as_str_name().strip_prefix("AGENT_STATE_") {
        Some(name) => name,
        None => state.as_str_name(),
    }
}

impl fmt::Display for BadTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (step, state) = (self.step, state_name(self.from));
        match self.why {
            Obstacle::State(allowed) => {
                let allowed: Vec<_> = allowed.iter().copied().map(state_name).collect();
                write!(f, "the agent is {state}; to {step} it, it has to be {}", allowed.join(" or "))
            }
            Obstacle::TimeIsOver => {
                write!(
                    f,
                    "the agent is {state} and its expire_time has come; to {step} it, set a later expire_time first"
                )
            }
            Obstacle::NoExpireTime => {
                write!(f, "the agent is {state}; to {step} it, set an expire_time that lies ahead first")
            }
            Obstacle::Orphaned => {
                write!(
                    f,
                    "the agent is {state} and every sponsor of it has left; to {step} it, name one who is here first"
                )
            }
        }
    }
}

impl std::error::Error for BadTransition {}

/// The state that `t` leads to from `from`.
pub(crate) fn next(from: AgentState, t: Transition) -> Result<AgentState, BadTransition> {
    if t.from().contains(&from) {
        Ok(t.to())
    } else {
        Err(BadTransition { from, step: t.word(), why: Obstacle::State(t.from()) })
    }
}

/// Takes a step: new state, next `lifecycle_version`, the cut-off where it goes down, and who, when and why.
///
/// # Errors
/// When the state does not allow it, or the agent would be ACTIVE after its `expire_time`; the agent is as it was.
pub(crate) fn apply(
    agent: &mut wire::Agent,
    t: Transition,
    now: Timestamp,
    actor: &str,
    reason: &str,
) -> Result<(), BadTransition> {
    let from = state_of(agent);
    let to = next(from, t)?;
    if to == AgentState::Active {
        may_be_active(agent, from, now).map_err(|why| BadTransition { from, step: t.word(), why })?;
    }
    let status = agent.status.get_or_insert_default();
    status.set_state(to);
    status.state_time = Some(now.into());
    reason.clone_into(&mut status.state_reason);
    actor.clone_into(&mut status.state_actor);
    if t.goes_down() {
        cut_off(status, now);
    }
    if to == AgentState::Retired {
        // Nobody has to be accountable for it any more.
        succession::answered_for(status);
    }
    status.lifecycle_version = status.lifecycle_version.saturating_add(1);
    Ok(())
}

/// Kills everything issued to an agent, which stays ACTIVE.
///
/// # Errors
/// When the agent is not ACTIVE; it is as it was.
pub(crate) fn revoke_credentials(
    agent: &mut wire::Agent,
    now: Timestamp,
    actor: &str,
    reason: &str,
) -> Result<(), BadTransition> {
    const FROM: &[AgentState] = &[AgentState::Active];
    let from = state_of(agent);
    if !FROM.contains(&from) {
        return Err(BadTransition { from, step: "revoke the credentials of", why: Obstacle::State(FROM) });
    }
    let status = agent.status.get_or_insert_default();
    status.state_time = Some(now.into());
    reason.clone_into(&mut status.state_reason);
    actor.clone_into(&mut status.state_actor);
    cut_off(status, now);
    status.lifecycle_version = status.lifecycle_version.saturating_add(1);
    Ok(())
}

/// Sends a STAGED agent back to its approver, since what was approved is no longer what there is.
pub(crate) fn changed(agent: &mut wire::Agent, now: Timestamp, actor: &str, reason: &str) {
    if state_of(agent) != AgentState::Staged {
        return;
    }
    let status = agent.status.get_or_insert_default();
    status.set_state(AgentState::PendingApproval);
    status.state_time = Some(now.into());
    reason.clone_into(&mut status.state_reason);
    actor.clone_into(&mut status.state_actor);
    status.lifecycle_version = status.lifecycle_version.saturating_add(1);
}

/// The state that an agent is in; one without status, or in a state that we do not know, is in none.
pub(crate) fn state_of(agent: &wire::Agent) -> AgentState {
    agent.status.as_ref().map(wire::AgentStatus::state).unwrap_or_default()
}

fn may_be_active(agent: &wire::Agent, from: AgentState, now: Timestamp) -> Result<(), Obstacle> {
    if agent.status.as_ref().is_some_and(|status| status.orphaned_time.is_some()) {
        return Err(Obstacle::Orphaned);
    }
    let ends = agent.spec.as_ref().and_then(|spec| spec.expire_time);
    match ends {
        None if from == AgentState::Expired => Err(Obstacle::NoExpireTime),
        None => Ok(()),
        // A time that cannot be read is no time ahead.
        Some(at) if Timestamp::try_from(at).is_ok_and(|at| at > now) => Ok(()),
        Some(_) => Err(Obstacle::TimeIsOver),
    }
}

/// Raises the cut-off to `now`; a clock that went back must not bring anything to life again.
fn cut_off(status: &mut wire::AgentStatus, now: Timestamp) {
    let before = status.authorization_cutoff.and_then(|at| Timestamp::try_from(at).ok());
    status.authorization_cutoff = Some(before.map_or(now, |before| before.max(now)).into());
}

#[cfg(test)]
mod tests;
