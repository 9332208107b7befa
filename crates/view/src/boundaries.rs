//! Boundaries: compliance limits, and to whom each applies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use legate_authority::Week;
use legate_ids::Name;

use crate::Snapshot;
use crate::agent::Agent;
use crate::record::Label;
use crate::shards::Shards;

/// A limit. What is empty or absent, it does not limit.
#[derive(Clone, Debug)]
pub struct Boundary {
    /// Its name and namespace.
    pub label: Label,
    /// The agents to whom it applies, by name.
    pub agents: BTreeSet<Name>,
    /// The groups to whose agents it applies.
    pub groups: BTreeSet<Name>,
    /// The classes to whose agents it applies, beside the classes that name it.
    pub classes: BTreeSet<Name>,
    /// Where it names nobody, it still is not for every agent of the namespace.
    pub named_only: bool,
    /// Regions of resources.
    pub regions: BTreeSet<String>,
    /// Classes of data of resources.
    pub data_classifications: BTreeSet<String>,
    /// Purposes of questions.
    pub purposes: BTreeSet<String>,
    /// Regimes under which resources are.
    pub regimes: BTreeSet<String>,
    /// Environments of agents, as [`Agent::environment`] has them.
    pub environments: BTreeSet<&'static str>,
    /// The hours of the week; `None`: all.
    pub hours: Option<Week>,
}

impl Boundary {
    /// Whether it applies to every agent of its namespace.
    fn is_for_all(&self) -> bool {
        !self.named_only && self.agents.is_empty() && self.groups.is_empty() && self.classes.is_empty()
    }
}

/// The boundaries of one namespace by name.
type ByName = BTreeMap<Name, Arc<Boundary>>;

/// All boundaries by namespace.
#[derive(Clone, Debug)]
pub(crate) struct Boundaries(Shards<Arc<ByName>>);

impl Boundaries {
    pub(crate) fn new() -> Self {
        Self(Shards::new())
    }

    pub(crate) fn get(&self, namespace: &str, name: &Name) -> Option<&Arc<Boundary>> {
        self.0.get(namespace)?.get(name)
    }

    pub(crate) fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<Boundary>> {
        self.0.get(namespace).into_iter().flat_map(|all| all.values())
    }

    pub(crate) fn put(&mut self, boundary: Boundary) {
        let namespace = boundary.label.namespace.as_str().to_owned();
        let name = boundary.label.name.clone();
        self.0.change(&namespace, |all| Arc::make_mut(all).insert(name, Arc::new(boundary)));
    }

    pub(crate) fn take_back(&mut self, namespace: &Name, name: &Name) {
        self.0.change(namespace.as_str(), |all| Arc::make_mut(all).remove(name));
    }
}

/// To whom boundaries apply.
impl Snapshot {
    /// A boundary.
    #[must_use]
    pub fn boundary(&self, namespace: &str, name: &Name) -> Option<&Arc<Boundary>> {
        self.boundaries.get(namespace, name)
    }

    /// The boundaries that apply to the agent itself, each once, or the name of one that its class names and that is not known
    /// here: then nobody can say what it would cut.
    ///
    /// A boundary applies to the agents, groups and classes that it names and to the classes that name it; one that names
    /// nobody applies to every agent of the namespace, unless it is for those named only.
    pub(crate) fn boundaries_alone<'a>(
        &'a self,
        agent: &'a Agent,
    ) -> impl Iterator<Item = Result<&'a Arc<Boundary>, &'a Name>> {
        let namespace = agent.label.namespace.as_str();
        let class = self.class(namespace, agent.class.as_str());
        let by_class = class.map_or(&[][..], |class| class.boundaries.as_slice());
        let unknown = by_class.iter().filter(move |name| self.boundary(namespace, name).is_none());
        self.boundaries
            .of_namespace(namespace)
            .filter(move |boundary| by_class.contains(&boundary.label.name) || self.applies(boundary, agent))
            .map(Ok)
            .chain(unknown.map(Err))
    }

    /// Whether the boundary names the agent, its class or a group of it, or nobody.
    fn applies(&self, boundary: &Boundary, agent: &Agent) -> bool {
        let namespace = agent.label.namespace.as_str();
        // Of a group that is not known here nobody can say who is outside.
        let in_group = |name: &Name| self.groups.get(namespace, name).is_none_or(|group| group.has(agent));
        boundary.is_for_all()
            || boundary.agents.contains(&agent.label.name)
            || boundary.classes.contains(&agent.class)
            || boundary.groups.iter().any(in_group)
    }
}
