//! By which version of its class an agent is judged: the one in force, whichever it was when the agent was written last.

use std::collections::{BTreeMap, BTreeSet};

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, Declaration, Kind};

use crate::domain::kind::Key;
use crate::store::{change, object};

/// Classes that are read at once: each can be a quarter of a MiB.
const AT_ONCE: usize = 64;

/// The agents among objects.
pub(super) fn agents(objects: &mut [Declaration]) -> Vec<&mut Agent> {
    let agents = objects.iter_mut().filter_map(|declaration| match &mut declaration.object {
        Some(Object::Agent(agent)) => Some(agent),
        _ => None,
    });
    agents.collect()
}

/// Says of agents which version of their class is in force, or was at a revision. It is no part of them: no history and no stream
/// has it.
pub(super) async fn tell(tx: &Tx, agents: &mut [&mut Agent], then: Option<u64>) -> TxResult<(), Fault> {
    let keys: Vec<Key> = agents.iter().map(|agent| class_of(agent)).collect::<BTreeSet<_>>().into_iter().collect();
    let mut versions = BTreeMap::new();
    for some in keys.chunks(AT_ONCE) {
        match then {
            None => {
                for (key, row) in object::by_keys(tx, some.iter().cloned().collect()).await? {
                    versions.insert(key, version(&row.declaration()?));
                }
            }
            Some(revision) => {
                for key in some {
                    if let Some(class) = change::holder(tx, key, revision).await? {
                        versions.insert(key.clone(), version(&class));
                    }
                }
            }
        }
    }
    for agent in agents {
        let version = versions.get(&class_of(agent)).copied().unwrap_or(0);
        agent.status.get_or_insert_default().class_version_in_force = version;
    }
    Ok(())
}

fn version(class: &Declaration) -> u32 {
    class.metadata().map_or(0, |metadata| metadata.version)
}

fn class_of(agent: &Agent) -> Key {
    let namespace = agent.metadata.as_ref().map(|metadata| metadata.namespace.as_str()).unwrap_or_default();
    let name = agent.spec.as_ref().map(|spec| spec.agent_class.as_str()).unwrap_or_default();
    Key::new(Kind::AgentClass, namespace, name)
}
