//! Somebody answers for an agent that was found elsewhere: from now on it is as if it were declared.

use std::sync::Arc;

use legate_authority::Right;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{AdoptAgentRequest, AdoptAgentResponse, AgentStatus, Declaration, Kind, SanctionedStatus};

use super::stage::{self, Wanted};
use super::transition::{self, Which};
use super::{Call, Desk};
use crate::domain::check;
use crate::domain::kind::{self, Key};
use crate::domain::lifecycle::{self, Transition};
use crate::store::{broken, object, refuse};

/// Names who answers for it; whether it is ACTIVE or waits for approval is its class's to say.
#[tracing::instrument(skip_all)]
pub(crate) async fn adopt(desk: &Arc<Desk>, call: Call, ask: AdoptAgentRequest) -> Result<AdoptAgentResponse, Fault> {
    let which = Which::read(ask.agent.clone())?;
    stage::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new((which, ask));
    desk.write("adopt_agent", Standard::Ordinary, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (which, ask) = &*ask;
            let current = transition::find_to(writing, which, Right::Write, &ask.etag).await?;
            let Some(Object::Agent(mut agent)) = current.object.clone() else {
                return Err(broken("an agent's row holds no agent"));
            };
            transition::check_unsanctioned(&agent, "adopt").map_err(refuse)?;
            let spec = agent.spec.get_or_insert_default();
            spec.owners.clone_from(&ask.owners);
            spec.sponsors.clone_from(&ask.sponsors);
            if !ask.agent_class.is_empty() {
                spec.agent_class.clone_from(&ask.agent_class);
            }
            let mut declaration = Declaration { object: Some(Object::Agent(agent)) };
            stage::refusal(check::check(&declaration)).map_err(refuse)?;
            check::strip_output_only(&mut declaration);
            let key = kind::key_of(&declaration).ok_or_else(|| broken("an agent without a name"))?;
            let by = writing.by;
            let list = [Wanted::new(key, declaration)];
            let staged = stage::stage(writing.tx, &list, writing.now, &by.actor, &by.reason).await?;
            let Some(mut one) = staged.into_iter().next() else { return Err(broken("nothing was staged")) };
            let waits = asks_for_an_approver(writing.tx, &one.wanted).await?;
            let Some(Object::Agent(agent)) = &mut one.wanted.object else {
                return Err(broken("an agent was staged and is none"));
            };
            let status: &mut AgentStatus = agent.status.get_or_insert_default();
            status.set_sanctioned_status(SanctionedStatus::Sanctioned);
            if !waits {
                for step in [Transition::Approve, Transition::Activate] {
                    lifecycle::apply(agent, step, writing.now, &by.actor, &by.reason)
                        .map_err(|bad| refuse(transition::bad(&bad)))?;
                }
            }
            let written = writing.put(one.wanted, one.current.as_ref(), "adopted", &one.fields).await?;
            match written.object {
                Some(Object::Agent(agent)) => {
                    Ok(AdoptAgentResponse { agent: Some(agent), revision: writing.revision() })
                }
                _ => Err(broken("an agent was written and is none")),
            }
        })
    })
    .await
}

async fn asks_for_an_approver(tx: &legate_db::Tx, agent: &Declaration) -> legate_db::TxResult<bool, Fault> {
    let Some(Object::Agent(agent)) = &agent.object else { return Ok(true) };
    let namespace = agent.metadata.as_ref().map(|m| m.namespace.as_str()).unwrap_or_default();
    let class = agent.spec.as_ref().map(|spec| spec.agent_class.as_str()).unwrap_or_default();
    let row = object::by_key(tx, &Key::new(Kind::AgentClass, namespace, class)).await?;
    match row.map(|row| row.declaration()).transpose()?.and_then(|class| class.object) {
        Some(Object::AgentClass(class)) => Ok(class.spec.is_none_or(|spec| spec.requires_approval)),
        _ => Ok(true),
    }
}
