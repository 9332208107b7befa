//! What the registry would hold after a change that nobody has made: for previews, and for nothing that decides.

use legate_clock::Timestamp;
use legate_ids::{AgentId, Name};
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind, Metadata, ObjectName};

use crate::snapshot::key;
use crate::{AgentLabel, Snapshot, Unreadable, convert};

/// What is known of an object that would be changed.
struct Known<'a> {
    id: &'a str,
    version: u32,
    created: Timestamp,
}

impl Snapshot {
    /// What it would be if `wanted` were declared and `gone` taken away at `now`. The snapshot itself stays as it is, and
    /// what does not change is shared.
    ///
    /// # Errors
    /// [`Unreadable`] for an object that the registry would not take, or not in this form.
    pub fn suppose(&self, wanted: &[Declaration], gone: &[ObjectName], now: Timestamp) -> Result<Self, Unreadable> {
        let mut next = self.clone();
        let history = next.history().to_vec();
        next.set_revision(self.revision() + 1, &history);
        for (n, declaration) in wanted.iter().enumerate() {
            let object = self.completed(declaration, n, now)?;
            readable(&object)?;
            next.apply(&object, false)?;
        }
        for name in gone {
            if let Some(object) = self.leaving(name)? {
                next.apply(&object, true)?;
            }
        }
        Ok(next)
    }

    /// With what the registry would add: id, version, times, and of an agent where it stands.
    fn completed(&self, declaration: &Declaration, n: usize, now: Timestamp) -> Result<Declaration, Unreadable> {
        let mut object = declaration.clone();
        let Some((kind, metadata)) = parts(&mut object) else {
            return Err(Unreadable {
                kind: "an object of a kind unknown here",
                name: String::new(),
                why: "it cannot be declared".into(),
            });
        };
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        let known = self.known(kind, &namespace, &name);
        let Known { id, version, created } = known.unwrap_or(Known { id: "", version: 0, created: now });
        let id = match (id, kind) {
            ("", Kind::Agent) => new_id(n, now).to_string(),
            _ => id.to_owned(),
        };
        *metadata = Metadata {
            name: std::mem::take(&mut metadata.name),
            namespace: std::mem::take(&mut metadata.namespace),
            labels: std::mem::take(&mut metadata.labels),
            annotations: std::mem::take(&mut metadata.annotations),
            id,
            version: version + 1,
            revision: self.revision() + 1,
            create_time: Some(created.into()),
            update_time: Some(now.into()),
            ..Metadata::default()
        };
        if let Some(Object::DelegationGrant(grant)) = &mut object.object
            && self.delegation_grant_named(&namespace, &name).is_some_and(|known| known.is_by_person)
        {
            // Whoever made it first made it.
            let delegator = grant.spec.as_ref().map(|spec| spec.delegator.clone()).unwrap_or_default();
            grant.metadata.get_or_insert_default().created_by = delegator;
        }
        if let Some(Object::Agent(agent)) = &mut object.object {
            let known = self.agent_named(&namespace, &name);
            // Of one that an agent made, that is its parent, whatever is declared.
            if let (Some(maker), Some(spec)) = (known.and_then(|known| known.ancestors.first()), &mut agent.spec) {
                spec.parent = maker.to_string();
            }
            agent.status = Some(match known {
                Some(known) => wire::AgentStatus {
                    state: state(known.state).into(),
                    lifecycle_version: known.lifecycle_version,
                    authorization_cutoff: known.cutoff.map(Into::into),
                    ancestors: known.ancestors.iter().map(ToString::to_string).collect(),
                    ..wire::AgentStatus::default()
                },
                None => wire::AgentStatus {
                    state: wire::AgentState::Active.into(),
                    lifecycle_version: 1,
                    ..wire::AgentStatus::default()
                },
            });
        }
        match &mut object.object {
            Some(Object::Namespace(o)) => o.status = self.status(&name),
            Some(Object::AgentClass(o)) => o.status = self.status(&key(&namespace, &name)),
            _ => {}
        }
        Ok(object)
    }

    /// Whether all below the class (`NAMESPACE/NAME`) or namespace (`NAME`) is stopped, which no declaration changes.
    fn status(&self, place: &str) -> Option<wire::StandingStatus> {
        self.standings().get(place).map(|standing| wire::StandingStatus {
            suspended: standing.suspended,
            authorization_cutoff: standing.cutoff.map(Into::into),
            ..wire::StandingStatus::default()
        })
    }

