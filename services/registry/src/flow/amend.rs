//! An operator changes what is declared of one agent, and whether it is stopped, in one write.

use std::sync::Arc;

use legate_ids::AgentId;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, AgentState, Declaration, UpdateDeclarationResponse};

use super::transition::{self, Step, Which};
use super::write::check_etag;
use super::{Call, Desk, stage, update};
use crate::domain::lifecycle::{self, Transition};
use crate::domain::{check, kind, operators};
use crate::store::{broken, refuse};

/// Which agent is meant, and as who read it.
#[derive(Clone, Debug)]
pub(crate) struct Whose {
    /// An agent of another namespace is not there.
    pub(crate) namespace: String,
    pub(crate) id: AgentId,
    /// Empty: whoever wrote last.
    pub(crate) etag: String,
}

/// What becomes of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    /// The fields that the paths name are taken from here.
    pub(crate) agent: Agent,
    pub(crate) paths: Vec<String>,
    /// Whether it is to be ACTIVE; `None`: as it is.
    pub(crate) active: Option<bool>,
}

/// Refuses an agent of another namespace, and a retired one: neither is there.
pub(crate) fn is_there(agent: &Agent, namespace: &str, id: &str) -> Result<(), Fault> {
    let found = agent.metadata.as_ref().map(|metadata| metadata.namespace.as_str());
    if found == Some(namespace) && lifecycle::state_of(agent) != AgentState::Retired {
        return Ok(());
    }
    Err(transition::not_found(id))
}

/// What is no id of an agent is answered like the id of nobody.
pub(crate) fn nobody(id: &str) -> Fault {
    transition::not_found(&id.chars().filter(|c| !legate_ids::is_deceptive(*c)).take(64).collect::<String>())
}

/// Makes the change that `change` makes of the agent as it is then: nobody else's write comes between.
#[tracing::instrument(skip_all)]
pub(crate) async fn amend<F>(
    desk: &Arc<Desk>,
    call: Call,
    whose: Whose,
    standard: Standard,
    change: F,
) -> Result<UpdateDeclarationResponse, Fault>
where
    F: Fn(&Agent) -> Result<Change, Fault> + Send + Sync + 'static,
{
    super::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new((whose, change));
    desk.write("amend_agent", standard, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (whose, change) = &*ask;
            let current = transition::find(writing.tx, &Which::Id(whose.id.clone()), &writing.mandate).await?;
            let Some(Object::Agent(agent)) = &current.object else {
                return Err(broken("an agent's row holds no agent"));
            };
            is_there(agent, &whose.namespace, whose.id.as_str()).map_err(refuse)?;
            let key = kind::key_of(&current).ok_or_else(|| broken("an agent without a name"))?;
            let Change { agent: wanted, paths, active } = change(agent).map_err(refuse)?;
            if !paths.is_empty() {
                writing.demand(operators::to_write(key.kind), operators::place(&key)).map_err(refuse)?;
            }
            if let Some(active) = active {
                // Also where it is so already.
                let step = if active { Transition::Resume } else { Transition::Suspend };
                writing.demand(Step::Transition(step).right(), operators::place(&key)).map_err(refuse)?;
            }
            check_etag(&current, &whose.etag).map_err(refuse)?;

            let (mut declared, mut fields) = (current.clone(), Vec::new());
            if !paths.is_empty() {
                let wanted = Declaration { object: Some(Object::Agent(wanted)) };
                let staged = update::changed(writing, &key, &current, &wanted, &paths).await?;
                for stage::Staged { wanted, fields: changed, .. } in staged {
                    // Where nothing changes, the agent stays as it is to the last byte.
                    if !changed.is_empty() {
                        (declared, fields) = (wanted, changed);
                    }
                }
            }
            let Some(Object::Agent(agent)) = &mut declared.object else {
                return Err(broken("an agent was staged and is none"));
            };
            let step = active.and_then(|active| step(lifecycle::state_of(agent), active));
            if let Some(step) = step {
                let by = writing.by;
                lifecycle::apply(agent, step, writing.now, &by.actor, &by.reason)
                    .map_err(|wrong| refuse(transition::bad(&wrong)))?;
            }
            let now = match step.map(|step| Step::Transition(step).verb()) {
                Some(verb) => writing.put(declared, Some(&current), verb, &fields).await?,
                None if !fields.is_empty() => writing.put(declared, Some(&current), "updated", &fields).await?,
                None => current,
            };
            Ok(UpdateDeclarationResponse { declaration: Some(now), revision: writing.revision() })
        })
    })
    .await
}

/// The step that makes an agent ACTIVE, or that stops it; none where it is so. Nobody comes past an approver: what waits for
/// one is refused to resume.
fn step(state: AgentState, active: bool) -> Option<Transition> {
    match (state, active) {
        (AgentState::Active, false) => Some(Transition::Suspend),
        (AgentState::Active, true) | (_, false) => None,
        (AgentState::Staged, true) => Some(Transition::Activate),
        (_, true) => Some(Transition::Resume),
    }
}
