//! A snapshot that is not the present one: the registry as it was, or with one thing otherwise; for explanations, and for nothing that decides.

use std::sync::Arc;

use legate_ids::{AgentId, Name};
use legate_wire::registry::Declaration;

use super::{Snapshot, Unreadable, key};
use crate::agent::{Agent, AgentState};
use crate::approvals::Approval;
use crate::boundaries::Boundary;
use crate::groups::Group;
use crate::record::{AgentClass, DelegationGrant, Role, RoleBinding};
use crate::stop_orders::StopOrder;

/// One thing that is otherwise than the registry holds it.
#[derive(Clone, Debug)]
pub enum Otherwise {
    /// A class, in the place of the one of its name.
    Class(AgentClass),
    /// A role.
    Role(Role),
    /// A role binding.
    Binding(RoleBinding),
    /// A boundary.
    Boundary(Boundary),
    /// A delegation grant.
    Grant(DelegationGrant),
    /// The agent is ACTIVE and does not end.
    AgentWorks(AgentId),
    /// The agent's own ceiling has one more entry.
    AgentCeiling(AgentId, legate_authority::Permission),
    /// The class (its namespace and name) is not suspended.
    ClassWorks(Name, Name),
    /// The namespace is not suspended.
    NamespaceWorks(Name),
    /// What a stop order stops is resumed.
    Resumed(StopOrder),
    /// A group, in the place of the one of its name.
    Group(Group),
    /// People approved something more.
    Approved(Approval),
}

impl Snapshot {
    /// What these objects said at `revision`.
    ///
    /// # Errors
    /// When one of them cannot be read that could deny something.
    pub fn as_of<'a>(revision: u64, objects: impl IntoIterator<Item = &'a Declaration>) -> Result<Self, Unreadable> {
        let mut snapshot = Self::of(objects)?;
        snapshot.set_revision(revision, &[]);
        Ok(snapshot)
    }

    /// The same with one thing otherwise. The snapshot itself stays as it is, and what does not change is shared.
    #[must_use]
    pub fn otherwise(&self, change: Otherwise) -> Self {
        let mut next = self.clone();
        match change {
            Otherwise::Class(class) => {
                next.classes.insert(&key(class.label.namespace.as_str(), class.label.name.as_str()), Arc::new(class));
            }
            Otherwise::Role(role) => {
                next.roles.insert(&key(role.label.namespace.as_str(), role.label.name.as_str()), Arc::new(role));
            }
            Otherwise::Binding(binding) => {
                let place = key(binding.label.namespace.as_str(), binding.label.name.as_str());
                let after = Arc::new(binding);
                let before = next.bindings.insert(&place, Arc::clone(&after));
                next.groups.bind(before.as_ref(), Some(&after));
                next.index_binding(before, Some(after));
            }
            Otherwise::Boundary(boundary) => next.boundaries.put(boundary),
            Otherwise::Grant(grant) => {
                let place = key(grant.label.namespace.as_str(), grant.label.name.as_str());
                next.grants.suppose(&place, grant);
            }
            Otherwise::AgentWorks(id) => next.with_agent(&id, |agent| {
                agent.state = AgentState::Active;
                agent.expires = None;
            }),
            Otherwise::AgentCeiling(id, permission) => next.with_agent(&id, |agent| {
                if let Some(ceiling) = &mut agent.ceiling {
                    let entries = ceiling.entries().iter().cloned().chain([permission]).collect();
                    **ceiling = legate_authority::Ceiling::new(entries);
                }
            }),
            Otherwise::ClassWorks(namespace, name) => next.set_going(&key(namespace.as_str(), name.as_str())),
            Otherwise::NamespaceWorks(name) => next.set_going(name.as_str()),
            Otherwise::Resumed(order) => next.stop_orders.suppose_resumed(&order),
            Otherwise::Group(group) => next.groups.put(group),
            Otherwise::Approved(approval) => next.approvals.suppose(approval),
        }
        next
    }

    fn with_agent(&mut self, id: &AgentId, change: impl FnOnce(&mut Agent)) {
        let Some(agent) = self.agents.get(id.as_str()) else { return };
        let mut agent = Agent::clone(agent);
        change(&mut agent);
        self.agents.put(Arc::new(agent));
    }

    fn set_going(&mut self, place: &str) {
        if let Some(standing) = self.standings.get(place).copied() {
            self.standings.insert(place, crate::record::Standing { suspended: false, ..standing });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_clock::Timestamp;
    use legate_wire::registry as wire;
    use legate_wire::registry::declaration::Object;

    use super::*;
    use crate::life::Stop;

    fn meta(name: &str, id: &str) -> Option<wire::Metadata> {
        let (name, id) = (name.into(), id.into());
        Some(wire::Metadata { name, id, namespace: "pay".into(), ..wire::Metadata::default() })
    }

    #[test]
    fn one_thing_is_otherwise_and_the_snapshot_stays_as_it_is() {
        let id = AgentId::from_parts(1, [1; 10]);
        let stopped = Some(wire::StandingStatus { suspended: true, ..wire::StandingStatus::default() });
        let class =
            wire::AgentClass { metadata: meta("bots", "obj_1"), spec: Some(Default::default()), status: stopped };
        let status = wire::AgentStatus { state: wire::AgentState::Suspended.into(), ..Default::default() };
        let spec = wire::AgentSpec { agent_class: "bots".into(), ..Default::default() };
        let agent = wire::Agent { metadata: meta("bot", id.as_str()), spec: Some(spec), status: Some(status) };
        let permissions = vec![wire::Permission {
            action: "read".into(),
            resource: Some(wire::ResourceSelector { r#type: "Invoice".into(), ..Default::default() }),
        }];
        let role = wire::Role {
            metadata: meta("reads", "obj_2"),
            spec: Some(wire::RoleSpec { permissions, ..Default::default() }),
        };
        let objects = [Object::AgentClass(class), Object::Agent(agent), Object::Role(role)];
        let objects = objects.map(|object| Declaration { object: Some(object) });
        let was = Snapshot::as_of(7, &objects).unwrap();
        assert_eq!(was.revision(), 7);
        let now = Timestamp::from_secs(1);
        let stop = |snapshot: &Snapshot| snapshot.life_of(snapshot.agent(&id).unwrap(), now).stop;
        assert_eq!(stop(&was), Some(Stop::State(AgentState::Suspended)));
        let works = was.otherwise(Otherwise::AgentWorks(id.clone()));
        assert_eq!(stop(&works), Some(Stop::Class));
        let bots = works.class("pay", "bots").unwrap().label.clone();
        let works = works.otherwise(Otherwise::ClassWorks(bots.namespace, bots.name));
        assert_eq!(stop(&works), None);
        // A binding that nobody made gives its role, and is found by whom it names.
        let role = was.role("pay", "reads").unwrap();
        let binding = RoleBinding {
            label: role.label.clone(),
            role: role.label.name.clone(),
            agents: vec![was.agent(&id).unwrap().label.name.clone()],
            groups: Vec::new(),
            except: Vec::new(),
            users: Vec::new(),
            narrowing: None,
            window: legate_authority::Window::ALWAYS,
        };
        let bound = was.otherwise(Otherwise::Binding(binding));
        let grants = |snapshot: &Snapshot| snapshot.grants_of(snapshot.agent(&id).unwrap()).count();
        assert_eq!((grants(&was), grants(&bound)), (1, 2));
        assert_eq!(stop(&was), Some(Stop::State(AgentState::Suspended)), "it stays as it is");
    }
}
