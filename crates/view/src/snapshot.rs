//! Everything the registry holds, at one revision, looked up by id and by name.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::{AgentId, Name};
use legate_wire::registry::Declaration;

use crate::agent::Agent;
use crate::agents::Agents;
use crate::approvals::Approvals;
use crate::attestation::{AttestationPolicies, Node};
use crate::boundaries::Boundaries;
use crate::delegation::{Grants, Person};
use crate::federated::FederatedTrustDomain;
use crate::groups::{Group, Groups};
use crate::intern::Interner;
use crate::issuers::Issuers;
use crate::operators::Operators;
use crate::record::{
    AgentClass, CredentialPolicy, EnforcementPoint, NamespacePolicies, NamespaceRules, PolicyTest, Role, RoleBinding,
    SigningKey, Standing,
};
use crate::revocations::Revocations;
use crate::shards::Shards;
use crate::stop_orders::StopOrders;

mod every;
mod otherwise;

pub use otherwise::Otherwise;

/// The registry at one revision. A clone is cheap and shares what does not change.
#[derive(Clone, Debug)]
pub struct Snapshot {
    revision: u64,
    /// Stands for every change up to the revision, as the registry says.
    history: Vec<u8>,
    /// By name.
    pub(crate) namespaces: Shards<NamespaceRules>,
    /// What namespaces declare of what callers state, by name; those that declare something.
    pub(crate) policy_schemas: Shards<Arc<str>>,
    pub(crate) agents: Agents,
    /// What agents share, of this snapshot and of those that it came from.
    pub(crate) shared: Arc<Interner>,
    pub(crate) classes: Shards<Arc<AgentClass>>,
    pub(crate) roles: Shards<Arc<Role>>,
    pub(crate) bindings: Shards<Arc<RoleBinding>>,
    pub(crate) bindings_by_agent: Shards<Arc<[Arc<RoleBinding>]>>,
    /// By namespace and `user:NAME`.
    pub(crate) bindings_by_user: Shards<Arc<[Arc<RoleBinding>]>>,
    pub(crate) grants: Grants,
    pub(crate) approvals: Approvals,
    pub(crate) groups: Groups,
    pub(crate) boundaries: Boundaries,
    pub(crate) credential_policies: Shards<Arc<CredentialPolicy>>,
    pub(crate) issuers: Issuers,
    pub(crate) policies: Shards<Arc<NamespacePolicies>>,
    pub(crate) policy_tests: Shards<Arc<PolicyTest>>,
    pub(crate) enforcement_points: Shards<Arc<EnforcementPoint>>,
    pub(crate) nodes: Shards<Arc<Node>>,
    pub(crate) attestation: AttestationPolicies,
    pub(crate) federated: Shards<Arc<FederatedTrustDomain>>,
    pub(crate) keys: Shards<Arc<SigningKey>>,
    pub(crate) revocations: Revocations,
    /// Classes (`NAMESPACE/NAME`) and namespaces (`NAME`) that are or were suspended.
    pub(crate) standings: Shards<Standing>,
    /// Orders that stop agents, or did.
    pub(crate) stop_orders: StopOrders,
    pub(crate) operators: Operators,
}

/// An object without which the view could allow what the registry forbids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the registry sent {kind} {name:?} which cannot be read: {why}; this service is older than the registry, or the registry is broken"
)]
pub struct Unreadable {
    /// The object's kind.
    pub kind: &'static str,
    /// Its namespace and name, as far as they are known.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// Where permissions come from, as a decision names it.
#[derive(Clone, Debug)]
pub enum Source {
    /// The agent's class.
    Class(Arc<AgentClass>),
    /// A binding, the role that it gives, and the group through which it speaks of the agent, where it does not name it.
    Binding(Arc<RoleBinding>, Arc<Role>, Option<Arc<Group>>),
}

/// Injective, since no name holds a '/'.
pub(crate) fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            revision: 0,
            history: Vec::new(),
            namespaces: Shards::new(),
            policy_schemas: Shards::new(),
            agents: Agents::new(),
            shared: Arc::new(Interner::new()),
            classes: Shards::new(),
            roles: Shards::new(),
            bindings: Shards::new(),
            bindings_by_agent: Shards::new(),
            bindings_by_user: Shards::new(),
            grants: Grants::new(),
            approvals: Approvals::new(),
            groups: Groups::new(),
            boundaries: Boundaries::new(),
            credential_policies: Shards::new(),
            issuers: Issuers::new(),
            policies: Shards::new(),
            policy_tests: Shards::new(),
            enforcement_points: Shards::new(),
            nodes: Shards::new(),
            attestation: AttestationPolicies::new(),
            federated: Shards::new(),
            keys: Shards::new(),
            revocations: Revocations::new(),
            standings: Shards::new(),
            stop_orders: StopOrders::default(),
            operators: Operators::default(),
        }
    }
}

