//! Somebody asks what people approved of agents, and what was written by hand: what use is held against.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::{AgentId, Name, ObjectId, SpiffeId};
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentBaseline, ApprovedThing, Declaration, Kind, ListAgentBaselinesRequest, ListAgentBaselinesResponse, Metadata,
    ReviewDecision, ReviewItem, ReviewedThing, WrittenByHand,
};

use super::desk::Look;
use super::{By, Desk};
use crate::domain::diff;
use crate::domain::kind::Key;
use crate::store::object::Model;
use crate::store::{approved, change, object, review_item};

/// Agents, and objects, of one answer.
const MOST: usize = 1_000;
/// Versions that are read at once, and that are looked at to find who wrote something.
const STEP: u64 = 8;
const VERSIONS: usize = 64;

/// Tells it, of those that the caller may see.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(
    desk: &Arc<Desk>,
    by: &By,
    ask: ListAgentBaselinesRequest,
) -> Result<ListAgentBaselinesResponse, Fault> {
    if ask.agent_ids.len() > MOST {
        return Err(Fault::invalid("agent_ids", "1,000 agents at most"));
    }
    for id in &ask.agent_ids {
        AgentId::parse(id).map_err(|e| Fault::invalid("agent_ids", e.to_string()))?;
    }
    if ask.object_ids.len() > MOST {
        return Err(Fault::invalid("object_ids", "1,000 objects at most"));
    }
    for id in &ask.object_ids {
        let known = AgentId::parse(id).map(|_| ()).or_else(|_| ObjectId::parse(id).map(|_| ()));
        known.map_err(|e| Fault::invalid("object_ids", e.to_string()))?;
    }
    desk.look("list_agent_baselines", by, move |look| {
        Box::pin(async move {
            let agents = seen(&look, ask.agent_ids).await?;
            let agents = agents.into_iter().filter(|row| row.kind == Kind::Agent as i32).map(|row| row.id);
            let agents = baselines(look.tx, agents.collect()).await?;
            let objects = by_hand(&look, seen(&look, ask.object_ids).await?).await?;
            Ok(ListAgentBaselinesResponse { agents, objects, revision: look.revision })
        })
    })
    .await
}

/// Those that the caller may see and that are in force, in the order of ids.
async fn seen(look: &Look<'_>, ids: Vec<String>) -> TxResult<Vec<Model>, Fault> {
    let mut rows = object::by_ids(look.tx, ids.into_iter().collect()).await?;
    rows.retain(|row| row.holds_name && look.mandate.may(Right::Read, Place::of(&row.namespace)));
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(rows)
}

/// What was approved of an agent, by kind and id.
type Things = BTreeMap<(i32, String), ApprovedThing>;

/// What was approved of these agents: with each itself, and thing by thing in the reviews since then.
async fn baselines(tx: &Tx, agents: Vec<String>) -> TxResult<Vec<AgentBaseline>, Fault> {
    let mut all: BTreeMap<String, (i64, Things)> = BTreeMap::new();
    for row in approved::of(tx, agents.clone()).await? {
        let (at, things) = all.entry(row.agent_id.clone()).or_insert((i64::MIN, BTreeMap::new()));
        *at = row.approved_at.max(*at);
        things.insert((row.reviewed, row.granted_id.clone()), row.thing()?);
    }
    for ((agent, granted), item) in review_item::earlier(tx, agents).await? {
        if item.reviewed() == ReviewedThing::DelegationGrant {
            continue;
        }
        let (at, things) = all.entry(agent).or_insert((i64::MIN, BTreeMap::new()));
        let decided = item.decide_time.and_then(|at| Timestamp::try_from(at).ok()).unwrap_or_default();
        // Everything that it had was approved again after that.
        if decided.micros() >= *at {
            things.insert((item.reviewed, granted), decided_of(item));
        }
    }
    let told = all.into_iter().filter(|(_, (_, things))| !things.is_empty());
    Ok(told.map(|(agent_id, (_, things))| AgentBaseline { agent_id, things: things.into_values().collect() }).collect())
}

