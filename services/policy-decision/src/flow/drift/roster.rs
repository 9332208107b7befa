//! All agents in the order of pages, and who is below whom: found out once for all pages of a listing.
//!
//! A listing whose first page was of an older revision goes on in the order of then, so that pages cost what their agents cost and
//! not what there is. What an agent is, each page takes from its own view; whoever came since comes in the next listing.

use std::collections::HashMap;
use std::sync::Arc;

use legate_ids::{AgentId, Name};
use legate_view::{Agent, AgentState, Snapshot};
use parking_lot::Mutex;

use super::{Place, key};

/// The order of one revision.
#[derive(Debug)]
pub(super) struct Roster {
    revision: u64,
    order: Vec<Arc<Agent>>,
    below: HashMap<AgentId, Vec<AgentId>>,
}

/// The newest order that somebody needed.
#[derive(Debug, Default)]
pub(crate) struct Rosters(Mutex<Option<Arc<Roster>>>);

impl Rosters {
    /// The order for a page: of this view where a listing begins, else that of the newest beginning.
    pub(super) fn of(&self, snapshot: &Snapshot, begins: bool) -> Arc<Roster> {
        let known = self.0.lock().clone();
        match known {
            Some(known) if !begins || known.revision == snapshot.revision() => known,
            _ => {
                let made = Arc::new(Roster::of(snapshot));
                *self.0.lock() = Some(Arc::clone(&made));
                made
            }
        }
    }
}

impl Roster {
    fn of(snapshot: &Snapshot) -> Self {
        let mut order: Vec<Arc<Agent>> =
            snapshot.agents().filter(|agent| agent.state != AgentState::Retired).map(Arc::clone).collect();
        order.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        let mut below: HashMap<AgentId, Vec<AgentId>> = HashMap::new();
        // Retired ones too: what they used, their maker's permissions were used for.
        for agent in snapshot.agents() {
            for above in &agent.ancestors {
                below.entry(above.clone()).or_default().push(agent.id.clone());
            }
        }
        Self { revision: snapshot.revision(), order, below }
    }

    /// Of one agent alone, and whoever is below it.
    pub(super) fn of_one(snapshot: &Snapshot, agent: &Arc<Agent>) -> Self {
        let below =
            snapshot.agents().filter(|one| one.ancestors.contains(&agent.id)).map(|one| one.id.clone()).collect();
        let below = HashMap::from([(agent.id.clone(), below)]);
        Self { revision: snapshot.revision(), order: vec![Arc::clone(agent)], below }
    }

    /// Whoever was made by the agent, or by one that it made.
    pub(super) fn below(&self, id: &AgentId) -> &[AgentId] {
        self.below.get(id).map_or(&[], Vec::as_slice)
    }

    /// At most `size` agents as they are in this view, in their order, and whether there are more: those of `namespace`, where one
    /// is named, that are shown and come after a place.
    pub(super) fn page(
        &self,
        snapshot: &Snapshot,
        namespace: Option<&Name>,
        shows: impl Fn(&Name) -> bool,
        after: Option<&Place>,
        size: usize,
    ) -> (Vec<Arc<Agent>>, bool) {
        let begins = match (after, namespace) {
            (Some((namespace, name, id)), _) => {
                self.order.partition_point(|agent| key(agent) <= (namespace.as_str(), name.as_str(), id.as_str()))
            }
            (None, Some(namespace)) => self.order.partition_point(|agent| agent.label.namespace < *namespace),
            (None, None) => 0,
        };
        let rest = self.order[begins..].iter();
        let mut left = rest
            .take_while(|agent| namespace.is_none_or(|name| agent.label.namespace == *name))
            .filter(|agent| shows(&agent.label.namespace))
            .filter_map(|agent| snapshot.agent(&agent.id))
            .filter(|agent| agent.state != AgentState::Retired);
        let page = left.by_ref().take(size).map(Arc::clone).collect();
        (page, left.next().is_some())
    }
}
