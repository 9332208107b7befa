//! Agents in the order of pages, and who is below whom: found out once for all pages of a listing.
//!
//! A listing goes on in the order of its beginning, so that pages cost what their agents cost and not what there is. What an agent is,
//! each page takes from its own view; whoever came since comes in the next listing.

use std::collections::HashMap;
use std::sync::Arc;

use legate_ids::{AgentId, Name};
use legate_view::{Agent, AgentState, Snapshot};
use parking_lot::Mutex;

/// Orders that are kept, the newest: of all agents, and of some namespaces.
const KEPT: usize = 8;

/// Where an agent is in the order.
pub(crate) type Place = (String, String, String);

/// The order of one revision.
#[derive(Debug)]
pub(crate) struct Roster {
    revision: u64,
    order: Vec<Arc<Agent>>,
    below: HashMap<AgentId, Vec<AgentId>>,
}

/// The orders that somebody needed last.
#[derive(Debug, Default)]
pub(crate) struct Rosters(Mutex<Vec<(Option<Name>, Arc<Roster>)>>);

pub(crate) fn key(agent: &Agent) -> (&str, &str, &str) {
    (agent.label.namespace.as_str(), agent.label.name.as_str(), agent.id.as_str())
}

/// Its own place.
pub(crate) fn place(agent: &Agent) -> Place {
    let (namespace, name, id) = key(agent);
    (namespace.to_owned(), name.to_owned(), id.to_owned())
}

impl Rosters {
    /// The order of all agents, or of a namespace's, as of revision `since` or a later one: that of the view where a listing begins.
    pub(crate) fn of(&self, snapshot: &Snapshot, namespace: Option<&Name>, since: u64) -> Arc<Roster> {
        let is_it = |one: &(Option<Name>, Arc<Roster>)| one.0.as_ref() == namespace;
        let known = self.0.lock().iter().find(|one| is_it(one)).map(|(_, roster)| Arc::clone(roster));
        if let Some(known) = known.filter(|known| known.revision >= since) {
            return known;
        }
        let made = Arc::new(Roster::of(snapshot, namespace));
        let mut kept = self.0.lock();
        kept.retain(|one| !is_it(one));
        kept.insert(0, (namespace.cloned(), Arc::clone(&made)));
        kept.truncate(KEPT);
        made
    }
}

impl Roster {
    fn of(snapshot: &Snapshot, namespace: Option<&Name>) -> Self {
        let is_meant = |agent: &Agent| namespace.is_none_or(|name| agent.label.namespace == *name);
        let mut order = Vec::new();
        let mut below: HashMap<AgentId, Vec<AgentId>> = HashMap::new();
        for agent in snapshot.agents().filter(|agent| is_meant(agent)) {
            // Retired ones too: what they used, their maker's permissions were used for.
            for above in &agent.ancestors {
                below.entry(above.clone()).or_default().push(agent.id.clone());
            }
            if agent.state != AgentState::Retired {
                order.push(Arc::clone(agent));
            }
        }
        order.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        Self { revision: snapshot.revision(), order, below }
    }

    /// Of one agent alone, and whoever is below it.
    pub(crate) fn of_one(snapshot: &Snapshot, agent: &Arc<Agent>) -> Self {
        let below =
            snapshot.agents().filter(|one| one.ancestors.contains(&agent.id)).map(|one| one.id.clone()).collect();
        let below = HashMap::from([(agent.id.clone(), below)]);
        Self { revision: snapshot.revision(), order: vec![Arc::clone(agent)], below }
    }

    /// As of when it is.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Whoever was made by the agent, or by one that it made.
    pub(crate) fn below(&self, id: &AgentId) -> &[AgentId] {
        self.below.get(id).map_or(&[], Vec::as_slice)
    }

    /// Those after a place, in order, as they are in this view; retired ones left out.
    pub(crate) fn after<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        after: Option<&Place>,
    ) -> impl Iterator<Item = &'a Arc<Agent>> {
        let begins = after.map_or(0, |(namespace, name, id)| {
            self.order.partition_point(|agent| key(agent) <= (namespace.as_str(), name.as_str(), id.as_str()))
        });
        let is_now = self.revision == snapshot.revision();
        let as_it_is = move |agent: &'a Arc<Agent>| if is_now { Some(agent) } else { snapshot.agent(&agent.id) };
        self.order[begins..].iter().filter_map(as_it_is).filter(|agent| agent.state != AgentState::Retired)
    }
}