/// What of an item was approved.
fn decided_of(item: ReviewItem) -> ApprovedThing {
    let permissions = match item.decision() {
        ReviewDecision::Certify => item.permissions,
        ReviewDecision::Reduce => item.keep,
        ReviewDecision::Revoke | ReviewDecision::Unspecified | ReviewDecision::Reassign => Vec::new(),
    };
    ApprovedThing {
        reviewed: item.reviewed,
        granted_id: item.granted_id,
        granted: item.granted,
        permissions,
        resources: item.resources,
        time: item.decide_time,
        approved_by: item.decided_by,
        review_id: item.review_id,
    }
}

/// Those of some objects that were last written by an operator who is no pipeline, in namespaces that have some.
async fn by_hand(look: &Look<'_>, rows: Vec<Model>) -> TxResult<Vec<WrittenByHand>, Fault> {
    let pipelines = pipelines(look, &rows).await?;
    let own = look.desk.own.to_string();
    let mut found = Vec::new();
    for row in rows {
        let Some(code) = pipelines.get(&row.namespace) else { continue };
        let declaration = row.declaration()?;
        // Nearly always a pipeline wrote it last, and no history is read. Of what has a life of its own that may have been a step in it.
        let has_steps = [Kind::Agent as i32, Kind::AgentClass as i32].contains(&row.kind);
        let is_declared = |metadata: &Metadata| !has_steps || metadata.version == 1;
        if declaration.metadata().is_some_and(|of| code.contains(&of.updated_by) && is_declared(of)) {
            continue;
        }
        let written = last_write(look.tx, &row.id, &own).await?;
        let written = written.filter(|metadata| {
            let is_operator = metadata.updated_by.contains("/legate/operator/");
            is_operator && !code.contains(&metadata.updated_by)
        });
        found.extend(written.map(|metadata| WrittenByHand {
            object_id: row.id,
            kind: row.kind,
            namespace: metadata.namespace,
            name: metadata.name,
            revision: metadata.revision,
            time: metadata.update_time,
            actor: metadata.updated_by,
            reason: metadata.reason,
        }));
    }
    Ok(found)
}

/// The SPIFFE IDs of the pipelines of those namespaces that have some.
async fn pipelines(look: &Look<'_>, rows: &[Model]) -> TxResult<BTreeMap<String, BTreeSet<String>>, Fault> {
    let keys = rows.iter().map(|row| Key::new(Kind::Namespace, "", &row.namespace)).collect();
    let mut found = BTreeMap::new();
    for (key, row) in object::by_keys(look.tx, keys).await? {
        let Some(Object::Namespace(namespace)) = row.declaration()?.object else { continue };
        let names = namespace.spec.map(|spec| spec.pipelines).unwrap_or_default();
        let names = names.iter().filter_map(|name| Name::parse(name).ok());
        let ids: BTreeSet<String> =
            names.map(|name| SpiffeId::operator(&look.desk.domain, &name).to_string()).collect();
        if !ids.is_empty() {
            found.insert(key.name, ids);
        }
    }
    Ok(found)
}

/// The write that last changed what is declared of an object, but for the registry's own; `None` where none of those that are kept can be told
/// to be it.
async fn last_write(tx: &Tx, id: &str, own: &str) -> TxResult<Option<Metadata>, Fault> {
    let (mut later, mut after, mut looked_at): (Option<Declaration>, _, _) = (None, None, 0);
    loop {
        let rows = change::of_object(tx, id, after, false, STEP).await?;
        let is_all = (rows.len() as u64) < STEP;
        looked_at += rows.len();
        for row in rows {
            let earlier = row.declaration()?;
            let is_declared = |later: &Declaration| {
                let by = later.metadata().map(|metadata| metadata.updated_by.as_str());
                by != Some(own) && !diff::diff(Some(&earlier), later).is_empty()
            };
            if let Some(later) = later.take().filter(is_declared) {
                return Ok(later.metadata().cloned());
            }
            after = Some((row.revision, row.place));
            later = Some(earlier);
        }
        if is_all {
            // The first write declared all of it. Of one that only comes first since those before it are forgotten nobody knows.
            let first = later.and_then(|first| first.metadata().cloned());
            return Ok(first.filter(|metadata| metadata.version == 1 && metadata.updated_by != own));
        }
        if looked_at >= VERSIONS {
            return Ok(None);
        }
    }
}
