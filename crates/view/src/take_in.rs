//! Taking in what the registry tells: an object as it is now, or one that was taken back.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::Name;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Metadata};
use prost::Message as _;

use crate::agent::Agent;
use crate::declared::Declared;
use crate::intern::Interner;
use crate::record::{NamespacePolicies, Policy, Revoked, RoleBinding};
use crate::shards::Shards;
use crate::snapshot::{Snapshot, Unreadable, key};
use crate::{bindings, convert};

/// What one change did, as far as somebody has to act on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Somebody who could connect before may not be allowed to now.
    pub(crate) takes_away: bool,
}

/// An object of a snapshot, read as far as that can be done beside the others.
#[derive(Debug)]
pub(crate) enum Read {
    /// An agent, ready to be put in its place.
    Agent(Arc<Agent>),
    /// Anything else, and an agent that cannot be read: what follows from it is told where it is taken in.
    Declared(Box<Declaration>),
}

impl Read {
    /// Reads the bytes of a `Declaration`. What agents share comes from `shared`; `place` is read into.
    pub(crate) fn of<'a>(bytes: &'a [u8], place: &mut Declared<'a>, shared: &Interner) -> Result<Self, Unreadable> {
        if place.read(bytes) == Ok(true)
            && let Ok(agent) = convert::declared(place, shared)
        {
            return Ok(Self::Agent(agent.into()));
        }
        let object = Declaration::decode(bytes).map_err(|e| Unreadable {
            kind: "an object",
            name: String::new(),
            why: e.to_string(),
        })?;
        let agent = match &object.object {
            Some(Object::Agent(agent)) => convert::agent(agent, shared).ok(),
            _ => None,
        };
        Ok(agent.map_or_else(|| Self::Declared(object.into()), |agent| Self::Agent(agent.into())))
    }
}

impl Snapshot {
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
                    self.apply_schema(name, "");
                } else {
                    self.namespaces.insert(name, convert::namespace_rules(o));
                    self.apply_schema(name, o.spec.as_ref().map_or("", |spec| spec.policy_schema.as_str()));
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
            Some(Object::Approval(o)) => {
                let key = place("Approval", o.metadata.as_ref())?;
                self.approvals.apply(&key, o, revoked);
                Ok(Effect::default())
            }
            Some(Object::StopOrder(o)) => self.apply_stop_order(o, revoked),
            Some(Object::TrustedIssuer(o)) => self.apply_trusted_issuer(o, revoked),
            Some(Object::AttestationPolicy(o)) => self.apply_attestation_policy(o, revoked),
            Some(Object::FederatedTrustDomain(o)) => {
                let key = place("FederatedTrustDomain", o.metadata.as_ref())?;
                let read = || convert::federated_trust_domain(o);
                self.federated.set(&key, revoked, "FederatedTrustDomain", read);
                Ok(Effect::default())
            }
            // Nothing here rests on these.
            Some(Object::LifecyclePolicy(_) | Object::ReviewCampaign(_)) => Ok(Effect::default()),
            Some(Object::Node(o)) => {
                let key = place("Node", o.metadata.as_ref())?;
                self.nodes.set(&key, revoked, "Node", || convert::node(o));
                let takes_away = self.nodes.get(&key).is_none();
                Ok(Effect { takes_away })
            }
            Some(Object::OperatorBinding(o)) => {
                self.apply_operator_binding(o, revoked);
                Ok(Effect::default())
            }
        }
    }

    fn apply_agent(&mut self, o: &legate_wire::registry::Agent, revoked: bool) -> Result<Effect, Unreadable> {
        let place = place("Agent", o.metadata.as_ref())?;
        let id = o.metadata.as_ref().map_or("", |m| m.id.as_str());
        let read = (!revoked).then(|| convert::agent(o, &self.shared));
        match read {
            Some(Ok(agent)) => self.agents.put(agent.into()),
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

    /// A text that is the same as before stays the same `Arc`.
    fn apply_schema(&mut self, namespace: &str, text: &str) {
        if self.policy_schemas.get(namespace).map_or("", |known| known) == text {
            return;
        }
        let schema = (!text.is_empty()).then(|| Arc::<str>::from(text));
        match &schema {
            None => self.policy_schemas.remove(namespace),
            Some(schema) => self.policy_schemas.insert(namespace, Arc::clone(schema)),
        };
        if let Some(policies) = self.policies.get(namespace) {
            let read = NamespacePolicies { schema, ..NamespacePolicies::clone(policies) };
            self.policies.insert(namespace, Arc::new(read));
        }
    }

    fn apply_policy(&mut self, o: &legate_wire::registry::Policy, revoked: bool) -> Result<Effect, Unreadable> {
        let unreadable = |why| Unreadable { kind: "Policy", name: name_of(o.metadata.as_ref()), why };
        let policy: Policy = convert::policy(o).map_err(unreadable)?;
        let namespace = policy.label.namespace.as_str().to_owned();
        let mut all = self.policies.get(&namespace).map(|p| NamespacePolicies::clone(p)).unwrap_or_default();
        all.revision = all.revision.max(self.revision()).max(policy.label.revision);
        all.schema = self.policy_schemas.get(&namespace).cloned();
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
        Ok(Effect { takes_away: !forgotten && !matches!(revocation.what, Revoked::Token(_)) })
    }

    /// An order that cannot be read could stop somebody.
    fn apply_stop_order(&mut self, o: &legate_wire::registry::StopOrder, revoked: bool) -> Result<Effect, Unreadable> {
        let unreadable = |why| Unreadable { kind: "StopOrder", name: name_of(o.metadata.as_ref()), why };
        let (named, standing) = convert::stop_order(o).map_err(unreadable)?;
        let standing = standing.filter(|_| !revoked);
        self.stop_orders.apply(named, standing);
        Ok(Effect { takes_away: standing.is_some() })
    }

    pub(crate) fn index_binding(&mut self, before: Option<Arc<RoleBinding>>, after: Option<Arc<RoleBinding>>) {
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
