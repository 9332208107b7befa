//! Somebody asks what agents used, and from when to when the audit log was heard.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::AgentId;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentUsage, GrantUsage, Kind, ListAgentUsageRequest, ListAgentUsageResponse, PermissionUsage, UsageGap, UsageWindow,
};

use super::desk::Look;
use super::heard::beyond;
use super::{By, Desk};
use crate::store::object::Model;
use crate::store::usage::{agent, gap, grant, head, permission};
use crate::store::{departure, object, unsigned};

/// Agents, and grants, of one answer.
const MOST: usize = 1_000;
/// Gaps that are told.
const GAPS: u64 = 100;
/// An id has a bound.
const LONGEST_ID: usize = 64;

/// Tells what they used, of those that the caller may see.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(
    desk: &Arc<Desk>,
    by: &By,
    ask: ListAgentUsageRequest,
) -> Result<ListAgentUsageResponse, Fault> {
    if ask.agent_ids.len() > MOST {
        return Err(Fault::invalid("agent_ids", "1,000 agents at most"));
    }
    for id in &ask.agent_ids {
        AgentId::parse(id).map_err(|e| Fault::invalid("agent_ids", e.to_string()))?;
    }
    if ask.grant_ids.len() > MOST || ask.grant_ids.iter().any(|id| id.len() > LONGEST_ID) {
        return Err(Fault::invalid("grant_ids", "1,000 ids at most"));
    }
    let read = desk.look("list_agent_usage", by, move |look| {
        Box::pin(async move {
            let agents = seen(&look, ask.agent_ids, Kind::Agent).await?;
            let grants = seen(&look, ask.grant_ids, Kind::DelegationGrant).await?;
            let grants = grant::of(look.tx, grants.into_iter().map(|row| row.id).collect()).await?;
            Ok(ListAgentUsageResponse {
                agents: used(look.tx, agents, ask.by_resource).await?,
                grants: grants.into_iter().map(of_grant).collect(),
                window: Some(window(&look).await?),
                revision: look.revision,
            })
        })
    });
    let mut told = read.await?;
    told.grants.sort_by(|a, b| a.grant_id.cmp(&b.grant_id));
    Ok(told)
}

/// Those of a kind that the caller may see, in the order of ids.
async fn seen(look: &Look<'_>, ids: Vec<String>, kind: Kind) -> TxResult<Vec<Model>, Fault> {
    let mut rows = object::by_ids(look.tx, ids.into_iter().collect()).await?;
    rows.retain(|row| row.kind == kind as i32 && look.mandate.may(Right::Read, Place::of(&row.namespace)));
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(rows)
}

async fn used(tx: &Tx, rows: Vec<Model>, by_resource: bool) -> TxResult<Vec<AgentUsage>, Fault> {
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let mut permissions: BTreeMap<String, Vec<PermissionUsage>> = BTreeMap::new();
    let mut used = permission::of(tx, ids.clone()).await?;
    if !by_resource {
        used = whole(used);
    }
    for row in used {
        permissions.entry(row.agent_id.clone()).or_default().push(of_permission(row));
    }
    let mut agents: BTreeMap<String, agent::Model> =
        agent::of(tx, ids).await?.into_iter().map(|row| (row.agent_id.clone(), row)).collect();
    let (mut sponsors, mut since) = (BTreeMap::<String, Vec<String>>::new(), BTreeMap::new());
    for row in &rows {
        if let Some(Object::Agent(agent)) = row.declaration()?.object {
            sponsors.insert(row.id.clone(), agent.spec.map(|spec| spec.sponsors).unwrap_or_default());
            since.insert(row.id.clone(), agent.status.and_then(|status| status.state_time));
        }
    }
    let everybody: BTreeSet<String> = sponsors.values().flatten().cloned().collect();
    let departed = departure::of(tx, everybody).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let of = agents.remove(&row.id);
            let named = sponsors.remove(&row.id).unwrap_or_default();
            AgentUsage {
                last_used_time: of.as_ref().and_then(|of| moment(of.used_at)),
                last_obtained_time: of.as_ref().and_then(|of| moment(of.obtained_at)),
                denied: of.map_or(0, |of| unsigned(of.denied)),
                permissions: permissions.remove(&row.id).unwrap_or_default(),
                orphaned_time: moment(row.orphaned_at),
                departed_sponsors: named
                    .into_iter()
                    .filter(|sponsor| departed.of(sponsor, &row.namespace).is_some())
                    .collect(),
                state_time: since.remove(&row.id).flatten(),
                agent_id: row.id,
            }
        })
        .collect())
}

fn moment(micros: Option<i64>) -> Option<prost_types::Timestamp> {
    micros.map(|micros| Timestamp::from_micros(micros).into())
}

/// All resources of a type together, and none of them named.
fn whole(rows: Vec<permission::Model>) -> Vec<permission::Model> {
    let mut all: BTreeMap<(String, String, String, i32), permission::Model> = BTreeMap::new();
    for mut row in rows {
        row.resource_id.clear();
        match all.entry((row.agent_id.clone(), row.action.clone(), row.resource_type.clone(), row.way)) {
            Entry::Vacant(new) => drop(new.insert(row)),
            Entry::Occupied(mut there) => there.get_mut().add(&row),
        }
    }
    all.into_values().collect()
}

fn of_permission(row: permission::Model) -> PermissionUsage {
    let days = row.days();
    PermissionUsage {
        action: row.action,
        resource_type: row.resource_type,
        resource_id: row.resource_id,
        // The numbers of both enums are the same, which a test holds.
        way: row.way,
        count: unsigned(row.count),
        first_time: moment(Some(row.first_time)),
        last_time: moment(Some(row.last_time)),
        days: days.count(),
        longest_interval_days: days.longest_interval(),
    }
}

fn of_grant(row: grant::Model) -> GrantUsage {
    GrantUsage {
        grant_id: row.grant_id,
        count: unsigned(row.count),
        first_time: moment(Some(row.first_time)),
        last_time: moment(Some(row.last_time)),
    }
}

/// From when to when the log was heard.
async fn window(look: &Look<'_>) -> TxResult<UsageWindow, Fault> {
    let head = head::read(look.tx).await?;
    let (gaps, all_since) = gap::told(look.tx, GAPS).await?;
    let to = beyond(look.desk.heard.to(), head.to_time).map(Timestamp::micros);
    Ok(UsageWindow {
        from_time: moment(head.from_time.map(|from| from.max(all_since.unwrap_or(from)))),
        to_time: moment(to),
        gaps: gaps
            .into_iter()
            .map(|row| UsageGap {
                from_time: moment(Some(row.from_time)),
                to_time: moment(Some(row.to_time)),
                cause: row.cause,
            })
            .collect(),
        heard_through: unsigned(head.through),
        log_origin: head.origin,
    })
}