    /// What is known of the object of this name, of the kinds that are held by name.
    fn known(&self, kind: Kind, namespace: &str, name: &str) -> Option<Known<'_>> {
        let label = match kind {
            Kind::Agent => {
                let agent = self.agent_named(namespace, name)?;
                let AgentLabel { version, created, .. } = agent.label;
                return Some(Known { id: agent.id.as_str(), version, created });
            }
            Kind::AgentClass => self.class(namespace, name).map(|o| &o.label),
            Kind::Role => self.role(namespace, name).map(|o| &o.label),
            Kind::RoleBinding => self.binding(namespace, name).map(|o| &o.label),
            Kind::Policy => {
                let name = Name::parse(name).ok()?;
                self.policies(namespace)?.by_name.get(&name).map(|o| &o.label)
            }
            Kind::EnforcementPoint => self.enforcement_point(namespace, name).map(|o| &o.label),
            Kind::Node => self.node(namespace, name).map(|o| &o.label),
            Kind::Group => self.group(namespace, &Name::parse(name).ok()?).map(|o| &o.label),
            Kind::Boundary => self.boundary(namespace, &Name::parse(name).ok()?).map(|o| &o.label),
            Kind::DelegationGrant => self.delegation_grant_named(namespace, name).map(|o| &o.label),
            _ => None,
        }?;
        Some(Known { id: &label.id, version: label.version, created: label.created })
    }

    /// An object of this name, to be taken out; `None`: nothing rests on it here, or it is not there.
    fn leaving(&self, name: &ObjectName) -> Result<Option<Declaration>, Unreadable> {
        let known = self.known(name.kind(), &name.namespace, &name.name);
        let metadata = Some(Metadata {
            name: name.name.clone(),
            namespace: name.namespace.clone(),
            id: known.as_ref().map(|known| known.id.to_owned()).unwrap_or_default(),
            version: known.as_ref().map_or(0, |known| known.version),
            ..Metadata::default()
        });
        let object = match name.kind() {
            Kind::Agent if known.is_none() => return Ok(None),
            Kind::Namespace => Object::Namespace(wire::Namespace { metadata, ..Default::default() }),
            Kind::AgentClass => Object::AgentClass(wire::AgentClass { metadata, ..Default::default() }),
            Kind::Agent => Object::Agent(wire::Agent { metadata, spec: None, status: None }),
            Kind::Role => Object::Role(wire::Role { metadata, spec: None }),
            Kind::RoleBinding => Object::RoleBinding(wire::RoleBinding { metadata, spec: None }),
            Kind::Policy => Object::Policy(wire::Policy { metadata, spec: None }),
            Kind::EnforcementPoint => {
                Object::EnforcementPoint(wire::EnforcementPoint { metadata, spec: None, spiffe_id: String::new() })
            }
            Kind::Node => Object::Node(wire::Node { metadata, spec: None, spiffe_id: String::new() }),
            Kind::Group => Object::Group(wire::Group { metadata, spec: None }),
            Kind::Boundary => Object::Boundary(wire::Boundary { metadata, spec: None }),
            Kind::CredentialPolicy => Object::CredentialPolicy(wire::CredentialPolicy { metadata, spec: None }),
            Kind::TrustedIssuer => Object::TrustedIssuer(wire::TrustedIssuer { metadata, spec: None }),
            Kind::AttestationPolicy => Object::AttestationPolicy(wire::AttestationPolicy { metadata, spec: None }),
            Kind::FederatedTrustDomain => {
                Object::FederatedTrustDomain(wire::FederatedTrustDomain { metadata, spec: None })
            }
            Kind::DelegationGrant => Object::DelegationGrant(wire::DelegationGrant { metadata, spec: None }),
            Kind::PolicyTest => Object::PolicyTest(wire::PolicyTest { metadata, spec: None }),
            Kind::LifecyclePolicy => Object::LifecyclePolicy(wire::LifecyclePolicy { metadata, ..Default::default() }),
            Kind::OperatorBinding => Object::OperatorBinding(wire::OperatorBinding { metadata, spec: None }),
            Kind::ReviewCampaign => Object::ReviewCampaign(wire::ReviewCampaign { metadata, spec: None }),
            Kind::SigningKey | Kind::Revocation | Kind::Approval | Kind::StopOrder | Kind::Unspecified => {
                return Err(Unreadable {
                    kind: "an object of a kind that is not taken away like this",
                    name: format!("{}/{}", name.namespace, name.name),
                    why: "signing keys and revocations come from credential-issuer, approvals from agents, stops from `legate stop`".into(),
                });
            }
        };
        Ok(Some(Declaration { object: Some(object) }))
    }
}

/// An id that no agent has: it is made of a time and a number, not of chance.
fn new_id(n: usize, now: Timestamp) -> AgentId {
    let mut bytes = [0xff; 10];
    bytes[2..].copy_from_slice(&(n as u64).to_be_bytes());
    AgentId::from_parts(u64::try_from(now.micros() / 1_000).unwrap_or(0), bytes)
}

