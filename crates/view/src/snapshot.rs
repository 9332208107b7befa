//! Everything the registry holds, at one revision, looked up by id and by name.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::{AgentId, Name};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Metadata};
use parking_lot::Mutex;

use crate::agents::Agents;
use crate::bindings;
use crate::boundaries::Boundaries;
use crate::convert;
use crate::delegation::Grants;
use crate::groups::{Group, Groups};
use crate::intern::Interner;
use crate::issuers::Issuers;
use crate::operators::Operators;
use crate::record::{
    Agent, AgentClass, CredentialPolicy, EnforcementPoint, NamespacePolicies, NamespaceRules, Policy, PolicyTest,
    Revoked, Role, RoleBinding, SigningKey, Standing,
};
use crate::revocations::Revocations;
use crate::shards::Shards;

/// The registry at one revision. A clone is cheap and shares what does not change.
#[derive(Clone, Debug)]
pub struct Snapshot {
    revision: u64,
    /// Stands for every change up to the revision, as the registry says.
    history: Vec<u8>,
    /// By name.
    namespaces: Shards<NamespaceRules>,
    pub(crate) agents: Agents,
    /// What agents share, of this snapshot and of those that it came from.
    shared: Arc<Mutex<Interner>>,
    classes: Shards<Arc<AgentClass>>,
    roles: Shards<Arc<Role>>,
    bindings: Shards<Arc<RoleBinding>>,
    bindings_by_agent: Shards<Arc<[Arc<RoleBinding>]>>,
    /// By namespace and `user:NAME`.
    bindings_by_user: Shards<Arc<[Arc<RoleBinding>]>>,
    pub(crate) grants: Grants,
    pub(crate) groups: Groups,
    pub(crate) boundaries: Boundaries,
    credential_policies: Shards<Arc<CredentialPolicy>>,
    pub(crate) issuers: Issuers,
    policies: Shards<Arc<NamespacePolicies>>,
    policy_tests: Shards<Arc<PolicyTest>>,
    enforcement_points: Shards<Arc<EnforcementPoint>>,
    keys: Shards<Arc<SigningKey>>,
    pub(crate) revocations: Revocations,
    /// Classes (`NAMESPACE/NAME`) and namespaces (`NAME`) that are or were suspended.
    standings: Shards<Standing>,
    operators: Operators,
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

/// What one change did, as far as somebody has to act on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Somebody who could connect before may not be allowed to now.
    pub(crate) takes_away: bool,
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
            agents: Agents::new(),
            shared: Arc::new(Mutex::new(Interner::new())),
            classes: Shards::new(),
            roles: Shards::new(),
            bindings: Shards::new(),
            bindings_by_agent: Shards::new(),
            bindings_by_user: Shards::new(),
            grants: Grants::new(),
            groups: Groups::new(),
            boundaries: Boundaries::new(),
            credential_policies: Shards::new(),
            issuers: Issuers::new(),
            policies: Shards::new(),
            policy_tests: Shards::new(),
            enforcement_points: Shards::new(),
            keys: Shards::new(),
            revocations: Revocations::new(),
            standings: Shards::new(),
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
    /// free inherits nothing. Of groups it speaks as they are now.
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
            let is_new = !named(binding) && !seen.contains(&&binding.label.name);
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

