//! Somebody who is accountable confirms that an agent is still to be here.

use std::sync::Arc;

use legate_authority::Right;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{AgentState, AttestAgentResponse, Declaration};

use super::transition::{Ask, Which, bad, find_to, refuse_self_approval};
use super::{Call, Desk};
use crate::domain::check;
use crate::domain::lifecycle::{self, BadTransition, Obstacle};
use crate::store::{broken, refuse};

/// Of what is not approved yet there is nothing to confirm, and what is kept for forensics is not to be here.
const STATES: &[AgentState] = &[AgentState::Active, AgentState::Suspended, AgentState::Expired];

/// Confirms it. The agent's state stays as it is, and everything that was issued to it goes on as it does.
#[tracing::instrument(skip_all)]
pub(crate) async fn attest(desk: &Arc<Desk>, call: Call, ask: Ask) -> Result<AttestAgentResponse, Fault> {
    let which = Which::read(ask.agent)?;
    super::stage::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new((which, ask.etag));
    desk.write("attest_agent", Standard::Ordinary, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (which, etag) = &*ask;
            let current = find_to(writing, which, Right::Approve, etag).await?;
            let Some(Object::Agent(mut agent)) = current.object.clone() else {
                return Err(broken("an agent's row holds no agent"));
            };
            let from = lifecycle::state_of(&agent);
            let status = agent.status.get_or_insert_default();
            let obstacle = match () {
                () if !STATES.contains(&from) => Some(Obstacle::State(STATES)),
                // Whoever confirms it says that somebody is accountable.
                () if status.orphaned_time.is_some() => Some(Obstacle::Orphaned),
                () => None,
            };
            if let Some(why) = obstacle {
                return Err(refuse(bad(&BadTransition { from, step: "attest", why })));
            }
            refuse_self_approval(writing.tx, &current, &writing.by.actor).await?;
            status.last_attestation_time = Some(writing.now.into());
            status.last_attestation_actor.clone_from(&writing.by.actor);
            let wanted = Declaration { object: Some(Object::Agent(agent)) };
            match writing.put(wanted, Some(&current), "attested", &[]).await?.object {
                Some(Object::Agent(agent)) => {
                    Ok(AttestAgentResponse { agent: Some(agent), revision: writing.revision() })
                }
                _ => Err(broken("an agent was written and is none")),
            }
        })
    })
    .await
}