/// Looking things up.
impl Snapshot {
    /// What these objects say, for whoever has them from elsewhere than a stream.
    ///
    /// # Errors
    /// When one of them cannot be read that could deny something.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Declaration>) -> Result<Self, Unreadable> {
        let mut snapshot = Self::default();
        for object in objects {
            snapshot.apply(object, false)?;
        }
        Ok(snapshot)
    }

    /// The revision it holds.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether the namespace is declared.
    #[must_use]
    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.get(name).is_some()
    }

    /// An agent, retired ones too.
    #[must_use]
    pub fn agent(&self, id: &AgentId) -> Option<&Arc<Agent>> {
        self.agents.get(id.as_str())
    }

    /// The agent that has the name now; never a retired one.
    #[must_use]
    pub fn agent_named(&self, namespace: &str, name: &str) -> Option<&Arc<Agent>> {
        self.agents.named(namespace, name)
    }

    /// How many agents it holds, retired ones too.
    #[must_use]
    pub fn agents_len(&self) -> usize {
        self.agents.len()
    }

    /// Every agent, retired ones too; for what is done seldom.
    pub fn agents(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.agents.all()
    }

    /// An agent class.
    #[must_use]
    pub fn class(&self, namespace: &str, name: &str) -> Option<&Arc<AgentClass>> {
        self.classes.get(&key(namespace, name))
    }

    /// A role.
    #[must_use]
    pub fn role(&self, namespace: &str, name: &str) -> Option<&Arc<Role>> {
        self.roles.get(&key(namespace, name))
    }

    /// A role binding.
    #[must_use]
    pub fn binding(&self, namespace: &str, name: &str) -> Option<&Arc<RoleBinding>> {
        self.bindings.get(&key(namespace, name))
    }

    /// A group.
    #[must_use]
    pub fn group(&self, namespace: &str, name: &Name) -> Option<&Arc<Group>> {
        self.groups.get(namespace, name)
    }

    /// The groups to which the agent belongs. Asks every selector of the namespace: where only some groups matter, ask those.
    pub fn groups_of<'a>(&'a self, agent: &'a Agent) -> impl Iterator<Item = &'a Arc<Group>> {
        self.groups.of_namespace(agent.label.namespace.as_str()).filter(|group| group.has(agent))
    }

    /// The credential policy that the agent's class names.
    ///
    /// # Errors
    /// The name of one that is not known here, or cannot be read: then nobody can say what it would refuse.
    pub fn credential_policy_of<'a>(&'a self, agent: &Agent) -> Result<Option<&'a Arc<CredentialPolicy>>, &'a Name> {
        let namespace = agent.label.namespace.as_str();
        let named = self.class(namespace, agent.class.as_str()).and_then(|class| class.credential_policy.as_ref());
        named.map(|name| self.credential_policies.get(&key(namespace, name.as_str())).ok_or(name)).transpose()
    }

    /// The bindings that speak of the agent itself, each once, and through which group where they do not name it. A binding that
    /// names agents speaks of those that existed when it was last written: an agent made later under a name that became
    /// free inherits nothing. Of groups it speaks as they are now, and never of an agent that it excepts.
    pub(crate) fn bindings_alone<'a>(
        &'a self,
        agent: &'a Agent,
    ) -> impl Iterator<Item = (&'a Arc<RoleBinding>, Option<&'a Arc<Group>>)> {
        let named = move |binding: &RoleBinding| {
            agent.label.created <= binding.label.updated && binding.agents.contains(&agent.label.name)
        };
        let direct = self
            .bindings_by_agent
            .get(&key(agent.label.namespace.as_str(), agent.label.name.as_str()))
            .into_iter()
            .flat_map(|bindings| bindings.iter())
            .filter(|binding| agent.label.created <= binding.label.updated);
        let mut seen: Vec<&Name> = Vec::new();
        let through = self.groups.bindings_of(agent).filter(move |(binding, _)| {
            let is_excepted = binding.except.contains(&agent.label.name);
            let is_new = !is_excepted && !named(binding) && !seen.contains(&&binding.label.name);
            seen.extend(is_new.then_some(&binding.label.name));
            is_new
        });
        direct.map(|binding| (binding, None)).chain(through.map(|(binding, group)| (binding, Some(group))))
    }

    /// What holds for everything in the namespace.
    #[must_use]
    pub fn rules_of(&self, namespace: &str) -> NamespaceRules {
        self.namespaces.get(namespace).copied().unwrap_or_default()
    }

    /// What the namespace declares of what callers state, as it was written; `None`: nothing. The same `Arc` is the same text.
    #[must_use]
    pub fn policy_schema(&self, namespace: &str) -> Option<&Arc<str>> {
        self.policy_schemas.get(namespace)
    }

    /// The bindings that name the person, or a group of people that it was proved to be a member of; each once.
    pub(crate) fn bindings_of_person<'a>(
        &'a self,
        namespace: &str,
        person: &Person,
    ) -> impl Iterator<Item = &'a Arc<RoleBinding>> + use<'a> {
        let mut found: Vec<&'a Arc<RoleBinding>> = Vec::new();
        for name in person.names() {
            let named = self.bindings_by_user.get(&key(namespace, name)).into_iter().flat_map(|all| all.iter());
            found.extend(
                named.filter(|one| !found.iter().any(|known| known.label.name == one.label.name)).collect::<Vec<_>>(),
            );
        }
        found.into_iter()
    }

    /// Whether a binding of the namespace names the group of people.
    #[must_use]
    pub fn binds_people(&self, namespace: &str, group: &str) -> bool {
        self.bindings_by_user.get(&key(namespace, group)).is_some()
    }

    /// The policies of a namespace; `None` when it has none.
    #[must_use]
    pub fn policies(&self, namespace: &str) -> Option<&Arc<NamespacePolicies>> {
        self.policies.get(namespace)
    }

    /// The policies of every namespace that has some.
    pub fn all_policies(&self) -> impl Iterator<Item = (&Name, &Arc<NamespacePolicies>)> {
        self.policies.values().filter_map(|policies| {
            let (_, first) = policies.by_name.first_key_value()?;
            Some((&first.label.namespace, policies))
        })
    }

    /// Every policy test; for what is done seldom.
    pub fn policy_tests(&self) -> impl Iterator<Item = &Arc<PolicyTest>> {
        self.policy_tests.values()
    }

    /// An enforcement point.
    #[must_use]
    pub fn enforcement_point(&self, namespace: &str, name: &str) -> Option<&Arc<EnforcementPoint>> {
        self.enforcement_points.get(&key(namespace, name))
    }

    /// Every enforcement point; for what is done seldom.
    pub fn enforcement_points(&self) -> impl Iterator<Item = &Arc<EnforcementPoint>> {
        self.enforcement_points.values()
    }

    /// A public key, by its key id.
    #[must_use]
    pub fn signing_key(&self, kid: &str) -> Option<&Arc<SigningKey>> {
        self.keys.get(kid)
    }

    /// Every public key.
    pub fn signing_keys(&self) -> impl Iterator<Item = &Arc<SigningKey>> {
        self.keys.values()
    }
}

/// What the files beside this one look at.
impl Snapshot {
    pub(crate) fn standings(&self) -> &Shards<Standing> {
        &self.standings
    }

    pub(crate) fn operators(&self) -> &Operators {
        &self.operators
    }

    pub(crate) fn history(&self) -> &[u8] {
        &self.history
    }

    pub(crate) fn set_revision(&mut self, revision: u64, history: &[u8]) {
        self.revision = revision;
        self.history = history.to_vec();
    }
}

/// Whether `issued` lies after the cut-off: nothing issued at or before it works.
#[must_use]
pub fn after_cutoff(issued: Timestamp, cutoff: Option<Timestamp>) -> bool {
    cutoff.is_none_or(|cutoff| issued > cutoff)
}
