//! An agent makes an agent for a part of its own work: never more than it has, never longer than it lives.

use std::sync::Arc;
use std::time::Duration;

use legate_authority::{TooWide, may_pass_on};
use legate_db::TxResult;
use legate_outbox::Standard;
use legate_rpc::{Fault, Reason};
use legate_view::{CeilingOf, Snapshot};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Origin, SpawnAgentRequest, SpawnAgentResponse};

use super::lineage::{self, Calling, Standing};
use super::stage::{self, Wanted};
use super::write::Writing;
use super::{Call, Desk};
use crate::domain::delegation;
use crate::domain::lineage::{MOST_BELOW, TooMuch, below, child_of, end, heir, most_children, room};
use crate::domain::problem::Problem;
use crate::error::{AGENT_EXISTS, SPAWN_TOO_DEEP, SPAWN_TOO_LONG, SPAWN_TOO_MANY, SPAWN_TOO_WIDE, SPAWNING_OFF};
use crate::store::{broken, object, reference, refuse};

/// Makes it.
#[tracing::instrument(skip_all)]
pub(crate) async fn spawn(
    desk: &Arc<Desk>,
    call: Call,
    calling: Calling,
    ask: SpawnAgentRequest,
) -> Result<SpawnAgentResponse, Fault> {
    let ttl = ask.ttl.ok_or_else(|| Fault::invalid("ttl", "is required: an agent made by an agent ends by itself"))?;
    let ttl = Duration::try_from(ttl).map_err(|_| Fault::invalid("ttl", "is negative or out of range"))?;
    if ask.ceiling.is_empty() {
        return Err(Fault::invalid("ceiling", "is empty; say the most that the agent may have, 1 to 256"));
    }
    let ask = Arc::new((ask, ttl, calling));
    desk.write("spawn_agent", Standard::Ordinary, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (ask, ttl, calling) = &*ask;
            let standing = lineage::standing(writing.tx, calling, writing.now).await?;
            check_room(writing, &standing).await?;
            let declaration = wanted(writing, &standing, ask, *ttl).map_err(refuse)?;
            check_width(writing, &standing, &declaration).map_err(refuse)?;
            check_pace(writing, &standing).map_err(refuse)?;
            let agent = declare(writing, &standing, declaration).await?;
            Ok(SpawnAgentResponse { agent: Some(agent), revision: writing.revision() })
        })
    })
    .await
}

/// Whether the namespace lets the caller have one more.
async fn check_room(writing: &Writing<'_>, standing: &Standing) -> TxResult<(), Fault> {
    let place = |agent: &legate_wire::registry::Agent| {
        let metadata = agent.metadata.clone().unwrap_or_default();
        (metadata.namespace, metadata.id)
    };
    let (namespace, id) = place(standing.caller().map_err(refuse)?);
    let most = u64::from(most_children(&standing.namespace));
    let children = reference::from(writing.tx, &child_of(&namespace, &id), most).await?.len();
    let (namespace, top) = place(standing.lineage.last().ok_or_else(|| broken("a lineage of nobody"))?);
    let below = reference::from(writing.tx, &below(&namespace, &top), MOST_BELOW).await?.len();
    room(&standing.namespace, standing.lineage.len(), children, below).map_err(|much| {
        let (reason, text): (&'static Reason, String) = match much {
            TooMuch::Off => (&SPAWNING_OFF, format!("the namespace {namespace} lets no agent make agents")),
            TooMuch::Deep(deepest) => {
                (&SPAWN_TOO_DEEP, format!("the namespace {namespace} lets agents make agents {deepest} deep"))
            }
            TooMuch::Children(most) => (&SPAWN_TOO_MANY, format!("the agent has {most} agents that are not retired")),
            TooMuch::Below => {
                (&SPAWN_TOO_MANY, format!("there are {MOST_BELOW} agents below {top} that are not retired"))
            }
        };
        refuse(Fault::refused(reason, text))
    })
}

/// Whether not too many were made lately, whatever became of them.
fn check_pace(writing: &Writing<'_>, standing: &Standing) -> Result<(), Fault> {
    let top = standing.lineage.last().and_then(|top| top.metadata.as_ref());
    let top = top.map(|metadata| metadata.id.as_str()).ok_or_else(|| Fault::broken("a lineage of nobody"))?;
    if writing.desk.pace.lock().allows(top, writing.now) {
        return Ok(());
    }
    let text = format!("{MOST_BELOW} agents were made below {top} within a minute");
    Err(Fault::refused(&SPAWN_TOO_MANY, text))
}

