//! Groups: agents by list or by what is declared of them, and the bindings that speak of groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::Name;

use crate::agent::Agent;
use crate::record::{Label, RoleBinding};
use crate::selector::Selector;
use crate::shards::Shards;

/// Agents of a namespace that bindings, boundaries and policies can speak of together.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name and namespace.
    pub label: Label,
    /// The agents that it lists, in order.
    pub(crate) agents: Vec<Name>,
    /// Selects agents by what is declared of them.
    pub(crate) selector: Option<Selector>,
}

impl Group {
    /// The same, written at `now` with one more agent in its list.
    #[must_use]
    pub fn with(&self, agent: &Name, now: Timestamp) -> Self {
        let mut group = self.clone();
        if let Err(place) = group.agents.binary_search(agent) {
            group.agents.insert(place, agent.clone());
        }
        group.label.updated = group.label.updated.max(now);
        group
    }

    /// Whether the agent belongs to it now: it is listed, or selected by what is declared of it at this revision.
    ///
    /// A list speaks of the agents that existed when it was last written, as a binding does: an agent made later under a
    /// name that became free inherits nothing. What a selector selects it selects at once, new agents too.
    #[must_use]
    pub fn has(&self, agent: &Agent) -> bool {
        let is_here = agent.label.namespace == self.label.namespace;
        self.lists(agent) || is_here && self.selector.as_ref().is_some_and(|selector| selector.selects(agent))
    }

    /// Whether it names the agent.
    #[must_use]
    pub fn lists(&self, agent: &Agent) -> bool {
        agent.label.namespace == self.label.namespace
            && agent.label.created <= self.label.updated
            && self.agents.binary_search(&agent.label.name).is_ok()
    }
}

/// The groups of one namespace by name.
type ByName = BTreeMap<Name, Arc<Group>>;
/// The bindings of one namespace that name groups, by group.
type Bound = BTreeMap<Name, Vec<Arc<RoleBinding>>>;

/// All groups by namespace. Only those that a binding names cost a question anything.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    by_namespace: Shards<Arc<ByName>>,
    bound: Shards<Arc<Bound>>,
}

impl Groups {
    pub(crate) fn new() -> Self {
        Self { by_namespace: Shards::new(), bound: Shards::new() }
    }

    pub(crate) fn get(&self, namespace: &str, name: &Name) -> Option<&Arc<Group>> {
        self.by_namespace.get(namespace)?.get(name)
    }

    /// All groups of a namespace, in order.
    pub(crate) fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<Group>> {
        self.by_namespace.get(namespace).into_iter().flat_map(|all| all.values())
    }

    pub(crate) fn put(&mut self, group: Group) {
        let namespace = group.label.namespace.as_str().to_owned();
        self.by_namespace
            .change(&namespace, |all| Arc::make_mut(all).insert(group.label.name.clone(), Arc::new(group)));
    }

    pub(crate) fn take_back(&mut self, namespace: &Name, name: &Name) {
        self.by_namespace.change(namespace.as_str(), |all| Arc::make_mut(all).remove(name));
    }

    /// Forgets what bindings of `before` name, and learns what those of `after` do.
    pub(crate) fn bind(&mut self, before: Option<&Arc<RoleBinding>>, after: Option<&Arc<RoleBinding>>) {
        for old in before.into_iter().filter(|b| !b.groups.is_empty()) {
            self.bound.change(old.label.namespace.as_str(), |bound| {
                let bound = Arc::make_mut(bound);
                for group in &old.groups {
                    let Some(bindings) = bound.get_mut(group) else { continue };
                    bindings.retain(|b| b.label.name != old.label.name);
                    if bindings.is_empty() {
                        bound.remove(group);
                    }
                }
            });
        }
        for new in after.into_iter().filter(|b| !b.groups.is_empty()) {
            self.bound.change(new.label.namespace.as_str(), |bound| {
                let bound = Arc::make_mut(bound);
                for group in &new.groups {
                    let bindings = bound.entry(group.clone()).or_default();
                    // A binding may name a group twice.
                    if !bindings.iter().any(|b| b.label.name == new.label.name) {
                        bindings.push(Arc::clone(new));
                    }
                }
            });
        }
    }

    /// The bindings that speak of the agent through a group, each once for every such group.
    pub(crate) fn bindings_of<'a>(
        &'a self,
        agent: &'a Agent,
    ) -> impl Iterator<Item = (&'a Arc<RoleBinding>, &'a Arc<Group>)> {
        let namespace = agent.label.namespace.as_str();
        let bound = self.bound.get(namespace).into_iter().flat_map(|bound| bound.iter());
        bound
            .filter_map(move |(name, bindings)| Some((self.get(namespace, name)?, bindings)))
            .filter(|(group, _)| group.has(agent))
            .flat_map(|(group, bindings)| bindings.iter().map(move |binding| (binding, group)))
    }
}
