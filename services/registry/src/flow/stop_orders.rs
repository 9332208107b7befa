//! Stop orders as the registry's own tables hold them: under which key one is kept, and which concern an agent.

use std::collections::BTreeSet;

use legate_authority::{Place, Right};
use legate_db::{Tx, TxError, TxResult};
use legate_ids::AgentId;
use legate_rpc::{Fault, Mandate};
use legate_view::{Snapshot, Standing};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::stop_order_spec::Level;
use legate_wire::registry::{Agent, AgentStop, Declaration, Kind, Metadata, StopOrder};

use super::publish::hash_of;
use super::write::Writing;
use crate::domain::kind::Key;
use crate::domain::lifecycle::{self, Transition};
use crate::domain::standing::{self, HEARD_BY_ALL};
use crate::domain::stop;
use crate::store::{broken, object};

/// Orders on groups in one namespace, those that left a cut-off too: each is asked about every agent there.
pub(crate) const MOST_GROUPS: u64 = 64;

/// Under which key an order is kept.
pub(super) fn key(namespace: &str, level: &Level) -> Key {
    let name = match stop::spelled(level) {
        (begins, rest) if rest.is_empty() => begins.to_owned(),
        (begins, rest) => format!("{begins}-{}", hash_of(&rest)),
    };
    Key::new(Kind::StopOrder, namespace, &name)
}

/// The orders on groups of a namespace, by name; so many at most, and one more.
pub(super) async fn on_groups(tx: &Tx, namespace: &str) -> TxResult<Vec<Declaration>, Fault> {
    let begins = format!("{}-", stop::GROUP);
    let rows = object::after(tx, Kind::StopOrder, namespace, [namespace, &begins, ""], MOST_GROUPS + 1).await?;
    rows.iter().take_while(|row| row.name.starts_with(&begins)).map(|row| row.declaration()).collect()
}

/// Every order that could name one of these agents.
pub(super) async fn concerning(tx: &Tx, agents: &[Agent]) -> TxResult<Vec<Declaration>, Fault> {
    // On most days there is none.
    if object::in_force(tx, Kind::StopOrder, 1).await?.is_empty() {
        return Ok(Vec::new());
    }
    let named = agents.iter().flat_map(stop::concerning);
    let keys = named.map(|(namespace, level)| key(&namespace, &level)).collect();
    let found = object::by_keys(tx, keys).await?;
    let mut found = found.into_values().map(|row| row.declaration()).collect::<TxResult<Vec<_>, Fault>>()?;
    let namespaces = agents.iter().filter_map(|agent| agent.metadata.as_ref()).map(|m| m.namespace.as_str());
    for namespace in namespaces.collect::<BTreeSet<_>>() {
        found.extend(on_groups(tx, namespace).await?);
    }
    Ok(found)
}

/// Says of agents which standing orders stop them, as far as the caller may know: their state alone would say that they work.
pub(super) async fn tell(tx: &Tx, mandate: &Mandate, agents: &mut [&mut Agent]) -> TxResult<(), Fault> {
    // On most days there is none.
    if object::in_force(tx, Kind::StopOrder, 1).await?.is_empty() {
        return Ok(());
    }
    let ids = agents.iter().filter_map(|agent| agent.status.as_ref()).flat_map(|status| status.ancestors.clone());
    let mut known: Vec<Agent> = agents.iter().map(|agent| Agent::clone(agent)).collect();
    for row in object::by_ids(tx, ids.collect()).await? {
        if let Some(Object::Agent(agent)) = row.declaration()?.object {
            known.push(agent);
        }
    }
    let mut orders = concerning(tx, &known).await?;
    orders.retain(standing::is_suspended);
    let declared = |agent: Agent| Declaration { object: Some(Object::Agent(agent)) };
    let known: Vec<Declaration> = known.into_iter().map(declared).collect();
    for order in orders {
        let seen = Snapshot::of(std::iter::once(&order).chain(&known)).map_err(broken)?;
        let names = |id: &str| {
            let id = AgentId::parse(id).map_err(broken)?;
            Ok::<_, TxError<Fault>>(seen.agent(&id).is_some_and(|agent| seen.order_on(agent).suspended))
        };
        for agent in agents.iter_mut() {
            let id = agent.metadata.as_ref().map(|m| m.id.clone()).unwrap_or_default();
            let status = agent.status.get_or_insert_default();
            let mut above = None;
            for one in std::iter::once(&id).chain(&status.ancestors) {
                if above.is_none() && names(one)? {
                    above = Some(if *one == id { String::new() } else { one.clone() });
                }
            }
            if let Some(ancestor_id) = above {
                status.stops.push(told(&order, ancestor_id, mandate));
            }
        }
    }
    Ok(())
}