    /// The bindings that name the person, as `user:NAME`.
    pub(crate) fn bindings_of_person<'a>(
        &'a self,
        namespace: &str,
        person: &str,
    ) -> impl Iterator<Item = &'a Arc<RoleBinding>> + use<'a> {
        self.bindings_by_user.get(&key(namespace, person)).into_iter().flat_map(|bindings| bindings.iter())
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

/// Taking changes in.
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

    /// Takes in an object as it is now, or takes it out when it is revoked.
    pub(crate) fn apply(&mut self, object: &Declaration, revoked: bool) -> Result<Effect, Unreadable> {
        match &object.object {
            None => Err(Unreadable {
                kind: "an object of a kind unknown here",
                name: String::new(),
                why: "what it would take away is not known".into(),
            }),
            Some(Object::Namespace(o)) => {
                let name = o.metadata.as_ref().map_or("", |m| m.name.as_str());
                if revoked {
                    self.namespaces.remove(name);
                } else {
                    self.namespaces.insert(name, convert::namespace_rules(o));
                }
                self.apply_standing("Namespace", name, o.status.as_ref(), revoked)
            }
            Some(Object::Agent(o)) => self.apply_agent(o, revoked),
            Some(Object::AgentClass(o)) => {
                let key = place("AgentClass", o.metadata.as_ref())?;
                self.classes.set(&key, revoked, "AgentClass", || convert::class(o));
                self.apply_standing("AgentClass", &key, o.status.as_ref(), revoked)
            }
            Some(Object::Role(o)) => {
                let key = place("Role", o.metadata.as_ref())?;
                self.roles.set(&key, revoked, "Role", || convert::role(o));
                Ok(Effect::default())
            }
            Some(Object::RoleBinding(o)) => {
                let key = place("RoleBinding", o.metadata.as_ref())?;
                self.apply_binding(o, &key, revoked)
            }
            Some(Object::Policy(o)) => self.apply_policy(o, revoked),
            Some(Object::EnforcementPoint(o)) => {
                let key = place("EnforcementPoint", o.metadata.as_ref())?;
                self.enforcement_points.set(&key, revoked, "EnforcementPoint", || convert::enforcement_point(o));
                let takes_away = self.enforcement_points.get(&key).is_none();
                Ok(Effect { takes_away })
            }
            Some(Object::SigningKey(o)) => {
                let kid = o.spec.as_ref().map_or("", |s| s.kid.as_str());
                // Whatever a compromised key signed is worth nothing, at whatever time and by whatever clock.
                let is_taken_back = o.spec.as_ref().is_some_and(|s| s.revoke_time.is_some());
                self.keys.set(kid, revoked || is_taken_back, "SigningKey", || convert::signing_key(o));
                Ok(Effect::default())
            }
            Some(Object::Revocation(o)) => self.apply_revocation(o, revoked),
            Some(Object::Group(o)) => self.apply_group(o, revoked),
            Some(Object::Boundary(o)) => self.apply_boundary(o, revoked),
            Some(Object::CredentialPolicy(o)) => {
                let key = place("CredentialPolicy", o.metadata.as_ref())?;
                let read = || convert::credential_policy(o);
                self.credential_policies.set(&key, revoked, "CredentialPolicy", read);
                Ok(Effect::default())
            }
            Some(Object::PolicyTest(o)) => {
                let key = place("PolicyTest", o.metadata.as_ref())?;
                self.policy_tests.set(&key, revoked, "PolicyTest", || convert::policy_test(o));
                Ok(Effect::default())
            }
            Some(Object::DelegationGrant(o)) => {
                let key = place("DelegationGrant", o.metadata.as_ref())?;
                self.grants.apply(&key, o, revoked);
                Ok(Effect::default())
            }
            Some(Object::TrustedIssuer(o)) => self.apply_trusted_issuer(o, revoked),
            // Nothing here rests on these.
            Some(Object::AttestationPolicy(_)) => Ok(Effect::default()),
            Some(Object::OperatorBinding(o)) => {
                self.apply_operator_binding(o, revoked);
                Ok(Effect::default())
            }
        }
    }

    fn apply_agent(&mut self, o: &legate_wire::registry::Agent, revoked: bool) -> Result<Effect, Unreadable> {
        let place = place("Agent", o.metadata.as_ref())?;
        let id = o.metadata.as_ref().map_or("", |m| m.id.as_str());
        let read = (!revoked).then(|| convert::agent(o, &mut self.shared.lock()));
        match read {
            Some(Ok(agent)) => self.agents.put(agent),
            Some(Err(why)) => {
                let (kind, key) = ("Agent", place);
                tracing::error!(kind, key, why, "an object of the registry cannot be read; it grants nothing");
                self.agents.take_out(id);
            }
            None => self.agents.take_out(id),
        }
        // Also an agent that works may have a new cut-off. Its end is the clock's to bring.
        let life = self.agents.get(id).map(|agent| self.life_of(agent, Timestamp::from_micros(i64::MIN)));
        let takes_away = life.is_none_or(|life| life.stop.is_some() || life.cutoff().is_some());
        Ok(Effect { takes_away })
    }

    /// A standing that cannot be read could stop somebody.
    fn apply_standing(
        &mut self,
        kind: &'static str,
        place: &str,
        status: Option<&legate_wire::registry::StandingStatus>,
        revoked: bool,
    ) -> Result<Effect, Unreadable> {
        let unreadable = |why| Unreadable { kind, name: place.to_owned(), why };
        let standing = if revoked { None } else { convert::standing(status).map_err(unreadable)? };
        match standing {
            Some(standing) => self.standings.insert(place, standing),
            None => self.standings.remove(place),
        };
        Ok(Effect { takes_away: standing.is_some() })
    }

    /// A binding that cannot be read could be a denial: a policy may forbid something to the holders of its role.
    fn apply_binding(
        &mut self,
        o: &legate_wire::registry::RoleBinding,
        key: &str,
        revoked: bool,
    ) -> Result<Effect, Unreadable> {
        let unreadable = |why| Unreadable { kind: "RoleBinding", name: key.to_owned(), why };
        let after = if revoked { None } else { Some(Arc::new(convert::binding(o).map_err(unreadable)?)) };
        let before = match &after {
            Some(binding) => self.bindings.insert(key, Arc::clone(binding)),
            None => self.bindings.remove(key),
        };
        self.groups.bind(before.as_ref(), after.as_ref());
        self.index_binding(before, after);
        Ok(Effect::default())
    }

    /// A group that cannot be read could be a denial: a policy may forbid something to its members, a boundary limit them.
    fn apply_group(&mut self, o: &legate_wire::registry::Group, revoked: bool) -> Result<Effect, Unreadable> {
        let unreadable = |why| Unreadable { kind: "Group", name: name_of(o.metadata.as_ref()), why };
        if revoked {
            let label = convert::label(o.metadata.as_ref()).map_err(unreadable)?;
            self.groups.take_back(&label.namespace, &label.name);
        } else {
            self.groups.put(convert::group(o).map_err(unreadable)?);
        }
        Ok(Effect::default())
    }

    /// A boundary is a denial.
    fn apply_boundary(&mut self, o: &legate_wire::registry::Boundary, revoked: bool) -> Result<Effect, Unreadable> {
        let unreadable = |why| Unreadable { kind: "Boundary", name: name_of(o.metadata.as_ref()), why };
        if revoked {
            let label = convert::label(o.metadata.as_ref()).map_err(unreadable)?;
            self.boundaries.take_back(&label.namespace, &label.name);
        } else {
            self.boundaries.put(convert::boundary(o).map_err(unreadable)?);
        }
        Ok(Effect::default())
    }

    /// One that cannot be read gives nobody anything.
    fn apply_operator_binding(&mut self, o: &legate_wire::registry::OperatorBinding, revoked: bool) {
        let metadata = o.metadata.clone().unwrap_or_default();
        let binding = match convert::operator_binding(o) {
            _ if revoked => None,
            Ok(binding) => Some(binding),
            Err(why) => {
                tracing::error!(name = metadata.name, why, "an operator binding cannot be read; it gives nothing");
                None
            }
        };
        self.operators.set(&metadata.namespace, &metadata.name, binding);
    }

    fn apply_policy(&mut self, o: &legate_wire::registry::Policy, revoked: bool) -> Result<Effect, Unreadable> {
        let unreadable = |why| Unreadable { kind: "Policy", name: name_of(o.metadata.as_ref()), why };
        let policy: Policy = convert::policy(o).map_err(unreadable)?;
        let namespace = policy.label.namespace.as_str().to_owned();
        let mut all = self.policies.get(&namespace).map(|p| NamespacePolicies::clone(p)).unwrap_or_default();
        all.revision = all.revision.max(self.revision).max(policy.label.revision);
        if revoked {
            all.by_name.remove(&policy.label.name);
        } else {
            all.by_name.insert(policy.label.name.clone(), Arc::new(policy));
        }
        if all.by_name.is_empty() {
            self.policies.remove(&namespace);
        } else {
            self.policies.insert(&namespace, Arc::new(all));
        }
        Ok(Effect::default())
    }

    fn apply_revocation(
        &mut self,
        o: &legate_wire::registry::Revocation,
        forgotten: bool,
    ) -> Result<Effect, Unreadable> {
        let revocation = convert::revocation(o).map(Arc::new).map_err(|why| Unreadable {
            kind: "Revocation",
            name: name_of(o.metadata.as_ref()),
            why,
        })?;
        self.revocations.apply(&revocation, forgotten);
        // A connection is judged by its certificate, a token whenever it is shown.
        Ok(Effect { takes_away: !forgotten && matches!(revocation.what, Revoked::Credential(_)) })
    }

    fn index_binding(&mut self, before: Option<Arc<RoleBinding>>, after: Option<Arc<RoleBinding>>) {
        let agents = |b: &Arc<RoleBinding>| b.agents.iter().map(|a| a.as_str().to_owned()).collect();
        bindings::index(&mut self.bindings_by_agent, before.as_ref(), after.as_ref(), agents);
        bindings::index(&mut self.bindings_by_user, before.as_ref(), after.as_ref(), |b| b.users.clone());
    }
}

