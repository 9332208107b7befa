//! Whom the caller may equip with something to prove itself with, by what the registry says now.

use std::sync::Arc;

use legate_authority::{Place, Right};
use legate_ids::{AgentId, Principal};
use legate_rpc::Fault;
use legate_view::{Agent, AgentState, Snapshot, Stop};

use super::{Call, Desk};
use crate::domain::certificate::BadPlan;
use crate::domain::holder::NoHolder;
use crate::error::NOT_ITS_MAKER;

/// An agent that the caller may equip: an operator with ISSUE in its namespace, or the agent that made it. One that the
/// caller may not see is not there.
///
/// Unlike for a certificate, the agent need not be ACTIVE yet: a token may be handed out before it is switched on.
pub(super) fn agent<'a>(
    desk: &Desk,
    call: &Call,
    snapshot: &'a Snapshot,
    id: &AgentId,
) -> Result<&'a Arc<Agent>, Fault> {
    let agent = match &call.peer.principal {
        // Whether there is such an agent at all is nobody's business but its maker's.
        Some(Principal::Agent { namespace, id: maker, .. }) => snapshot
            .agent(id)
            .filter(|one| one.ancestors.first() == Some(maker) && one.label.namespace == *namespace)
            .ok_or_else(|| not_its_own(&format!("the caller made no agent {id}")))?,
        _ => {
            let mandate = snapshot.mandate(&call.peer, call.emergency.as_deref(), desk.clock.now())?;
            let is_seen = |one: &Agent| mandate.may(Right::Read, Place::In(one.label.namespace.as_str()));
            let agent = snapshot.agent(id).filter(|one| is_seen(one));
            let agent = agent.ok_or_else(|| NoHolder::NoAgent(id.clone()))?;
            mandate.demand(Right::Issue, Place::In(agent.label.namespace.as_str()))?;
            agent
        }
    };
    if matches!(agent.state, AgentState::Retired | AgentState::Expired | AgentState::Unknown) {
        return Err(NoHolder::NotActive(id.clone(), agent.state).into());
    }
    let namespace = &agent.label.namespace;
    let now = desk.clock.now();
    let life = snapshot.life_of(agent, now);
    match life.stop {
        // A resumption cuts off whatever was made during the suspension.
        Some(Stop::Namespace) => return Err(NoHolder::NamespaceSuspended(namespace.clone()).into()),
        Some(Stop::Class) => return Err(NoHolder::ClassSuspended(namespace.clone(), agent.class.clone()).into()),
        Some(Stop::Order) => return Err(NoHolder::Stopped(id.clone()).into()),
        Some(Stop::Ancestor) => return Err(NoHolder::ParentStopped(id.clone()).into()),
        Some(Stop::State(_) | Stop::Expired) | None => {}
    }
    let of_many = life.class_cutoff.max(life.namespace_cutoff).max(life.owners_cutoff).max(life.orders_cutoff);
    if !legate_view::after_cutoff(now, of_many) {
        return Err(BadPlan::TooSoon.into());
    }
    Ok(agent)
}

pub(super) fn not_its_own(text: &str) -> Fault {
    Fault::refused(&NOT_ITS_MAKER, text)
}
