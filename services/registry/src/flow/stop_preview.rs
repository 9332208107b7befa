//! Whom a stop would touch, told without changing anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_filter::Field;
use legate_ids::AgentId;
use legate_rpc::Fault;
use legate_view::Snapshot;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::stop_order_spec::Level;
use legate_wire::registry::{
    Agent, BlastRadius, Declaration, GrantGiver, Kind, Metadata, StandingStatus, StateCount, StopAgentsRequest,
    StopAgentsResponse, StopOrder, StopOrderSpec,
};

use super::{By, Desk, stop, stop_orders};
use crate::domain::kind::{self, Key};
use crate::domain::terms::{self, Fact};
use crate::domain::{check, lifecycle, lineage};
use crate::store::{broken, object, reference, refuse, search};

/// Agents that are looked at, and no more.
const LOOKED_AT: usize = 20_000;
/// Grants that are.
const GRANTS: usize = 10_000;
/// Agents below whom others are looked for.
const LINEAGES: usize = 2_000;
/// Rows that are read at once.
const AT_ONCE: u64 = 1_000;
/// Agents that are named, and givers of grants.
const NAMED: usize = 100;
const GIVERS: usize = 20;

/// Counts whom it would touch.
#[tracing::instrument(skip_all)]
pub(crate) async fn preview(desk: &Arc<Desk>, by: &By, ask: StopAgentsRequest) -> Result<StopAgentsResponse, Fault> {
    super::stage::refusal(check::check_stop_scope(ask.scope.as_ref()))?;
    let (scope, now) = (ask.scope.unwrap_or_default(), desk.clock.now());
    desk.look("preview_stop", by, move |look| {
        Box::pin(async move {
            look.mandate.demand(Right::Stop, Place::of(&scope.namespace)).map_err(refuse)?;
            let level = stop::level(look.tx, &look.mandate, &scope).await?;
            let radius = Box::pin(radius(look.tx, &scope.namespace, level, now)).await?;
            let (order, stop_time) = (None, None);
            Ok(StopAgentsResponse { order, revision: look.revision, stop_time, radius: Some(radius) })
        })
    })
    .await
}

async fn radius(tx: &Tx, namespace: &str, level: Level, now: Timestamp) -> TxResult<BlastRadius, Fault> {
    let (agents, all_seen) = named(tx, namespace, &level).await?;
    let ids: BTreeSet<String> = agents.iter().map(id).collect();
    let (below, all_below) = match level {
        Level::WholeNamespace(_) | Level::Everywhere(_) => (BTreeSet::new(), true),
        _ => below(tx, &agents, &ids).await?,
    };
    let seen = see(tx, &agents).await?;
    let is_working = |agent: &&Agent| {
        let known = AgentId::parse(&id(agent)).ok().and_then(|id| seen.agent(&id));
        known.is_some_and(|agent| seen.life_of(agent, now).stop.is_none())
    };
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for agent in &agents {
        *states.entry(lifecycle::state_name(lifecycle::state_of(agent))).or_default() += 1;
    }
    let mut names: Vec<Key> = agents.iter().filter_map(name).collect();
    names.sort_unstable();
    let (grants, givers, all_grants) = grants_of(tx, namespace, &names.iter().cloned().collect()).await?;
    Ok(BlastRadius {
        agents: agents.len() as u64,
        working: agents.iter().filter(is_working).count() as u64,
        sub_agents: below.len() as u64,
        delegation_grants: grants,
        is_exact: all_seen && all_below && all_grants,
        given_by: most(givers).take(GIVERS).map(|(who, grants)| GrantGiver { who, grants }).collect(),
        names: names.iter().take(NAMED).map(ToString::to_string).collect(),
        states: most(states.into_iter().map(|(state, count)| (state.to_owned(), count)).collect())
            .map(|(state, agents)| StateCount { state, agents })
            .collect(),
        agent_ids: ids.into_iter().chain(below).collect::<BTreeSet<_>>().into_iter().take(LOOKED_AT).collect(),
    })
}

/// Those that there are most of first.
fn most(counts: BTreeMap<String, u64>) -> impl Iterator<Item = (String, u64)> {
    let mut all: Vec<_> = counts.into_iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all.into_iter()
}

fn id(agent: &Agent) -> String {
    agent.metadata.as_ref().map(|m| m.id.clone()).unwrap_or_default()
}

fn name(agent: &Agent) -> Option<Key> {
    agent.metadata.as_ref().map(|m| Key::new(Kind::Agent, &m.namespace, &m.name))
}

/// The agents that an order would name and that are not retired, so many at most; whether these are all.
async fn named(tx: &Tx, namespace: &str, level: &Level) -> TxResult<(Vec<Agent>, bool), Fault> {
    let fact = match level {
        Level::AgentClass(class) => Some((Field::AgentClass, class)),
        Level::Owner(owner) => Some((Field::Owners, owner)),
        _ => None,
    };
    let fact = fact.and_then(|(field, value)| Some(Fact { field: terms::number(&field)?, value: value.clone() }));
    if let Level::AgentId(id) = level {
        let found = object::by_id(tx, id).await?.filter(|row| row.holds_name);
        return Ok((found.map(|row| agent_of(&row)).transpose()?.into_iter().flatten().collect(), true));
    }
    let order = order(namespace, level);
    let mut found: Vec<Agent> = Vec::new();
    let mut looked_at = 0;
    let mut after = [String::new(), String::new(), String::new()];
    loop {
        let place = after.each_ref().map(String::as_str);
        let rows = match &fact {
            None => object::after(tx, Kind::Agent, namespace, place, AT_ONCE).await?,
            Some(fact) => {
                let places = search::agents_of(tx, fact, namespace, place, AT_ONCE).await?;
                let mut rows = object::by_ids(tx, places.into_iter().map(|[_, _, id]| id).collect()).await?;
                rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
                rows
            }
        };
        looked_at += rows.len();
        let is_last = (rows.len() as u64) < AT_ONCE;
        if let Some(last) = rows.last() {
            after = [last.namespace.clone(), last.name.clone(), last.id.clone()];
        }
        let agents = rows.iter().map(agent_of).collect::<TxResult<Vec<_>, Fault>>()?;
        found.extend(those_of(&order, agents.into_iter().flatten().collect())?);
        if is_last || looked_at >= LOOKED_AT {
            return Ok((found, is_last));
        }
    }
}

