//! The agent that calls, as the registry's own tables know it: everything above it, and whoever is below it.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::{AgentId, Name, Principal};
use legate_mtls::Peer;
use legate_rpc::{Fault, Permit};
use legate_view::{CALLER_NOT_ACTIVE, CALLER_UNKNOWN, Snapshot, after_cutoff};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, AgentClassSpec, Approval, Declaration, Kind, NamespaceSpec};

use super::{revoke_issued, stop_orders};
use crate::domain::kind::Key;
use crate::domain::{cut_off, lineage};
use crate::store::{broken, object, reference, refuse};

/// Bindings of the agent at the top that are looked at; more is no ordinary thing.
const MOST_BINDINGS: u64 = 1_000;

/// An agent that calls, as its certificate names it.
#[derive(Clone, Debug)]
pub(crate) struct Calling {
    peer: Arc<Peer>,
    pub(super) id: AgentId,
    namespace: Name,
}

impl Calling {
    /// The agent of a permit.
    pub(crate) fn of(permit: &Permit) -> Result<Self, Fault> {
        Self::read(permit.shared_peer())
    }

    /// The agent that a certificate names.
    pub(crate) fn read(peer: Arc<Peer>) -> Result<Self, Fault> {
        match &peer.principal {
            Some(Principal::Agent { namespace, id, .. }) => {
                let (namespace, id) = (namespace.clone(), id.clone());
                Ok(Self { peer, id, namespace })
            }
            _ => Err(Fault::refused(&CALLER_UNKNOWN, "only an agent has agents of its own")),
        }
    }
}

/// The calling agent and everything above it, in good standing.
#[derive(Debug)]
pub(super) struct Standing {
    /// The caller, whoever made it, and so on up to the one that an operator declared.
    pub(super) lineage: Vec<Agent>,
    pub(super) namespace: NamespaceSpec,
    /// The caller's class.
    pub(super) class: AgentClassSpec,
    /// They as everybody sees them who follows the registry.
    pub(super) seen: Snapshot,
}

impl Standing {
    /// The caller.
    pub(super) fn caller(&self) -> Result<&Agent, Fault> {
        self.lineage.first().ok_or_else(|| Fault::broken("a lineage of nobody"))
    }

    /// The caller as everybody sees it who follows the registry.
    pub(super) fn seen_caller(&self) -> Result<&legate_view::Agent, Fault> {
        let id = self.caller()?.metadata.as_ref().map(|m| m.id.as_str()).unwrap_or_default();
        let id = AgentId::parse(id).map_err(Fault::broken)?;
        let agent = self.seen.agent(&id).ok_or_else(|| Fault::broken("the caller is not among its own lineage"))?;
        Ok(agent)
    }

    /// Whether the caller, or what is above it, is stopped.
    fn is_stopped(&self, now: Timestamp) -> Result<bool, Fault> {
        Ok(self.seen.life_of(self.seen_caller()?, now).stop.is_some())
    }

    /// Whether the caller asked for it in the life that it has now, and after every cut-off: what was asked with credentials
    /// that were taken back is nobody's any more.
    pub(super) fn asked_in_this_life(&self, approval: &Approval, now: Timestamp) -> bool {
        let Ok(caller) = self.seen_caller() else { return false };
        let life = self.seen.life_of(caller, now);
        let asked = approval.metadata.as_ref().and_then(|m| m.create_time).and_then(|at| Timestamp::try_from(at).ok());
        approval.spec.as_ref().is_some_and(|spec| spec.lifecycle_version == life.lifecycle_version)
            && asked.is_some_and(|asked| after_cutoff(asked, life.cutoff()))
    }
}

/// Whether the caller is in good standing at this very moment: what the services above learn from the stream is read here
/// from the tables, under the same rules. Within a write nothing can change meanwhile.
pub(super) async fn standing(tx: &Tx, calling: &Calling, now: Timestamp) -> TxResult<Standing, Fault> {
    let certificate = lineage::certificate(&calling.peer.x5t_s256);
    let standing = gather(tx, &calling.id, calling.namespace.as_str(), Some(&certificate)).await?;
    standing.seen.judge(&calling.peer, now).map_err(refuse)?;
    Ok(standing)
}

/// The same for an agent whom another service authenticated: whether it works is judged here, how it proved itself there.
pub(super) async fn standing_of(tx: &Tx, id: &AgentId, now: Timestamp) -> TxResult<Standing, Fault> {
    let unknown = || refuse(Fault::refused(&CALLER_UNKNOWN, format!("there is no agent {id}")));
    let namespace = agent(tx, id.as_str()).await?.and_then(|agent| agent.metadata).ok_or_else(unknown)?.namespace;
    let standing = gather(tx, id, &namespace, None).await?;
    if standing.is_stopped(now).map_err(refuse)? {
        let text = format!("the agent {id} is not ACTIVE, or what is above it is stopped");
        return Err(refuse(Fault::refused(&CALLER_NOT_ACTIVE, text)));
    }
    Ok(standing)
}

/// Whether an agent of a namespace is stopped: by itself, by what is above it, or by a stop order.
pub(super) async fn is_stopped(tx: &Tx, id: &AgentId, namespace: &str, now: Timestamp) -> TxResult<bool, Fault> {
    gather(tx, id, namespace, None).await?.is_stopped(now).map_err(refuse)
}