impl<T> Shards<Arc<T>> {
    /// Puts what `read` gives; takes out what is revoked or cannot be read, which then grants nothing.
    fn set(&mut self, key: &str, revoked: bool, kind: &'static str, read: impl FnOnce() -> Result<T, String>) {
        if revoked {
            self.remove(key);
            return;
        }
        match read() {
            Ok(value) => {
                self.insert(key, Arc::new(value));
            }
            Err(why) => {
                tracing::error!(kind, key, why, "an object of the registry cannot be read; it grants nothing");
                self.remove(key);
            }
        }
    }
}

pub(crate) fn name_of(metadata: Option<&Metadata>) -> String {
    metadata.map_or_else(String::new, |m| key(&m.namespace, &m.name))
}

/// Where the object is kept. One that has no place cannot be taken away again.
fn place(kind: &'static str, metadata: Option<&Metadata>) -> Result<String, Unreadable> {
    let unreadable = |why: &str| Unreadable { kind, name: name_of(metadata), why: why.into() };
    let m = metadata.ok_or_else(|| unreadable("metadata is missing"))?;
    Name::parse(&m.name).map_err(|e| unreadable(&e.to_string()))?;
    Name::parse(&m.namespace).map_err(|e| unreadable(&e.to_string()))?;
    Ok(key(&m.namespace, &m.name))
}

/// Whether `issued` lies after the cut-off: nothing issued at or before it works.
#[must_use]
pub fn after_cutoff(issued: Timestamp, cutoff: Option<Timestamp>) -> bool {
    cutoff.is_none_or(|cutoff| issued > cutoff)
}