fn agent_of(row: &object::Model) -> TxResult<Option<Agent>, Fault> {
    Ok(match row.declaration()?.object {
        Some(Object::Agent(agent)) => Some(agent),
        _ => None,
    })
}

/// The order that would be given: it says whom it names, as everybody will understand it who follows.
fn order(namespace: &str, level: &Level) -> Declaration {
    let key = stop_orders::key(namespace, level);
    let metadata = Metadata { name: key.name, namespace: key.namespace, ..Metadata::default() };
    let status = Some(StandingStatus { suspended: true, ..StandingStatus::default() });
    let spec = Some(StopOrderSpec { level: Some(level.clone()) });
    Declaration { object: Some(Object::StopOrder(StopOrder { metadata: Some(metadata), spec, status })) }
}

fn those_of(order: &Declaration, agents: Vec<Agent>) -> TxResult<Vec<Agent>, Fault> {
    let declared: Vec<_> = agents.iter().cloned().map(|a| Declaration { object: Some(Object::Agent(a)) }).collect();
    let seen = Snapshot::of(declared.iter().chain([order])).map_err(broken)?;
    let is_named = |agent: &Agent| {
        let known = AgentId::parse(&id(agent)).ok().and_then(|id| seen.agent(&id));
        // One that cannot be read works nowhere, and is counted all the same.
        known.is_none_or(|agent| seen.order_on(agent).suspended)
    };
    Ok(agents.into_iter().filter(is_named).collect())
}

/// Those below these agents that are not among them; whether these are all.
async fn below(tx: &Tx, agents: &[Agent], own: &BTreeSet<String>) -> TxResult<(BTreeSet<String>, bool), Fault> {
    let mut found = BTreeSet::new();
    for agent in agents.iter().take(LINEAGES) {
        let Some(metadata) = &agent.metadata else { continue };
        let place = lineage::below(&metadata.namespace, &metadata.id);
        let ids = reference::from(tx, &place, lineage::MOST_BELOW).await?;
        found.extend(ids.into_iter().filter(|id| !own.contains(id)));
    }
    Ok((found, agents.len() <= LINEAGES))
}

/// The agents with everything that decides whether they work.
async fn see(tx: &Tx, agents: &[Agent]) -> TxResult<Snapshot, Fault> {
    let own: BTreeSet<String> = agents.iter().map(id).collect();
    let above = agents.iter().filter_map(|agent| agent.status.as_ref()).flat_map(|status| status.ancestors.clone());
    let above = object::by_ids(tx, above.filter(|id| !own.contains(id)).collect()).await?;
    let above = above.iter().map(agent_of).collect::<TxResult<Vec<_>, Fault>>()?;
    let all: Vec<Agent> = above.into_iter().flatten().chain(agents.iter().cloned()).collect();
    let mut objects = stop_orders::concerning(tx, &all).await?;
    let declared = all.into_iter().map(|agent| Declaration { object: Some(Object::Agent(agent)) });
    let declared: Vec<_> = declared.collect();
    let keys = declared.iter().flat_map(kind::references).map(|(_, key)| key);
    let keys = keys.filter(|key| matches!(key.kind, Kind::Namespace | Kind::AgentClass)).collect();
    for row in object::by_keys(tx, keys).await?.into_values() {
        objects.push(row.declaration()?);
    }
    objects.extend(declared);
    Snapshot::of(&objects).map_err(broken)
}

/// How many grants let one of these agents act, or somebody act for it, and who gave them; whether these are all.
async fn grants_of(
    tx: &Tx,
    namespace: &str,
    names: &BTreeSet<Key>,
) -> TxResult<(u64, BTreeMap<String, u64>, bool), Fault> {
    let (mut count, mut givers, mut looked_at) = (0, BTreeMap::new(), 0);
    let mut after = [String::new(), String::new(), String::new()];
    loop {
        let place = after.each_ref().map(String::as_str);
        let rows = object::after(tx, Kind::DelegationGrant, namespace, place, AT_ONCE).await?;
        looked_at += rows.len();
        for row in &rows {
            let Some(Object::DelegationGrant(grant)) = row.declaration()?.object else { continue };
            let (metadata, spec) = (grant.metadata.unwrap_or_default(), grant.spec.unwrap_or_default());
            let delegator = spec.delegator.strip_prefix("agent:").unwrap_or_default();
            let is_theirs = |name: &str| names.contains(&Key::new(Kind::Agent, &metadata.namespace, name));
            if is_theirs(&spec.delegate) || is_theirs(delegator) {
                count += 1;
                *givers.entry(metadata.created_by.clone()).or_default() += 1;
            }
        }
        match rows.into_iter().next_back().map(|row| [row.namespace, row.name, row.id]) {
            Some(last) if looked_at < GRANTS => after = last,
            last => return Ok((count, givers, last.is_none())),
        }
    }
}
