//! An agent looks at the agents that it made, and ends one of them.

use std::sync::Arc;

use legate_db::TxResult;
use legate_ids::AgentId;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{EndSpawnedAgentResponse, ListSpawnedAgentsResponse};

use super::lineage::{self, Calling};
use super::transition::{self, Step};
use super::{Call, Desk};
use crate::domain::check;
use crate::domain::lifecycle::Transition;
use crate::domain::lineage::MOST_CHILDREN;
use crate::error::{NOT_ITS_MAKER, of_tx};
use crate::store::{head, refuse};

/// Those that the caller made and that are not retired.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(desk: &Desk, calling: Calling) -> Result<ListSpawnedAgentsResponse, Fault> {
    let now = desk.clock.now();
    let read: TxResult<_, Fault> = desk
        .db
        .read("list_spawned_agents", move |tx| {
            Box::pin(async move {
                let standing = lineage::standing(tx, &calling, now).await?;
                let namespace = standing.caller().map_err(refuse)?.metadata.clone().unwrap_or_default().namespace;
                let children = lineage::children_of(tx, &namespace, calling.id.as_str(), MOST_CHILDREN.into()).await?;
                let agents = children.into_iter().filter_map(|child| match child.object {
                    Some(Object::Agent(agent)) => Some(agent),
                    _ => None,
                });
                Ok(ListSpawnedAgentsResponse { agents: agents.collect(), revision: head::read(tx).await? })
            })
        })
        .await;
    read.map_err(of_tx)
}

/// Retires one, and all below it.
#[tracing::instrument(skip_all)]
pub(crate) async fn end(
    desk: &Arc<Desk>,
    call: Call,
    calling: Calling,
    agent_id: String,
) -> Result<EndSpawnedAgentResponse, Fault> {
    let id = AgentId::parse(&agent_id).map_err(|e| Fault::invalid("agent_id", e.to_string()))?;
    super::stage::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new((calling, id));
    desk.write("end_spawned_agent", Standard::Stopping, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (calling, id) = &*ask;
            let standing = lineage::standing(writing.tx, calling, writing.now).await?;
            let namespace = standing.caller().map_err(refuse)?.metadata.clone().unwrap_or_default().namespace;
            let most = MOST_CHILDREN.into();
            let children = lineage::children_of(writing.tx, &namespace, calling.id.as_str(), most).await?;
            // Whether there is such an agent at all is nobody's business but its maker's.
            let own = children.into_iter().find(|child| lineage::id_of(child) == id.as_str()).ok_or_else(|| {
                refuse(Fault::refused(&NOT_ITS_MAKER, format!("the caller has no agent {id} that is not retired")))
            })?;
            let agent = Box::pin(transition::take(writing, own, Step::Transition(Transition::Retire))).await?;
            Ok(EndSpawnedAgentResponse { agent: Some(agent), revision: writing.revision() })
        })
    })
    .await
}
