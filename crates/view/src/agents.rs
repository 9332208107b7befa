//! The agents, each held once and found by its id and, unless it is retired, by its name.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::record::{Agent, AgentState};
use crate::set::ShardedSet;

/// An agent, by its id.
#[derive(Clone, Debug)]
struct ById(Arc<Agent>);

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.as_str().hash(state);
    }
}

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        self.0.id.as_str()
    }
}

/// A namespace and a name in it, compared part by part.
trait Place {
    fn place(&self) -> (&str, &str);
}

impl Place for (&str, &str) {
    fn place(&self) -> (&str, &str) {
        *self
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Place + '_ {}

impl Hash for dyn Place + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place().hash(state);
    }
}

/// An agent, by its place.
#[derive(Clone, Debug)]
struct ByPlace(Arc<Agent>);

impl Place for ByPlace {
    fn place(&self) -> (&str, &str) {
        (self.0.label.namespace.as_str(), self.0.label.name.as_str())
    }
}

impl PartialEq for ByPlace {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for ByPlace {}

impl Hash for ByPlace {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place().hash(state);
    }
}

impl<'a> Borrow<dyn Place + 'a> for ByPlace {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

/// All agents, retired ones too.
#[derive(Clone, Debug)]
pub(crate) struct Agents {
    by_id: ShardedSet<ById>,
    by_place: ShardedSet<ByPlace>,
}

impl Agents {
    pub(crate) fn new() -> Self {
        Self { by_id: ShardedSet::new(), by_place: ShardedSet::new() }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Arc<Agent>> {
        self.by_id.get(id).map(|found| &found.0)
    }

    /// The one that has the name now; never a retired one.
    pub(crate) fn named(&self, namespace: &str, name: &str) -> Option<&Arc<Agent>> {
        self.by_place.get(&(namespace, name) as &dyn Place).map(|found| &found.0)
    }

    /// Every one, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.by_id.values().map(|held| &held.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Puts it in the place of what was known of it.
    pub(crate) fn put(&mut self, agent: Agent) {
        self.free_name(agent.id.as_str());
        let agent = Arc::new(agent);
        if agent.state != AgentState::Retired {
            self.by_place.put(ByPlace(Arc::clone(&agent)));
        }
        self.by_id.put(ById(agent));
    }

    /// Forgets it.
    pub(crate) fn take_out(&mut self, id: &str) {
        self.free_name(id);
        self.by_id.remove(id);
    }

    /// Its name is nobody's now, unless it already is another agent's.
    fn free_name(&mut self, id: &str) {
        let Some(known) = self.get(id).map(Arc::clone) else { return };
        let place = (known.label.namespace.as_str(), known.label.name.as_str());
        if self.named(place.0, place.1).is_some_and(|now| now.id == known.id) {
            self.by_place.remove(&place as &dyn Place);
        }
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
        crate::convert::agent(&agent, &mut Interner::new()).unwrap()
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
                agents.put(agent(n, &name, what == 1, version));
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