fn state(of: crate::AgentState) -> wire::AgentState {
    use crate::AgentState;
    match of {
        AgentState::PendingApproval => wire::AgentState::PendingApproval,
        AgentState::Staged => wire::AgentState::Staged,
        AgentState::Active => wire::AgentState::Active,
        AgentState::Suspended => wire::AgentState::Suspended,
        AgentState::Quarantined => wire::AgentState::Quarantined,
        AgentState::Expired => wire::AgentState::Expired,
        AgentState::Retired => wire::AgentState::Retired,
        AgentState::Unknown => wire::AgentState::Unspecified,
    }
}

/// The kind of an object that can be declared, and its metadata, made where it is missing.
fn parts(of: &mut Declaration) -> Option<(Kind, &mut Metadata)> {
    let object = of.object.as_mut()?;
    let kind = object.kind();
    let is_declared = !matches!(kind, Kind::SigningKey | Kind::Revocation | Kind::Approval | Kind::StopOrder);
    is_declared.then(|| (kind, object.metadata_mut().get_or_insert_default()))
}

/// What the view would only log and leave out, since it grants nothing, is a mistake of whoever asks for a preview.
fn readable(object: &Declaration) -> Result<(), Unreadable> {
    let (kind, metadata, read) = match &object.object {
        Some(Object::Agent(o)) => ("Agent", &o.metadata, convert::agent(o, &crate::intern::Interner::new()).map(drop)),
        Some(Object::AgentClass(o)) => ("AgentClass", &o.metadata, convert::class(o).map(drop)),
        Some(Object::Role(o)) => ("Role", &o.metadata, convert::role(o).map(drop)),
        Some(Object::EnforcementPoint(o)) => ("EnforcementPoint", &o.metadata, convert::enforcement_point(o).map(drop)),
        Some(Object::Node(o)) => ("Node", &o.metadata, convert::node(o).map(drop)),
        Some(Object::AttestationPolicy(o)) => {
            ("AttestationPolicy", &o.metadata, convert::attestation_policy(o).map(drop))
        }
        Some(Object::FederatedTrustDomain(o)) => {
            ("FederatedTrustDomain", &o.metadata, convert::federated_trust_domain(o).map(drop))
        }
        Some(Object::Group(o)) => ("Group", &o.metadata, convert::group(o).map(drop)),
        Some(Object::Boundary(o)) => ("Boundary", &o.metadata, convert::boundary(o).map(drop)),
        Some(Object::CredentialPolicy(o)) => ("CredentialPolicy", &o.metadata, convert::credential_policy(o).map(drop)),
        Some(Object::DelegationGrant(o)) => ("DelegationGrant", &o.metadata, convert::delegation_grant(o).map(drop)),
        Some(Object::PolicyTest(o)) => ("PolicyTest", &o.metadata, convert::policy_test(o).map(drop)),
        _ => return Ok(()),
    };
    let name = metadata.as_ref().map_or_else(String::new, |m| format!("{}/{}", m.namespace, m.name));
    read.map_err(|why| Unreadable { kind, name, why })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn meta(name: &str) -> Option<Metadata> {
        Some(Metadata { name: name.into(), namespace: "pay".into(), ..Metadata::default() })
    }

    fn of(object: Object) -> Declaration {
        Declaration { object: Some(object) }
    }

    fn role(name: &str, action: &str) -> Declaration {
        let resource = wire::ResourceSelector { r#type: "Invoice".into(), ..Default::default() };
        let permission = wire::Permission { action: action.into(), resource: Some(resource) };
        let spec = wire::RoleSpec { permissions: vec![permission], ..Default::default() };
        of(Object::Role(wire::Role { metadata: meta(name), spec: Some(spec) }))
    }

    fn agent(name: &str) -> Declaration {
        let spec = wire::AgentSpec { agent_class: "clerk".into(), ..Default::default() };
        of(Object::Agent(wire::Agent { metadata: meta(name), spec: Some(spec), status: None }))
    }

    fn binding(name: &str, agents: &[&str]) -> Declaration {
        let agents = agents.iter().map(ToString::to_string).collect();
        let spec = wire::RoleBindingSpec { role: "reader".into(), agents, ..Default::default() };
        of(Object::RoleBinding(wire::RoleBinding { metadata: meta(name), spec: Some(spec) }))
    }

    fn named(kind: Kind, name: &str) -> ObjectName {
        ObjectName { kind: kind.into(), namespace: "pay".into(), name: name.into() }
    }

    #[test]
    fn what_is_supposed_leaves_what_is_as_it_is() {
        let now = Timestamp::from_secs(1_900_000_000);
        let before = Snapshot::default();
        let first = [role("reader", "invoice:read"), agent("a"), agent("b"), binding("reads", &["a", "b"])];
        let then = before.suppose(&first, &[], now).unwrap();
        assert_eq!((before.revision(), before.agents_len(), then.revision(), then.agents_len()), (0, 0, 1, 2));
        let a = then.agent_named("pay", "a").unwrap().clone();
        let b = then.agent_named("pay", "b").unwrap();
        assert_ne!(a.id, b.id);
        assert_eq!(then.grants_of(&a).count(), 1, "a binding of the same change speaks of a new agent");

        // An object keeps its id and counts its versions; what is taken away is gone from every index.
        let later = Timestamp::from_secs(1_900_000_100);
        let gone = [named(Kind::RoleBinding, "reads"), named(Kind::Agent, "b"), named(Kind::Role, "nothing")];
        let last = then.suppose(&[agent("a"), role("reader", "invoice:pay")], &gone, later).unwrap();
        let kept = last.agent_named("pay", "a").unwrap();
        assert_eq!((&kept.id, kept.label.version, kept.label.created), (&a.id, 2, now));
        assert_eq!(last.role("pay", "reader").unwrap().label.version, 2);
        assert!(last.agent_named("pay", "b").is_none() && last.binding("pay", "reads").is_none());
        assert_eq!(last.grants_of(kept).count(), 0);
        assert_eq!(then.grants_of(&a).count(), 1, "the supposition before is as it was");
    }

    #[test]
    fn who_made_an_agent_and_what_is_stopped_stay_as_they_are() {
        let now = Timestamp::from_secs(1_900_000_000);
        let (maker, child) = (AgentId::from_parts(1, [1; 10]), AgentId::from_parts(1, [2; 10]));
        let made = |name: &str, id: &AgentId, ancestors: &[&AgentId]| {
            let Some(Object::Agent(mut agent)) = agent(name).object else { unreachable!() };
            agent.metadata.as_mut().unwrap().id = id.to_string();
            let ancestors = ancestors.iter().map(ToString::to_string).collect();
            let state = wire::AgentState::Active.into();
            agent.status = Some(wire::AgentStatus { state, ancestors, ..Default::default() });
            of(Object::Agent(agent))
        };
        let class = |status| {
            of(Object::AgentClass(wire::AgentClass { metadata: meta("clerk"), spec: Some(Default::default()), status }))
        };
        let namespace = |status| {
            let metadata = Some(Metadata { name: "pay".into(), ..Metadata::default() });
            of(Object::Namespace(wire::Namespace { metadata, spec: Some(Default::default()), status }))
        };
        let stopped = |cutoff| {
            let authorization_cutoff = Some(Timestamp::from_secs(cutoff).into());
            Some(wire::StandingStatus { suspended: true, authorization_cutoff, ..Default::default() })
        };
        let objects =
            [namespace(stopped(7)), class(stopped(8)), made("maker", &maker, &[]), made("child", &child, &[&maker])];
        let before = Snapshot::of(&objects).unwrap();
        let life = |snapshot: &Snapshot| snapshot.life_of(snapshot.agent(&child).unwrap(), now);
        let wanted = [namespace(None), class(None), agent("child")];
        let after = before.suppose(&wanted, &[], now).unwrap();
        assert_eq!(after.agent(&child).unwrap().ancestors.as_ref(), std::slice::from_ref(&maker));
        assert_eq!(after.agent(&child).unwrap().names.as_ref().unwrap().parent.as_ref(), maker.as_str());
        assert_eq!(life(&after), life(&before));
        assert_eq!(life(&after).stop, Some(crate::Stop::Namespace));
        assert!(life(&after).class_cutoff.is_some() && life(&after).namespace_cutoff.is_some());

        // Whoever was made by one that goes has nothing.
        let after = before.suppose(&[], &[named(Kind::Agent, "maker")], now).unwrap();
        assert_eq!(after.grants_of(after.agent(&child).unwrap()).count(), 0);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_not_left_out() {
        let now = Timestamp::from_secs(1);
        let bad = role("reader", "Not an action");
        assert_eq!(Snapshot::default().suppose(&[bad], &[], now).unwrap_err().kind, "Role");
        assert!(Snapshot::default().suppose(&[Declaration::default()], &[], now).is_err());
        let key = ObjectName { kind: Kind::SigningKey.into(), namespace: String::new(), name: "k".into() };
        assert!(Snapshot::default().suppose(&[], &[key], now).is_err());
    }
}