/// What is asked for, complete and in good grammar.
fn wanted(
    writing: &Writing<'_>,
    standing: &Standing,
    ask: &SpawnAgentRequest,
    ttl: Duration,
) -> Result<Declaration, Fault> {
    let caller = standing.caller()?;
    let mut agent = heir(caller, ask.name.clone(), ask.purpose.clone(), ask.display_name.clone());
    let ends = ends_above(standing, writing.now)?;
    let end = end(writing.now, ttl, ends, &standing.class)
        .map_err(|why| Fault::refused(&SPAWN_TOO_LONG, format!("ttl {why}")).field("ttl", why))?;
    let spec = agent.spec.get_or_insert_default();
    spec.expire_time = Some(end.into());
    spec.ceiling.clone_from(&ask.ceiling);
    let declaration = Declaration { object: Some(Object::Agent(agent)) };
    stage::check_asked(&declaration)?;
    Ok(declaration)
}

fn ends_above(standing: &Standing, now: legate_clock::Timestamp) -> Result<Option<legate_clock::Timestamp>, Fault> {
    Ok(standing.seen.life_of(standing.seen_caller()?, now).ends)
}

/// Whether each permission of the new agent's ceiling lies within what the caller may have.
fn check_width(writing: &Writing<'_>, standing: &Standing, declaration: &Declaration) -> Result<(), Fault> {
    let Some(Object::Agent(agent)) = &declaration.object else { return Err(Fault::broken("no agent")) };
    let caller = standing.seen_caller()?;
    let snapshot: &Snapshot = &standing.seen;
    let mut problems = Vec::new();
    for (n, one) in agent.spec.iter().flat_map(|spec| &spec.ceiling).enumerate() {
        let wanted = delegation::permission(one).ok_or_else(|| Fault::broken("a permission that was checked"))?;
        let path = format!("ceiling[{n}]");
        let mut too_wide = |why: String| problems.push(Problem::of(&SPAWN_TOO_WIDE, path.clone(), why));
        let Some(ceilings) = snapshot.ceilings_of(caller) else {
            too_wide("is below no ceiling that is known".into());
            continue;
        };
        if standing.namespace.own_grant_only {
            // Nothing is passed on but room: what it may do in it is for operators to bind.
            if let Some((of, _)) = ceilings.iter().find(|(_, ceiling)| !ceiling.includes(&wanted)) {
                too_wide(above(*of));
            }
            continue;
        }
        match may_pass_on(&wanted, writing.now.micros(), snapshot.grants_of(caller), ceilings) {
            Ok(()) => {}
            Err(TooWide::Ceiling(of)) => too_wide(above(of)),
            Err(TooWide::Grants) => too_wide("is more than any one grant gives the agent that asks".into()),
        }
    }
    stage::refusal(problems)
}

fn above(of: CeilingOf<'_>) -> String {
    match of {
        CeilingOf::Class(label) => format!("is not all below the ceiling of the class {}", label.name),
        CeilingOf::Agent(agent) => format!("is not all below the ceiling of the agent {}", agent.label.name),
    }
}

/// Writes it, with everything above it.
async fn declare(
    writing: &mut Writing<'_>,
    standing: &Standing,
    declaration: Declaration,
) -> TxResult<legate_wire::registry::Agent, Fault> {
    let key = crate::domain::kind::key_of(&declaration).ok_or_else(|| broken("an agent without a name"))?;
    // Before anything is said of who made it.
    if object::by_key(writing.tx, &key).await?.is_some() {
        return Err(refuse(Fault::refused(&AGENT_EXISTS, format!("{key} is in force"))));
    }
    let list = [Wanted::new(key, declaration)];
    let by = writing.by;
    let staged = stage::stage(writing.tx, &list, writing.now, &by.actor, &by.reason).await?;
    let mut one = staged.into_iter().next().ok_or_else(|| broken("nothing was staged"))?;
    if let Some(Object::Agent(agent)) = &mut one.wanted.object {
        let ids = standing.lineage.iter().filter_map(|above| above.metadata.as_ref()).map(|m| m.id.clone());
        let status = agent.status.get_or_insert_default();
        status.ancestors = ids.collect();
        status.set_origin(Origin::Spawned);
    }
    match writing.put(one.wanted, None, "spawned", &one.fields).await?.object {
        Some(Object::Agent(agent)) => Ok(agent),
        _ => Err(broken("an agent was made and is none")),
    }
}
