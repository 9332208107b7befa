//! The agents, each held once and found by its id and, unless it is retired, by its name.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::task::JoinError;

use crate::agent::{Agent, AgentState};
use crate::set::ShardedSet;

/// All agents, retired ones too. Hashes are keyed by chance (SipHash, as the standard library has it): editors choose the
/// names of agents, and none can choose names that fall together.
#[derive(Clone, Debug)]
pub(crate) struct Agents {
    by_id: ShardedSet<Arc<Agent>>,
    by_place: ShardedSet<Arc<Agent>>,
    hasher: RandomState,
}

/// A namespace and a name in it, compared part by part.
type Place<'a> = (&'a str, &'a str);

fn place_of(agent: &Agent) -> Place<'_> {
    (agent.label.namespace.as_str(), agent.label.name.as_str())
}

impl Agents {
    pub(crate) fn new() -> Self {
        Self { by_id: ShardedSet::new(), by_place: ShardedSet::new(), hasher: RandomState::new() }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Arc<Agent>> {
        let id = id.as_bytes();
        self.by_id.get(self.hasher.hash_one(id), |agent| agent.id.as_bytes() == id)
    }

    /// The one that has the name now; never a retired one.
    pub(crate) fn named(&self, namespace: &str, name: &str) -> Option<&Arc<Agent>> {
        let place = (namespace, name);
        self.by_place.get(self.hasher.hash_one(place), |agent| place_of(agent) == place)
    }

    /// Every one, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.by_id.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// These alone, as if each had been put after the other. Both tables are made at once, each of the size that it is to have:
    /// while a table grows, everything in it is hashed again.
    pub(crate) async fn of(coming: Vec<Vec<Arc<Agent>>>) -> Result<Self, JoinError> {
        let (coming, mut agents) = (Arc::new(coming), Self::new());
        let (all, hasher) = (Arc::clone(&coming), agents.hasher.clone());
        let by_id = tokio::task::spawn_blocking(move || {
            let of_id = |agent: &Arc<Agent>| hasher.hash_one(agent.id.as_bytes());
            ShardedSet::of(all.iter().flatten(), |one, other| one.id == other.id, of_id)
        });
        let (all, hasher) = (Arc::clone(&coming), agents.hasher.clone());
        let by_place = tokio::task::spawn_blocking(move || {
            let named = all.iter().flatten().filter(|agent| agent.state != AgentState::Retired);
            let of_place = |agent: &Arc<Agent>| hasher.hash_one(place_of(agent));
            ShardedSet::of(named, |one, other| place_of(one) == place_of(other), of_place)
        });
        let (by_id, by_place) = (by_id.await?, by_place.await?);
        if by_id.len() == coming.iter().map(Vec::len).sum::<usize>() {
            (agents.by_id, agents.by_place) = (by_id, by_place);
        } else {
            // One came again, perhaps under another name.
            coming.iter().flatten().for_each(|agent| agents.put(Arc::clone(agent)));
        }
        Ok(agents)
    }

    /// Puts it in the place of what was known of it.
    pub(crate) fn put(&mut self, agent: Arc<Agent>) {
        let hasher = self.hasher.clone();
        let of_id = |agent: &Arc<Agent>| hasher.hash_one(agent.id.as_bytes());
        let is_it = |known: &Arc<Agent>| known.id == agent.id;
        if let Some(known) = self.by_id.put(of_id(&agent), Arc::clone(&agent), is_it, of_id) {
            self.free_name(&known);
        }
        if agent.state != AgentState::Retired {
            let of_place = |agent: &Arc<Agent>| hasher.hash_one(place_of(agent));
            let has_it = |known: &Arc<Agent>| place_of(known) == place_of(&agent);
            self.by_place.put(of_place(&agent), Arc::clone(&agent), has_it, of_place);
        }
    }

    /// Forgets it.
    pub(crate) fn take_out(&mut self, id: &str) {
        let Some(known) = self.get(id).map(Arc::clone) else { return };
        self.free_name(&known);
        self.by_id.remove(self.hasher.hash_one(id.as_bytes()), |agent| agent.id == known.id);
    }

    /// The name of one that was known is nobody's now, unless it already is another agent's.
    fn free_name(&mut self, known: &Agent) {
        let is_it = |agent: &Arc<Agent>| agent.id == known.id && place_of(agent) == place_of(known);
        self.by_place.remove(self.hasher.hash_one(place_of(known)), is_it);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::HashMap;

    use legate_ids::AgentId;
    use legate_wire::registry as wire;
    use proptest::prelude::*;

    use super::*;
    use crate::intern::Interner;

    fn id(n: u8) -> AgentId {
        AgentId::from_parts(1, [n; 10])
    }

    fn agent(n: u8, name: &str, is_retired: bool, version: u32) -> Agent {
        let state = if is_retired { wire::AgentState::Retired } else { wire::AgentState::Active };
        let metadata = wire::Metadata {
            namespace: name[..1].into(),
            name: name[1..].into(),
            id: id(n).to_string(),
            version,
            ..wire::Metadata::default()
        };
        let spec = wire::AgentSpec { agent_class: "bots".into(), ..wire::AgentSpec::default() };
        let status = wire::AgentStatus { state: state.into(), ..wire::AgentStatus::default() };
        let agent = wire::Agent { metadata: Some(metadata), spec: Some(spec), status: Some(status) };
        crate::convert::agent(&agent, &Interner::new()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// A name is that of the agent that came to it last, until that one is retired, gone or called something else.
        #[test]
        fn an_agent_is_found_by_its_id_and_by_a_name_that_is_its_own(
            steps in proptest::collection::vec((0u8..4, "[ab][xy]", 0u8..4), 1..40),
        ) {
            let mut agents = Agents::new();
            let mut kept = Vec::new();
            let (mut ids, mut names) = (HashMap::<u8, u32>::new(), HashMap::<String, u8>::new());
            for (version, (n, name, what)) in (0u32..).zip(steps) {
                kept.push((agents.clone(), ids.clone(), names.clone()));
                names.retain(|_, holder| *holder != n);
                if what == 0 {
                    agents.take_out(id(n).as_str());
                    ids.remove(&n);
                    continue;
                }
                agents.put(agent(n, &name, what == 1, version).into());
                ids.insert(n, version);
                if what > 1 {
                    names.insert(name, n);
                }
            }
            kept.push((agents, ids, names));
            for (agents, ids, names) in kept {
                prop_assert_eq!(agents.len(), ids.len());
                prop_assert_eq!(agents.all().count(), ids.len());
                for n in 0..4 {
                    prop_assert_eq!(agents.get(id(n).as_str()).map(|a| a.label.version), ids.get(&n).copied());
                }
                for name in ["ax", "ay", "bx", "by"] {
                    let found = agents.named(&name[..1], &name[1..]);
                    let wanted = names.get(name).map(|n| (id(*n), ids[n]));
                    prop_assert_eq!(found.map(|a| (a.id.clone(), a.label.version)), wanted);
                }
            }
        }
    }
}
