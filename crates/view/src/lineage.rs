//! Agents made by agents: whoever is above one, what it has from them, and every ceiling that it is below.

use std::sync::Arc;

use legate_authority::{Ceiling, Grant, Permission, Window};
use legate_ids::Name;

use crate::agent::Agent;
use crate::boundaries::Boundary;
use crate::delegation::Person;
use crate::groups::Group;
use crate::record::{Label, RoleBinding};
use crate::snapshot::{Snapshot, Source};

/// Whose ceiling it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CeilingOf<'a> {
    /// A class's.
    Class(&'a Label),
    /// An agent's own.
    Agent(&'a Agent),
}

impl Snapshot {
    /// Whoever made the agent, whoever made that one, and so on; `None` in the place of one that is not known here.
    pub fn ancestors_of<'a>(&'a self, agent: &'a Agent) -> impl Iterator<Item = Option<&'a Arc<Agent>>> {
        let namespace = &agent.label.namespace;
        agent.ancestors.iter().map(move |id| self.agent(id).filter(|one| one.label.namespace == *namespace))
    }

    /// The agent itself, and whoever is above it and known here.
    fn lineage_of<'a>(&'a self, agent: &'a Agent) -> impl Iterator<Item = &'a Agent> {
        std::iter::once(agent).chain(self.ancestors_of(agent).flatten().map(|one| &**one))
    }

    /// The bindings whose roles the agent holds, and through which group where they do not name it: those that speak of it,
    /// and those that speak of whoever is above it.
    pub fn bindings_of<'a>(
        &'a self,
        agent: &'a Agent,
    ) -> impl Iterator<Item = (&'a Arc<RoleBinding>, Option<&'a Arc<Group>>)> {
        self.lineage_of(agent).flat_map(|one| self.bindings_alone(one))
    }

    /// Whether the agent, or one above it, belongs to the group: a policy may forbid something to it.
    #[must_use]
    pub fn is_in_group(&self, agent: &Agent, name: &Name) -> bool {
        let group = self.group(agent.label.namespace.as_str(), name);
        group.is_some_and(|group| self.lineage_of(agent).any(|one| group.has(one)))
    }

    /// The boundaries that apply to the agent or to whoever is above it, each once, or the name of one that a class of
    /// theirs names and that is not known here: then nobody can say what it would cut.
    pub fn boundaries_of<'a>(&'a self, agent: &'a Agent) -> impl Iterator<Item = Result<&'a Arc<Boundary>, &'a Name>> {
        let mut all: Vec<Result<&'a Arc<Boundary>, &'a Name>> = Vec::new();
        for boundary in self.lineage_of(agent).flat_map(|one| self.boundaries_alone(one)) {
            let name = |one: &Result<&'a Arc<Boundary>, &'a Name>| one.map_or_else(|name| name, |b| &b.label.name);
            if !all.iter().any(|known| name(known) == name(&boundary)) {
                all.push(boundary);
            }
        }
        all.into_iter()
    }

    /// Whether an agent made it that passes on what it has; where its namespace says so, none does.
    #[must_use]
    pub fn inherits(&self, agent: &Agent) -> bool {
        !agent.ancestors.is_empty() && !self.rules_of(agent.label.namespace.as_str()).own_grant_only
    }

    /// Everything that gives the agent permissions, in or out of its window. An agent made by an agent has what the one at
    /// the top has, and nothing else; where its namespace says so, only what is bound to itself, by its name or by a group
    /// that lists it: what a selector looks at comes from its maker.
    pub fn grants_of<'a>(&'a self, agent: &'a Agent) -> impl Iterator<Item = Grant<'a, Source>> {
        let is_made = !agent.ancestors.is_empty();
        let inherits = self.inherits(agent);
        let holder = if inherits { self.ancestors_of(agent).last().flatten().map(|top| &**top) } else { Some(agent) };
        let class = holder.filter(|_| !is_made || inherits).and_then(|holder| {
            self.class(holder.label.namespace.as_str(), holder.class.as_str()).map(|class| Grant {
                source: Source::Class(Arc::clone(class)),
                permissions: class.permissions.as_slice(),
                window: Window::ALWAYS,
                narrowing: None,
            })
        });
        let bound = holder.into_iter().flat_map(|holder| self.bindings_alone(holder));
        let is_own =
            move |group: Option<&Arc<Group>>| !is_made || inherits || group.is_none_or(|group| group.lists(agent));
        let bound = bound.filter(move |(_, group)| is_own(*group)).filter_map(move |(binding, group)| {
            let role = self.role(agent.label.namespace.as_str(), binding.role.as_str())?;
            let permissions: &[Permission] = &role.permissions;
            Some(Grant {
                source: Source::Binding(Arc::clone(binding), Arc::clone(role), group.cloned()),
                permissions,
                window: binding.window,
                narrowing: binding.narrowing.as_deref(),
            })
        });
        class.into_iter().chain(bound)
    }

    /// What bindings give the person, by its own name or by that of a group that it was proved to be a member of, in or out
    /// of their windows.
    pub fn grants_of_person<'a>(
        &'a self,
        namespace: &'a str,
        person: &Person,
    ) -> impl Iterator<Item = Grant<'a, Source>> + use<'a> {
        self.bindings_of_person(namespace, person).filter_map(move |binding| {
            let role = self.role(namespace, binding.role.as_str())?;
            Some(Grant {
                source: Source::Binding(Arc::clone(binding), Arc::clone(role), None),
                permissions: role.permissions.as_slice(),
                window: binding.window,
                narrowing: binding.narrowing.as_deref(),
            })
        })
    }

    /// Every ceiling that the agent is below: of its class, its own, and those of whoever is above it. `None` where one of
    /// them is not known here, so that nothing can be said to be below it.
    #[must_use]
    pub fn ceilings_of<'a>(&'a self, agent: &'a Agent) -> Option<Vec<(CeilingOf<'a>, &'a Ceiling)>> {
        let mut all = Vec::with_capacity(1 + agent.ancestors.len());
        for one in std::iter::once(Some(agent)).chain(self.ancestors_of(agent).map(|one| one.map(|one| &**one))) {
            let one = one?;
            let class = self.class(one.label.namespace.as_str(), one.class.as_str())?;
            let of_class = (CeilingOf::Class(&class.label), &class.ceiling);
            // Agents of one lineage are of one class, unless an operator moved one.
            if !all.contains(&of_class) {
                all.push(of_class);
            }
            all.extend(one.ceiling.iter().map(|ceiling| (CeilingOf::Agent(one), &**ceiling)));
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeMap;

    use legate_authority::{Request, decide};
    use legate_clock::Timestamp;
    use legate_ids::{Action, AgentId, ResourceId, ResourceType};
    use legate_wire::registry as wire;
    use legate_wire::registry::declaration::Object;
    use proptest::prelude::*;

    use super::*;
    use crate::life::Stop;

    const ACTIONS: [&str; 4] = ["read", "write", "pay", "seal"];

    fn id(n: u8) -> AgentId {
        AgentId::from_parts(1, [n; 10])
    }

    fn meta(name: &str, id: &str) -> Option<wire::Metadata> {
        let (name, id) = (name.into(), id.into());
        Some(wire::Metadata { name, id, namespace: "pay".into(), ..wire::Metadata::default() })
    }

    /// A bit for each action.
    fn permissions(bits: u8) -> Vec<wire::Permission> {
        let resource =
            || Some(wire::ResourceSelector { r#type: "Invoice".into(), ..wire::ResourceSelector::default() });
        let given = ACTIONS.iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0);
        given.map(|(_, action)| wire::Permission { action: (*action).into(), resource: resource() }).collect()
    }

    fn namespace(own_grant_only: bool) -> Object {
        let metadata = Some(wire::Metadata { name: "pay".into(), ..wire::Metadata::default() });
        let spec = Some(wire::NamespaceSpec { own_grant_only, ..wire::NamespaceSpec::default() });
        Object::Namespace(wire::Namespace { metadata, spec, status: None })
    }

    fn class(given: u8, ceiling: u8) -> Object {
        let (permissions, ceiling) = (permissions(given), permissions(ceiling));
        let spec = Some(wire::AgentClassSpec { permissions, ceiling, ..wire::AgentClassSpec::default() });
        Object::AgentClass(wire::AgentClass { metadata: meta("bots", "obj_1"), spec, status: None })
    }

    /// The agent `bot-N`, made by the agents before it: 0 is an operator's, 1 is of 0, 2 is of 1.
    fn agent(n: u8, ceiling: Option<u8>, change: impl FnOnce(&mut wire::AgentStatus)) -> Object {
        let mut status = wire::AgentStatus {
            state: wire::AgentState::Active.into(),
            lifecycle_version: 1,
            ancestors: (0..n).rev().map(|above| id(above).to_string()).collect(),
            ..wire::AgentStatus::default()
        };
        change(&mut status);
        let ceiling = ceiling.map(permissions).unwrap_or_default();
        let spec = wire::AgentSpec { agent_class: "bots".into(), ceiling, ..wire::AgentSpec::default() };
        let metadata = meta(&format!("bot-{n}"), id(n).as_str());
        Object::Agent(wire::Agent { metadata, spec: Some(spec), status: Some(status) })
    }

    fn bound(n: u8, bits: u8) -> [Object; 2] {
        let name = format!("role-{n}");
        let spec = wire::RoleSpec { permissions: permissions(bits), ..wire::RoleSpec::default() };
        let role = Object::Role(wire::Role { metadata: meta(&name, "obj_2"), spec: Some(spec) });
        let spec =
            wire::RoleBindingSpec { role: name, agents: vec![format!("bot-{n}")], ..wire::RoleBindingSpec::default() };
        let metadata = meta(&format!("binding-{n}"), "obj_3");
        [role, Object::RoleBinding(wire::RoleBinding { metadata, spec: Some(spec) })]
    }

    fn snapshot(objects: Vec<Object>) -> Snapshot {
        let all: Vec<_> = objects.into_iter().map(|o| wire::Declaration { object: Some(o) }).collect();
        Snapshot::of(&all).unwrap()
    }

    /// A bit for each action that the agent may do.
    fn may(snapshot: &Snapshot, n: u8) -> u8 {
        let agent = snapshot.agent(&id(n)).unwrap();
        let attributes = BTreeMap::new();
        let may = |action: &str| {
            let action = Action::parse(action).unwrap();
            let (kind, one) = (ResourceType::parse("Invoice").unwrap(), ResourceId::parse("1").unwrap());
            let request = Request { action: &action, resource_type: &kind, resource_id: &one, attributes: &attributes };
            let ceilings = snapshot.ceilings_of(agent).unwrap();
            decide(&request, 0, snapshot.grants_of(agent), ceilings).is_granted()
        };
        ACTIONS.iter().enumerate().map(|(n, action)| u8::from(may(action)) << n).sum()
    }

    fn bits() -> impl Strategy<Value = u8> {
        0u8..16
    }

    proptest! {
        /// Each link can only narrow: whoever was made has nothing that its maker has not, whatever is bound to it, and
        /// nothing above its own ceiling; where nothing is inherited, only what is bound to itself.
        #[test]
        fn whoever_was_made_has_no_more_than_its_maker(
            (given, top, one, two) in (bits(), bits(), bits(), 1u8..16),
            (of_class, of_one, of_two) in (bits(), bits(), bits()),
            own_grant_only in any::<bool>(),
        ) {
            let mut objects = vec![
                namespace(own_grant_only),
                class(given, of_class),
                agent(0, None, |_| ()),
                agent(1, (one > 0).then_some(one), |_| ()),
                agent(2, Some(two), |_| ()),
            ];
            objects.extend([bound(0, top), bound(1, of_one), bound(2, of_two)].into_iter().flatten());
            let snapshot = snapshot(objects);
            let below_one = if one > 0 { one } else { 15 };
            prop_assert_eq!(may(&snapshot, 0), (given | top) & of_class);
            if own_grant_only {
                prop_assert_eq!(may(&snapshot, 1), of_one & of_class & below_one);
                prop_assert_eq!(may(&snapshot, 2), of_two & of_class & below_one & two);
            } else {
                prop_assert_eq!(may(&snapshot, 1), may(&snapshot, 0) & below_one);
                prop_assert_eq!(may(&snapshot, 2), may(&snapshot, 1) & two);
            }
        }

        /// It works only while all above it work, it dies with each step in their lives, and nothing issued before the
        /// latest cut-off above it works.
        #[test]
        fn whoever_was_made_lives_with_all_above_it(
            states in prop::array::uniform3(any::<bool>()),
            versions in prop::array::uniform3(1u64..9),
            cutoffs in prop::array::uniform3(prop::option::of(0i64..50)),
        ) {
            let mut objects = vec![namespace(false), class(15, 15)];
            // In no particular order.
            for n in [2u8, 0, 1] {
                let at = usize::from(n);
                objects.push(agent(n, None, |status| {
                    let state = if states[at] { wire::AgentState::Active } else { wire::AgentState::Suspended };
                    status.set_state(state);
                    status.lifecycle_version = versions[at];
                    status.authorization_cutoff = cutoffs[at].map(|cut| Timestamp::from_secs(cut).into());
                }));
            }
            let snapshot = snapshot(objects);
            let life = snapshot.life_of(snapshot.agent(&id(2)).unwrap(), Timestamp::from_secs(100));
            prop_assert_eq!(life.stop.is_none(), states.iter().all(|works| *works));
            prop_assert_eq!(life.stop == Some(Stop::Ancestor), states[2] && !(states[0] && states[1]));
            prop_assert_eq!(life.lifecycle_version, versions.iter().sum::<u64>());
            let latest = cutoffs.iter().flatten().max().map(|cut| Timestamp::from_secs(*cut));
            prop_assert_eq!(life.cutoff(), latest);
        }
    }

    #[test]
    fn whoever_is_above_and_not_known_lets_nothing_through() {
        let snapshot = snapshot(vec![namespace(false), class(15, 15), agent(1, None, |_| ())]);
        let orphan = snapshot.agent(&id(1)).unwrap();
        assert_eq!(snapshot.life_of(orphan, Timestamp::from_secs(1)).stop, Some(Stop::Ancestor));
        assert!(snapshot.ceilings_of(orphan).is_none());
        assert_eq!(snapshot.grants_of(orphan).count(), 0);
    }

    #[test]
    fn a_limit_of_whoever_is_above_limits_all_below() {
        let boundary = |name: &str, agents: &[&str], groups: &[&str]| {
            let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
            let spec =
                wire::BoundarySpec { agents: list(agents), groups: list(groups), ..wire::BoundarySpec::default() };
            Object::Boundary(wire::Boundary { metadata: meta(name, "obj_4"), spec: Some(spec) })
        };
        let spec = wire::GroupSpec { agents: vec!["bot-1".into()], ..wire::GroupSpec::default() };
        let group = Object::Group(wire::Group { metadata: meta("few", "obj_5"), spec: Some(spec) });
        let mut objects = vec![namespace(false), class(15, 15), group];
        objects.extend((0..3).map(|n| agent(n, None, |_| ())));
        objects.extend([
            boundary("of-all", &[], &[]),
            boundary("of-0", &["bot-0"], &[]),
            boundary("of-few", &[], &["few"]),
            boundary("of-2", &["bot-2"], &[]),
        ]);
        let snapshot = snapshot(objects);
        let limits = |n| {
            let agent = snapshot.agent(&id(n)).unwrap();
            let mut names: Vec<_> =
                snapshot.boundaries_of(agent).map(|one| one.unwrap().label.name.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(limits(0), ["of-0", "of-all"]);
        assert_eq!(limits(1), ["of-0", "of-all", "of-few"]);
        assert_eq!(limits(2), ["of-0", "of-2", "of-all", "of-few"]);
        let few = Name::parse("few").unwrap();
        let in_few = |n| snapshot.is_in_group(snapshot.agent(&id(n)).unwrap(), &few);
        assert_eq!([in_few(0), in_few(1), in_few(2)], [false, true, true]);
    }

    #[test]
    fn where_nothing_is_inherited_no_selector_brings_anything() {
        // It selects by what an heir has from its maker, or by what the maker chose for it.
        for selector in ["agent_class = \"bots\"", "display_name = \"chosen\""] {
            let mut objects = vec![namespace(true), class(15, 15), agent(0, None, |_| ())];
            let mut made = agent(1, None, |_| ());
            if let Object::Agent(agent) = &mut made {
                agent.spec.as_mut().unwrap().display_name = "chosen".into();
            }
            objects.push(made);
            let group = |spec| Object::Group(wire::Group { metadata: meta("few", "obj_5"), spec: Some(spec) });
            let selects = wire::GroupSpec { selector: selector.into(), ..wire::GroupSpec::default() };
            let [role, mut binding] = bound(0, 2);
            if let Object::RoleBinding(binding) = &mut binding {
                let spec = binding.spec.as_mut().unwrap();
                (spec.agents, spec.groups) = (Vec::new(), vec!["few".into()]);
            }
            objects.extend([group(selects.clone()), role, binding]);
            assert_eq!(may(&snapshot(objects.clone()), 1), 0, "{selector}");
            // A list names it.
            objects.push(group(wire::GroupSpec { agents: vec!["bot-1".into()], ..selects }));
            assert_eq!(may(&snapshot(objects), 1), 2, "{selector}");
        }
    }

    #[test]
    fn a_binding_gives_nothing_to_whom_it_excepts_of_its_groups() {
        let alone = |status: &mut wire::AgentStatus| status.ancestors.clear();
        let mut objects = vec![namespace(true), class(0, 15), agent(0, None, |_| ()), agent(1, None, alone)];
        let all = wire::GroupSpec { selector: "agent_class = bots".into(), ..wire::GroupSpec::default() };
        objects.push(Object::Group(wire::Group { metadata: meta("all", "obj_5"), spec: Some(all) }));
        let [role, mut binding] = bound(0, 2);
        if let Object::RoleBinding(binding) = &mut binding {
            let spec = binding.spec.as_mut().unwrap();
            (spec.agents, spec.groups) = (Vec::new(), vec!["all".into()]);
            spec.except_agents = vec!["bot-1".into()];
        }
        objects.extend([role, binding]);
        let snapshot = snapshot(objects);
        assert_eq!((may(&snapshot, 0), may(&snapshot, 1)), (2, 0));
        let one = snapshot.agent(&id(1)).unwrap();
        assert!(snapshot.is_in_group(one, &Name::parse("all").unwrap()), "it stays in the group");
        assert_eq!(snapshot.bindings_of(one).count(), 0, "and does not hold the role");
    }

    #[test]
    fn a_role_of_whoever_is_above_is_held_by_all_below() {
        // A policy may forbid something to it.
        let mut objects = vec![namespace(true), class(15, 15), agent(0, None, |_| ()), agent(1, None, |_| ())];
        objects.extend([bound(0, 1), bound(1, 2)].into_iter().flatten());
        let snapshot = snapshot(objects);
        let roles = |n| {
            let bindings = snapshot.bindings_of(snapshot.agent(&id(n)).unwrap());
            bindings.map(|(b, _)| b.role.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(roles(0), ["role-0"]);
        assert_eq!(roles(1), ["role-1", "role-0"]);
    }
}
