//! An operator registers one agent, which must not exist yet.

use std::sync::Arc;

use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, AgentState, CreateAgentResponse, Declaration};

use super::transition::{self, Step};
use super::{Call, Desk, stage};
use crate::domain::lifecycle::{self, Transition};
use crate::domain::operators;
use crate::error::AGENT_EXISTS;
use crate::store::refuse;

const SUSPEND: Step = Step::Transition(Transition::Suspend);

/// How an agent begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// ACTIVE, or waiting for approval: its class says which.
    AsItsClassSays,
    /// Never ACTIVE: it is SUSPENDED where its class asks for no approval.
    Stopped,
}

/// Registers it; whether it is ACTIVE or waits for approval is its class's to say.
pub(crate) async fn create_agent(desk: &Arc<Desk>, call: Call, agent: Agent) -> Result<CreateAgentResponse, Fault> {
    begin(desk, call, agent, Beginning::AsItsClassSays).await
}

/// Registers it, to begin so.
#[tracing::instrument(name = "create_agent", skip_all)]
pub(crate) async fn begin(
    desk: &Arc<Desk>,
    call: Call,
    agent: Agent,
    beginning: Beginning,
) -> Result<CreateAgentResponse, Fault> {
    let list = Arc::new(stage::read(vec![Declaration { object: Some(Object::Agent(agent)) }])?);
    desk.write("create_agent", Standard::Ordinary, call, move |writing| {
        let list = Arc::clone(&list);
        Box::pin(async move {
            stage::demand(writing, &list).map_err(refuse)?;
            let by = writing.by;
            let staged = stage::stage(writing.tx, &list, writing.now, &by.actor, &by.reason).await?;
            let mut made = None;
            for mut one in staged {
                if one.current.is_some() {
                    return Err(refuse(Fault::refused(&AGENT_EXISTS, format!("{} is in force", one.key))));
                }
                if let (Beginning::Stopped, Some(Object::Agent(agent))) = (beginning, &mut one.wanted.object)
                    && lifecycle::state_of(agent) == AgentState::Active
                {
                    writing.demand(SUSPEND.right(), operators::place(&one.key)).map_err(refuse)?;
                    lifecycle::apply(agent, Transition::Suspend, writing.now, &by.actor, &by.reason)
                        .map_err(|wrong| refuse(transition::bad(&wrong)))?;
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
