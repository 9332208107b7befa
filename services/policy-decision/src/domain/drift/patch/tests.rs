//! What is proposed takes away all that is unused and nothing that is used, from one agent and from nobody else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use proptest::prelude::*;

use super::super::evidence::Uses;
use super::super::tests::{agent, ago, binding, class, declared, evidence_of, id, meta, permission, question, role};
use super::super::{Known, Terms, Used, propose};
use super::*;
use crate::domain::authority::Bench;

const DAY: u64 = 86_400;

fn whole(action: &str) -> wire::Permission {
    permission(action, "T", "*", None)
}

/// Who used what lately, by the agent's number.
type Lately = Vec<(usize, String)>;

fn known(lately: &Lately, n: usize) -> Known {
    let uses = Uses { count: 9, last: Some(ago(1)), interval_days: 1 };
    let used = lately.iter().filter(|(who, _)| *who == n);
    let used = used.map(|(_, action)| Used { action: action.clone(), kind: "T".into(), id: "*".into(), uses });
    Known { used: used.collect(), last: Some(ago(0)), state_since: Some(ago(700)), ..Known::default() }
}

fn proposed(objects: &[wire::Declaration], lately: &Lately, n: usize) -> Option<(Vec<Finding>, Patch)> {
    let snapshot = Snapshot::of(objects).unwrap();
    let evidence = evidence_of(120);
    let terms = Terms { evidence: &evidence, minimum: Duration::from_secs(30 * DAY), now: ago(0) };
    let agent = snapshot.agent(&id(n)).unwrap();
    let proposal = propose(&snapshot, agent, &known(lately, n), &terms).ok()?;
    let patch = patch(&snapshot, agent, &proposal.lose);
    Some((proposal.lose, patch))
}

/// The objects with the changes made, as the program makes them.
fn with(objects: &[wire::Declaration], changes: &[Change], name: &str) -> Vec<wire::Declaration> {
    let mut all = objects.to_vec();
    for change in changes {
        let at = all.iter().position(|one| one.metadata().unwrap().id == *change.label.id).unwrap();
        let drop = |from: &mut Vec<wire::Permission>| {
            from.retain(|one| !change.permissions.iter().any(|cell| cell.action == one.action));
        };
        match (&mut all[at].object, change.act) {
            (_, Act::TakeBack) => drop_at(&mut all, at),
            (Some(Object::Role(role)), Act::DropPermissions) => drop(&mut role.spec.as_mut().unwrap().permissions),
            (Some(Object::AgentClass(class)), Act::DropPermissions) => {
                drop(&mut class.spec.as_mut().unwrap().permissions);
            }
            (Some(Object::RoleBinding(binding)), Act::DropAgent) => {
                binding.spec.as_mut().unwrap().agents.retain(|one| one != name);
            }
            (Some(Object::RoleBinding(binding)), Act::ExceptAgent) => {
                binding.spec.as_mut().unwrap().except_agents.push(name.to_owned());
            }
            other => panic!("{other:?}"),
        }
    }
    all
}

fn drop_at(all: &mut Vec<wire::Declaration>, at: usize) {
    drop(all.remove(at));
}

/// The actions of these that each agent may do.
fn may(objects: &[wire::Declaration], actions: &[&str]) -> BTreeMap<usize, Vec<String>> {
    let (snapshot, bench) = (Snapshot::of(objects).unwrap(), Bench::new());
    let one = |n: usize| {
        let agent = snapshot.agent(&id(n)).unwrap();
        let allowed = actions
            .iter()
            .filter(|action| bench.granted(&snapshot, agent, &question(action, "T", "1"), ago(0)).denied.is_none());
        (n, allowed.map(|action| (*action).to_owned()).collect())
    };
    (1..=2).map(one).collect()
}

fn named(name: &str, role: &str, agents: &[&str], groups: &[&str]) -> wire::Declaration {
    let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let spec = wire::RoleBindingSpec {
        role: role.into(),
        agents: of(agents),
        groups: of(groups),
        ..wire::RoleBindingSpec::default()
    };
    let metadata = meta(name, &format!("obj_{name}"), 600);
    declared(Object::RoleBinding(wire::RoleBinding { metadata, spec: Some(spec) }))
}

fn both() -> wire::Declaration {
    let spec = wire::GroupSpec { agents: vec!["a-1".into(), "a-2".into()], ..wire::GroupSpec::default() };
    declared(Object::Group(wire::Group { metadata: meta("both", "obj_both", 600), spec: Some(spec) }))
}

fn house(second_class: &str) -> Vec<wire::Declaration> {
    vec![
        class("worker", vec![whole("c:x"), whole("c:y")], vec![whole("*")]),
        class_of_others(),
        agent(1, |_| ()),
        agent(2, |agent| agent.spec.as_mut().unwrap().agent_class = second_class.into()),
    ]
}

fn class_of_others() -> wire::Declaration {
    let mut other = class("other", vec![whole("c:x")], vec![whole("*")]);
    let metadata = other.metadata_mut().unwrap();
    metadata.id = "obj_other".into();
    other
}

fn acts(patch: &Patch) -> Vec<(Act, String)> {
    patch.changes.iter().map(|change| (change.act, change.label.name.to_string())).collect()
}