/// The agent, everything above it, and what was given to them.
async fn gather(tx: &Tx, id: &AgentId, of: &str, certificate: Option<&Key>) -> TxResult<Standing, Fault> {
    let mut lineage = lineage_of(tx, id.as_str()).await?;
    // Another namespace's is told like one that never was.
    lineage.retain(|agent| agent.metadata.as_ref().is_some_and(|m| m.namespace == of));
    let own = Key::new(Kind::Namespace, "", of);
    let mut objects: Vec<Declaration> = Vec::new();
    let mut namespace = NamespaceSpec::default();
    if let Some(declaration) = by_key(tx, &own).await? {
        if let Some(Object::Namespace(o)) = &declaration.object {
            namespace = o.spec.clone().unwrap_or_default();
        }
        objects.push(declaration);
    }
    let mut class = AgentClassSpec::default();
    for (n, agent) in lineage.iter().enumerate() {
        let name = agent.spec.as_ref().map(|spec| spec.agent_class.as_str()).unwrap_or_default();
        if let Some(declaration) = by_key(tx, &Key::new(Kind::AgentClass, of, name)).await? {
            if let (0, Some(Object::AgentClass(o))) = (n, &declaration.object) {
                class = o.spec.clone().unwrap_or_default();
            }
            objects.push(declaration);
        }
        objects.push(Declaration { object: Some(Object::Agent(agent.clone())) });
    }
    if let Some(certificate) = certificate {
        for id in reference::from(tx, certificate, 1).await? {
            objects.extend(by_id(tx, &id).await?);
        }
    }
    let cut_off = lineage.iter().flat_map(cut_off::concerning);
    objects.extend(revoke_issued::in_force(tx, cut_off).await?);
    objects.extend(Box::pin(stop_orders::concerning(tx, &lineage)).await?);
    if let Some(top) = lineage.last() {
        objects.extend(given_to(tx, top).await?);
    }
    let seen = Snapshot::of(&objects).map_err(broken)?;
    Ok(Standing { lineage, namespace, class, seen })
}

/// The agent, whoever made it, and so on; empty when there is no such agent.
pub(super) async fn lineage_of(tx: &Tx, id: &str) -> TxResult<Vec<Agent>, Fault> {
    let Some(first) = agent(tx, id).await? else { return Ok(Vec::new()) };
    let ancestors = first.status.as_ref().map(|status| status.ancestors.clone()).unwrap_or_default();
    let mut all = vec![first];
    for id in ancestors {
        all.extend(agent(tx, &id).await?);
    }
    Ok(all)
}

/// The bindings that name an agent, and their roles.
async fn given_to(tx: &Tx, agent: &Agent) -> TxResult<Vec<Declaration>, Fault> {
    let metadata = agent.metadata.clone().unwrap_or_default();
    let key = Key::new(Kind::Agent, &metadata.namespace, &metadata.name);
    let mut found = Vec::new();
    for id in reference::from(tx, &key, MOST_BINDINGS).await? {
        let Some(declaration) = by_id(tx, &id).await? else { continue };
        if let Some(Object::RoleBinding(binding)) = &declaration.object {
            let role = binding.spec.as_ref().map(|spec| spec.role.as_str()).unwrap_or_default();
            found.extend(by_key(tx, &Key::new(Kind::Role, &metadata.namespace, role)).await?);
            found.push(declaration);
        }
    }
    Ok(found)
}

/// Those that an agent made itself and that are not retired, by id, `limit` at most.
pub(super) async fn children_of(tx: &Tx, namespace: &str, id: &str, limit: u64) -> TxResult<Vec<Declaration>, Fault> {
    each(tx, reference::from(tx, &lineage::child_of(namespace, id), limit).await?).await
}

/// All that are below an agent and not retired, by id, `limit` at most.
pub(super) async fn below(tx: &Tx, namespace: &str, id: &str, limit: u64) -> TxResult<Vec<Declaration>, Fault> {
    each(tx, reference::from(tx, &lineage::below(namespace, id), limit).await?).await
}

async fn each(tx: &Tx, ids: Vec<String>) -> TxResult<Vec<Declaration>, Fault> {
    let mut rows = object::by_ids(tx, ids.into_iter().collect()).await?;
    rows.sort_by(|one, other| one.id.cmp(&other.id));
    rows.iter().map(|row| row.declaration()).collect()
}

async fn by_id(tx: &Tx, id: &str) -> TxResult<Option<Declaration>, Fault> {
    object::by_id(tx, id).await?.map(|row| row.declaration()).transpose()
}

async fn by_key(tx: &Tx, key: &Key) -> TxResult<Option<Declaration>, Fault> {
    object::by_key(tx, key).await?.map(|row| row.declaration()).transpose()
}

async fn agent(tx: &Tx, id: &str) -> TxResult<Option<Agent>, Fault> {
    Ok(match by_id(tx, id).await?.and_then(|declaration| declaration.object) {
        Some(Object::Agent(agent)) => Some(agent),
        _ => None,
    })
}

/// The id of a declared object.
pub(super) fn id_of(declaration: &Declaration) -> String {
    declaration.metadata().map(|m| m.id.clone()).unwrap_or_default()
}