fn told(order: &Declaration, ancestor_id: String, mandate: &Mandate) -> AgentStop {
    let Some(Object::StopOrder(StopOrder { metadata, spec, status })) = order.object.clone() else {
        return AgentStop::default();
    };
    let (metadata, status) = (metadata.unwrap_or_default(), status.unwrap_or_default());
    let place = Place::of(&metadata.namespace);
    let (reason, actor) =
        if mandate.may(Right::Read, place) { (status.state_reason, status.state_actor) } else { Default::default() };
    let Metadata { namespace, name, .. } = metadata;
    AgentStop { namespace, name, order: spec, ancestor_id, since: status.state_time, reason, actor }
}

/// How an agent stands by one order.
fn stands(order: &Declaration, agent: &Agent) -> TxResult<Standing, Fault> {
    let id = agent.metadata.as_ref().map(|m| m.id.as_str()).unwrap_or_default();
    let id = AgentId::parse(id).map_err(broken)?;
    let agent = Declaration { object: Some(Object::Agent(agent.clone())) };
    let seen = Snapshot::of([order, &agent]).map_err(broken)?;
    let standing = seen.agent(&id).map(|agent| seen.order_on(agent));
    standing.ok_or_else(|| broken("an agent cannot be read"))
}

/// Who leaves whom an order names stays as dead as it was, and where the order stands, stays stopped: the agent is suspended.
pub(super) async fn take_along(
    writing: &Writing<'_>,
    declaration: &mut Declaration,
    before: Option<&Declaration>,
) -> TxResult<(), Fault> {
    let (Some(Object::Agent(was)), Some(Object::Agent(agent))) =
        (before.and_then(|before| before.object.as_ref()), &mut declaration.object)
    else {
        return Ok(());
    };
    if stop::is_named_alike(was, agent) {
        return Ok(());
    }
    let mut is = agent.clone();
    // What is wanted has no id of its own yet.
    let id = was.metadata.as_ref().map(|m| m.id.clone()).unwrap_or_default();
    is.metadata.get_or_insert_default().id = id;
    for order in concerning(writing.tx, std::slice::from_ref(was)).await? {
        if stands(&order, was)? == Standing::default() || stands(&order, &is)? != Standing::default() {
            continue;
        }
        if standing::is_suspended(&order) {
            let whom = stop::level_of(&order).map(stop::words).unwrap_or_default();
            stay_stopped(agent, writing, &format!("it left whom a stop order names: {whom}"))?;
        }
        let status = agent.status.get_or_insert_default();
        status.authorization_cutoff = standing::later(status.authorization_cutoff, stop::cutoff_on_leaving(&order));
    }
    Ok(())
}

/// Suspends an agent that no order would name any more, and cuts it off by what it takes to be heard of a stop.
pub(super) fn stay_stopped(agent: &mut Agent, writing: &Writing<'_>, why: &str) -> TxResult<(), Fault> {
    if lifecycle::next(lifecycle::state_of(agent), Transition::Suspend).is_ok() {
        lifecycle::apply(agent, Transition::Suspend, writing.now, &writing.by.actor, why).map_err(broken)?;
    }
    let status = agent.status.get_or_insert_default();
    let heard = Some(writing.now.plus(HEARD_BY_ALL));
    status.authorization_cutoff = standing::later(status.authorization_cutoff, heard);
    Ok(())
}
