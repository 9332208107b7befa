//! An operator takes an agent that an agent made out of its maker's hands: it lives on, and somebody answers for it.

use std::sync::Arc;

use legate_authority::Right;
use legate_db::TxResult;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_view::Snapshot;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, Declaration, HandOverAgentRequest, HandOverAgentResponse};

use super::succession::persons_of;
use super::transition::{self, Which};
use super::write::Writing;
use super::{Call, Desk, lineage, revoke_issued, stop_orders};
use crate::domain::lineage::MOST_BELOW;
use crate::domain::problem::Problem;
use crate::domain::{check, cut_off, diff, kind, lifecycle, standing, succession};
use crate::error::{AGENT_STATE_WRONG, NOT_MADE_BY_AN_AGENT};
use crate::store::{broken, departure, object, refuse};

/// Hands it over.
#[tracing::instrument(skip_all)]
pub(crate) async fn hand_over(
    desk: &Arc<Desk>,
    call: Call,
    ask: HandOverAgentRequest,
) -> Result<HandOverAgentResponse, Fault> {
    let which = Which::read(ask.agent.clone())?;
    super::stage::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new((which, ask));
    desk.write("hand_over_agent", Standard::Ordinary, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (which, ask) = &*ask;
            let current = transition::find_to(writing, which, Right::Write, &ask.etag).await?;
            let agent = Box::pin(take_over(writing, current, ask)).await?;
            Ok(HandOverAgentResponse { agent: Some(agent), revision: writing.revision() })
        })
    })
    .await
}

async fn take_over(
    writing: &mut Writing<'_>,
    current: Declaration,
    ask: &HandOverAgentRequest,
) -> TxResult<Agent, Fault> {
    let Some(Object::Agent(mut agent)) = current.object.clone() else {
        return Err(broken("an agent's row holds no agent"));
    };
    let state = lifecycle::state_of(&agent);
    if state == legate_wire::registry::AgentState::Retired {
        let text = "the agent is RETIRED; nobody can be given it";
        return Err(refuse(Fault::refused(&AGENT_STATE_WRONG, text).with("state", lifecycle::state_name(state))));
    }
    let metadata = agent.metadata.clone().unwrap_or_default();
    if agent.status.as_ref().is_none_or(|status| status.ancestors.is_empty()) {
        let text = format!("{}/{} was not made by an agent", metadata.namespace, metadata.name);
        return Err(refuse(Fault::refused(&NOT_MADE_BY_AN_AGENT, text)));
    }
    let seen = see(writing, &metadata.id).await?;
    let id = legate_ids::AgentId::parse(&metadata.id).map_err(broken)?;
    let life = seen.agent(&id).map(|agent| seen.life_of(agent, writing.now));
    let life = life.ok_or_else(|| broken("an agent's lineage does not hold the agent"))?;
    let status = agent.status.get_or_insert_default();
    status.ancestors.clear();
    // Of what was issued to it, that lives on and dies which would have: nothing comes back, and nothing is cut.
    status.lifecycle_version = life.lifecycle_version;
    status.authorization_cutoff = standing::later(status.authorization_cutoff, life.ancestors_cutoff);
    // What a stop of whoever made it stopped stays so: nobody said that this one goes on.
    let named =
        seen.agent(&id).map(|agent| seen.ancestors_of(agent).flatten().any(|above| seen.order_on(above).suspended));
    if named == Some(true) {
        stop_orders::stay_stopped(&mut agent, writing, "whoever made it is stopped")?;
    }
    let spec = agent.spec.get_or_insert_default();
    spec.parent.clear();
    spec.owners.clone_from(&ask.owners);
    spec.sponsors.clone_from(&ask.sponsors);
    // Whoever has left is refused below.
    succession::answered_for(agent.status.get_or_insert_default());
    let wanted = Declaration { object: Some(Object::Agent(agent)) };
    let departed = departure::of(writing.tx, persons_of(std::slice::from_ref(&wanted), "")).await?;
    let gone = super::stage::departed(&wanted, &metadata.namespace, &departed);
    let problems = check::check(&wanted).into_iter().chain(gone);
    let named = |path: String| path.strip_prefix("spec.").map(str::to_owned).unwrap_or(path);
    let problems = problems.map(|p| Problem { path: named(p.path), ..p }).collect();
    super::stage::refusal(problems).map_err(refuse)?;
    let fields = diff::diff(Some(&current), &wanted);
    let written = writing.put(wanted, Some(&current), "handed_over", &fields).await?;
    shorten(writing, &metadata.namespace, &metadata.id).await?;
    match written.object {
        Some(Object::Agent(agent)) => Ok(agent),
        _ => Err(broken("an agent was written and is none")),
    }
}

/// The agent and everything above it, with the cut-offs of many at once that concern one of them.
async fn see(writing: &Writing<'_>, id: &str) -> TxResult<Snapshot, Fault> {
    let lineage = lineage::lineage_of(writing.tx, id).await?;
    let mut objects = revoke_issued::in_force(writing.tx, lineage.iter().flat_map(cut_off::concerning)).await?;
    objects.extend(Box::pin(stop_orders::concerning(writing.tx, &lineage)).await?);
    for agent in lineage {
        let declaration = Declaration { object: Some(Object::Agent(agent)) };
        for (_, key) in kind::references(&declaration) {
            objects.extend(object::by_key(writing.tx, &key).await?.map(|row| row.declaration()).transpose()?);
        }
        objects.push(declaration);
    }
    Snapshot::of(&objects).map_err(broken)
}

/// Whoever is below the agent has it at the top from now on.
async fn shorten(writing: &mut Writing<'_>, namespace: &str, id: &str) -> TxResult<(), Fault> {
    for current in lineage::below(writing.tx, namespace, id, MOST_BELOW).await? {
        let mut wanted = current.clone();
        if let Some(Object::Agent(agent)) = &mut wanted.object
            && let Some(status) = &mut agent.status
            && let Some(at) = status.ancestors.iter().position(|above| above == id)
        {
            status.ancestors.truncate(at + 1);
            writing.put(wanted, Some(&current), "updated", &[]).await?;
        }
    }
    Ok(())
}
