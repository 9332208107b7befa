//! An operator registers one agent, which must not exist yet.

use std::sync::Arc;

use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, CreateAgentResponse, Declaration};

use super::stage;
use super::{Call, Desk};
use crate::error::AGENT_EXISTS;
use crate::store::refuse;

/// Registers it; whether it is ACTIVE or waits for approval is its class's to say.
#[tracing::instrument(skip_all)]
pub(crate) async fn create_agent(desk: &Arc<Desk>, call: Call, agent: Agent) -> Result<CreateAgentResponse, Fault> {
    let list = Arc::new(stage::read(vec![Declaration { object: Some(Object::Agent(agent)) }])?);
    desk.write("create_agent", Standard::Ordinary, call, move |writing| {
        let list = Arc::clone(&list);
        Box::pin(async move {
            stage::demand(writing, &list).map_err(refuse)?;
            let by = writing.by;
            let staged = stage::stage(writing.tx, &list, writing.now, &by.actor, &by.reason).await?;
            let mut made = None;
            for one in staged {
                if one.current.is_some() {
                    return Err(refuse(Fault::refused(&AGENT_EXISTS, format!("{} is in force", one.key))));
                }
                made = Some(writing.put(one.wanted, None, "created", &[]).await?);
            }
            let agent = match made.and_then(|made| made.object) {
                Some(Object::Agent(agent)) => Some(agent),
                _ => None,
            };
            Ok(CreateAgentResponse { agent, revision: writing.revision() })
        })
    })
    .await
}