#[test]
fn what_concerns_the_agent_alone_is_changed_where_it_is_given() {
    let used = vec![(1, "c:x".to_owned()), (1, "r:x".to_owned())];
    let mut objects = house("other");
    objects.extend([
        role("mine", vec![whole("r:x"), whole("r:y")]),
        binding("mine-1", "mine", "a-1", 600),
        role("idle", vec![whole("i:x")]),
        binding("idle-1", "idle", "a-1", 600),
        role("ours", vec![whole("o:x")]),
        named("ours-1", "ours", &["a-1", "a-2"], &[]),
        role("all", vec![whole("g:x")]),
        named("all-1", "all", &[], &["both"]),
        both(),
    ]);
    let (lose, patch) = proposed(&objects, &used, 1).unwrap();
    assert_eq!(lose.len(), 5, "{lose:?}");
    assert!(patch.why_not.is_empty(), "{patch:?}");
    let mut told = acts(&patch);
    told.sort_by(|a, b| a.1.cmp(&b.1));
    let expected = [
        (Act::ExceptAgent, "all-1"),
        (Act::TakeBack, "idle-1"),
        (Act::DropPermissions, "mine"),
        (Act::DropAgent, "ours-1"),
        (Act::DropPermissions, "worker"),
    ];
    assert_eq!(told, expected.map(|(act, name)| (act, name.to_owned())));
    let actions = ["c:x", "c:y", "r:x", "r:y", "i:x", "o:x", "g:x"];
    let (before, after) = (may(&objects, &actions), may(&with(&objects, &patch.changes, "a-1"), &actions));
    assert_eq!(after[&1], ["c:x", "r:x"]);
    assert_eq!(after[&2], before[&2]);
}

#[test]
fn what_concerns_others_too_is_left_to_a_ceiling_and_it_is_said_why() {
    let used = vec![(1, "c:x".to_owned()), (1, "r:x".to_owned())];
    let of = |more: Vec<wire::Declaration>, second: &str| {
        let mut objects = house(second);
        objects.extend(more);
        proposed(&objects, &used, 1).unwrap().1
    };
    let shared_class = of(vec![], "worker");
    assert!(shared_class.changes.is_empty() && shared_class.why_not[0].contains("1 other agents"), "{shared_class:?}");
    let two = vec![role("mine", vec![whole("r:x"), whole("r:y")]), named("mine-1", "mine", &["a-1", "a-2"], &[])];
    let shared_binding = of(two, "other");
    assert!(shared_binding.why_not[0].contains("to others too"), "{shared_binding:?}");
    let twice = vec![
        role("mine", vec![whole("r:x"), whole("r:y")]),
        binding("mine-1", "mine", "a-1", 600),
        binding("mine-2", "mine", "a-2", 600),
    ];
    let shared_role = of(twice, "other");
    assert!(shared_role.changes.is_empty() && shared_role.why_not[0].contains("mine-2"), "{shared_role:?}");
}

proptest! {
    /// Whatever is bound to whom: the changes take from one agent what it is to lose, and nothing that it used; from the other nothing.
    #[test]
    fn changes_take_what_is_unused_and_nothing_else(
        roles in prop::collection::vec(prop::collection::btree_set(0usize..4, 1..4), 3),
        bound in prop::collection::vec((0usize..3, any::<bool>(), any::<bool>(), any::<bool>()), 0..6),
        used in prop::collection::btree_set(0usize..4, 0..4),
        is_alone in any::<bool>(),
    ) {
        const ACTIONS: [&str; 6] = ["p:0", "p:1", "p:2", "p:3", "c:x", "c:y"];
        let mut objects = house(if is_alone { "other" } else { "worker" });
        objects.push(both());
        for (n, actions) in roles.iter().enumerate() {
            objects.push(role(&format!("r-{n}"), actions.iter().map(|a| whole(ACTIONS[*a])).collect()));
        }
        for (n, (role, first, second, by_group)) in bound.iter().enumerate() {
            let names: Vec<&str> = [(*first, "a-1"), (*second, "a-2")].into_iter().filter(|(is, _)| *is).map(|(_, n)| n).collect();
            let groups: &[&str] = if *by_group || names.is_empty() { &["both"] } else { &[] };
            objects.push(named(&format!("b-{n}"), &format!("r-{role}"), &names, groups));
        }
        let mut lately: Lately = used.iter().map(|a| (1, ACTIONS[*a].to_owned())).collect();
        lately.push((1, "c:x".to_owned()));
        let Some((lose, patch)) = proposed(&objects, &lately, 1) else { return Ok(()) };
        prop_assert!(lose.is_empty() || patch.changes.is_empty() != patch.why_not.is_empty());
        if patch.changes.is_empty() {
            return Ok(());
        }
        let (before, after) = (may(&objects, &ACTIONS), may(&with(&objects, &patch.changes, "a-1"), &ACTIONS));
        prop_assert_eq!(&after[&2], &before[&2]);
        let lost: Vec<&str> = lose.iter().map(|one| one.cell.as_ref().unwrap().action.as_str()).collect();
        let expected: Vec<String> = before[&1].iter().filter(|action| !lost.contains(&action.as_str())).cloned().collect();
        prop_assert_eq!(&after[&1], &expected);
        for action in lately.iter().map(|(_, action)| action).filter(|action| before[&1].contains(action)) {
            prop_assert!(after[&1].contains(action));
        }
    }
}
