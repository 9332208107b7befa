//! When rounds start, who may decide, and that a decision takes from one agent what it takes and from nobody else anything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use legate_ids::{AgentId, ReviewItemId};
use legate_view::Snapshot;
use legate_wire::registry as wire;
use proptest::prelude::*;
use wire::declaration::Object;
use wire::{AgentSpec, Declaration, Metadata, ReviewItem, ReviewerOperators, ReviewerRule, RoleBinding};

use super::*;
use crate::domain::samples::{at, permission, seconds};

fn campaign(reviewers: ReviewerRule) -> ReviewCampaignSpec {
    let of = |who: &str, operators: &[&str]| ReviewerOperators {
        who: who.into(),
        operators: operators.iter().map(ToString::to_string).collect(),
    };
    ReviewCampaignSpec {
        reviewers: reviewers.into(),
        people: vec![of("user:grace@x", &["grace"]), of("group:audit", &["joan", "hedy"])],
        ..ReviewCampaignSpec::default()
    }
}

#[test]
fn a_round_starts_once_for_each_moment_and_those_that_were_missed_are_left_out() {
    let day = |n: i64| Timestamp::from_secs(n * 86_400);
    let spec = |start, every_days| ReviewCampaignSpec { start_time: start, every_days, ..Default::default() };
    let slot = |spec: &ReviewCampaignSpec, last: Option<Timestamp>, now| {
        due_slot(spec, day(5), last.map(Timestamp::micros), now)
    };
    assert_eq!(slot(&spec(None, 0), None, day(100)), None, "nobody asked for a round");
    let once = spec(at(10 * 86_400), 0);
    assert_eq!(slot(&once, None, day(9)), None);
    assert_eq!(slot(&once, None, day(99)), Some(day(10)));
    assert_eq!(slot(&once, Some(day(10)), day(99)), None);
    let often = spec(None, 30);
    assert_eq!(slot(&often, None, day(5)), Some(day(5)), "from when it was declared");
    assert_eq!(slot(&often, Some(day(5)), day(34)), None);
    assert_eq!(slot(&often, Some(day(5)), day(35)), Some(day(35)));
    assert_eq!(slot(&often, Some(day(5)), day(130)), Some(day(125)), "one for all that were missed");
    let (due, closes) = ends(&ReviewCampaignSpec { due: seconds(60), ..Default::default() }, day(1));
    assert_eq!((due.since(day(1)).as_secs(), closes.since(due).as_secs()), (60, 7 * 86_400));
    let none = ReviewCampaignSpec { due: seconds(60), grace: seconds(0), ..Default::default() };
    assert_eq!(ends(&none, day(1)).0, ends(&none, day(1)).1);
}

#[test]
fn nobody_decides_about_what_he_gave_nor_an_owner_about_his_agent() {
    let agent = |owners: &[&str], sponsors: &[&str]| AgentSpec {
        owners: owners.iter().map(ToString::to_string).collect(),
        sponsors: sponsors.iter().map(ToString::to_string).collect(),
        ..AgentSpec::default()
    };
    let said = |spec: &ReviewCampaignSpec, agent: &AgentSpec, writers: &[&str]| {
        reviewers(spec, agent, &barred(spec, agent, writers.iter().copied())).join(" ")
    };
    let sponsors = campaign(ReviewerRule::Sponsors);
    let usual = agent(&["user:ada"], &["user:grace@x", "group:audit", "user:nobody@x"]);
    assert_eq!(said(&sponsors, &usual, &[]), "operator:grace operator:hedy operator:joan");
    assert_eq!(said(&sponsors, &usual, &["spiffe://d/legate/operator/grace"]), "operator:hedy operator:joan");
    // A person's own grant was given by the person.
    assert_eq!(said(&sponsors, &usual, &["user:grace@x", "spiffe://d/legate/registry"]), "operator:hedy operator:joan");
    assert_eq!(said(&sponsors, &agent(&["user:grace@x"], &["user:grace@x"]), &[]), "");
    let escalated = ReviewCampaignSpec { escalation: vec!["group:audit".into(), "user:ada".into()], ..sponsors };
    assert_eq!(said(&escalated, &agent(&["user:ada"], &["user:ada"]), &[]), "operator:hedy operator:joan");
    let owners = campaign(ReviewerRule::Owners);
    assert_eq!(said(&owners, &agent(&["user:ada"], &["user:grace@x"]), &[]), "operator:ada");
    assert_eq!(said(&owners, &agent(&["user:ada"], &["user:ada"]), &[]), "", "nobody else would look");
    assert_eq!(said(&owners, &agent(&["user:ada", "user:bo"], &["user:ada"]), &[]), "operator:ada operator:bo");
    let named = ReviewCampaignSpec {
        named_reviewers: vec!["operator:ada".into(), "user:grace@x".into()],
        ..campaign(ReviewerRule::Named)
    };
    assert_eq!(said(&named, &usual, &[]), "operator:grace", "an owner who is named is one all the same");
    // Who is called like an operator and something else is not that operator.
    assert_eq!(operators_of("user:ada@evil.example", &[]), Vec::<String>::new());
    assert_eq!(operators_of("group:ada", &[]), Vec::<String>::new());
}

#[test]
fn what_stays_is_a_part() {
    let of = [permission("invoice:*"), permission("ledger:read")];
    assert_eq!(why_no_part(&[permission("invoice:read")], &of), None);
    assert_eq!(why_no_part(&[permission("invoice:*")], &of), None);
    assert!(why_no_part(&[], &of).unwrap().starts_with("is empty"));
    assert!(why_no_part(&[permission("ledger:write")], &of).unwrap().starts_with("[0] is within no"));
    assert!(why_no_part(&[permission("*")], &of).unwrap().starts_with("[0] is within no"));
    assert!(why_no_part(&of, &of).unwrap().starts_with("is all"));
}

const ACTIONS: [&str; 3] = ["a:x", "a:y", "a:z"];

fn metadata(name: &str) -> Option<Metadata> {
    let (namespace, id) = ("n".to_owned(), format!("obj_{name}"));
    Some(Metadata { name: name.into(), namespace, id, create_time: at(1), update_time: at(9), ..Metadata::default() })
}

fn agent_id(n: usize) -> AgentId {
    AgentId::from_parts(1, [u8::try_from(n).unwrap(); 10])
}

/// Five agents of which some belong to a group, and a role.
fn around(members: &[bool]) -> Vec<Declaration> {
    let names = members.iter().enumerate().filter(|(_, is)| **is).map(|(n, _)| format!("agent-{n}"));
    let group = wire::GroupSpec { agents: names.collect(), selector: "model = none".into(), ..Default::default() };
    let role = wire::RoleSpec { permissions: ACTIONS.map(permission).to_vec(), ..Default::default() };
    let mut all = vec![
        Object::Namespace(wire::Namespace {
            metadata: Some(Metadata { name: "n".into(), ..Metadata::default() }),
            ..Default::default()
        }),
        Object::AgentClass(wire::AgentClass {
            metadata: metadata("c"),
            spec: Some(wire::AgentClassSpec::default()),
            status: None,
        }),
        Object::Group(wire::Group { metadata: metadata("g"), spec: Some(group) }),
        Object::Role(wire::Role { metadata: metadata("r"), spec: Some(role) }),
    ];
    for n in 0..members.len() {
        let id = agent_id(n).to_string();
        let status = wire::AgentStatus { state: wire::AgentState::Active.into(), ..Default::default() };
        let spec = AgentSpec {
            agent_class: "c".into(),
            environment: wire::Environment::Test.into(),
            owners: vec!["user:a".into()],
            sponsors: vec!["user:b".into()],
            ..Default::default()
        };
        let metadata = Some(Metadata { id, ..metadata(&format!("agent-{n}")).unwrap() });
        all.push(Object::Agent(wire::Agent { metadata, spec: Some(spec), status: Some(status) }));
    }
    all.into_iter().map(|object| Declaration { object: Some(object) }).collect()
}

/// Which actions each agent has, as the engine sees it.
fn authority(all: &[Declaration], agents: usize) -> Vec<BTreeSet<String>> {
    let seen = Snapshot::of(all).unwrap();
    let of = |n: usize| {
        let agent = seen.agent(&agent_id(n)).unwrap();
        let given = seen.grants_of(agent).flat_map(|grant| grant.permissions.iter());
        given.map(|one| one.action().as_str().to_owned()).collect()
    };
    (0..agents).map(of).collect()
}

proptest! {
    /// After a round each agent has what was decided, and who was not asked about has what it had.
    #[test]
    fn authority_is_what_was_decided(
        agents in prop::collection::vec((any::<bool>(), any::<bool>(), 0usize..4, 0usize..3), 5),
        through_group in any::<bool>(),
    ) {
        let members: Vec<bool> = agents.iter().map(|agent| agent.0).collect();
        let named: Vec<String> =
            agents.iter().enumerate().filter(|(_, a)| a.1).map(|(n, _)| format!("agent-{n}")).collect();
        prop_assume!(through_group || !named.is_empty());
        let spec = wire::RoleBindingSpec {
            role: "r".into(),
            agents: named,
            groups: if through_group { vec!["g".into()] } else { Vec::new() },
            ..Default::default()
        };
        let binding = RoleBinding { metadata: metadata("b"), spec: Some(spec) };
        let mut all = around(&members);
        let Some(Object::Role(role)) = all[3].object.clone() else { panic!("no role") };
        all.push(Declaration { object: Some(Object::RoleBinding(binding.clone())) });
        let before = authority(&all, agents.len());
        let item = |n: usize| {
            let decision = [ReviewDecision::Certify, ReviewDecision::Reduce, ReviewDecision::Revoke, ReviewDecision::Unspecified][agents[n].2];
            let keep = if decision == ReviewDecision::Reduce { vec![permission(ACTIONS[agents[n].3])] } else { Vec::new() };
            ReviewItem {
                id: ReviewItemId::from_parts(1, [u8::try_from(n).unwrap(); 10]).to_string(),
                agent: format!("agent-{n}"),
                decision: decision.into(),
                keep,
                ..Default::default()
            }
        };
        let items: Vec<(usize, ReviewItem)> =
            (0..agents.len()).filter(|n| !before[*n].is_empty()).map(|n| (n, item(n))).collect();
        let cut: Vec<&(usize, ReviewItem)> =
            items.iter().filter(|(_, item)| item.decision() != ReviewDecision::Certify).collect();
        let cuts: Vec<Cut<'_>> = cut
            .iter()
            .map(|(n, item)| Cut { item, is_there: true, is_in_group: through_group && members[*n] })
            .collect();
        let remedy = of_binding(&binding, &role, &cuts);
        prop_assert!(remedy.done.iter().all(|done| matches!(done, Done::Changed(..))), "{:?}", remedy.done);
        let is_written = remedy.is_over || remedy.narrowed.is_some();
        prop_assert_eq!(is_written, !cuts.is_empty());
        if is_written {
            all.pop();
        }
        // What is new was written after the agents.
        all.extend(remedy.narrowed.into_iter().chain(remedy.parts).map(|mut one| {
            let metadata = one.metadata_mut().unwrap();
            metadata.id = format!("obj_{}", metadata.name);
            metadata.update_time = at(99);
            one
        }));
        let after = authority(&all, agents.len());
        for n in 0..agents.len() {
            let decided = items.iter().find(|(of, _)| *of == n).map(|(_, item)| item.clone()).unwrap_or_default();
            let expected: BTreeSet<String> = match decided.decision() {
                ReviewDecision::Certify => before[n].clone(),
                _ => decided.keep.iter().map(|one| one.action.clone()).collect(),
            };
            prop_assert_eq!(&after[n], &expected, "agent-{}: {:?}", n, decided.decision());
        }
    }
}

#[test]
fn what_is_gone_asks_for_nothing_and_what_does_not_fit_is_told() {
    let role = wire::Role {
        metadata: metadata("r"),
        spec: Some(wire::RoleSpec { permissions: vec![permission("a:x")], ..Default::default() }),
    };
    let of = |agents: &[&str], except: usize| RoleBinding {
        metadata: metadata("b"),
        spec: Some(wire::RoleBindingSpec {
            role: "r".into(),
            agents: agents.iter().map(ToString::to_string).collect(),
            groups: vec!["g".into()],
            except_agents: (0..except).map(|n| format!("x{n}")).collect(),
            ..Default::default()
        }),
    };
    let item = |decision: ReviewDecision, keep: &str| ReviewItem {
        id: "rvi_1".into(),
        agent: "a".into(),
        decision: decision.into(),
        keep: if keep.is_empty() { Vec::new() } else { vec![permission(keep)] },
        ..Default::default()
    };
    let revoked = item(ReviewDecision::Revoke, "");
    let gone = of_binding(&of(&["a"], 0), &role, &[Cut { item: &revoked, is_there: false, is_in_group: false }]);
    assert!(gone.narrowed.is_none() && matches!(gone.done[..], [Done::NotNeeded(_)]));
    let elsewhere = of_binding(&of(&["b"], 0), &role, &[Cut { item: &revoked, is_there: true, is_in_group: false }]);
    assert!(elsewhere.narrowed.is_none() && matches!(elsewhere.done[..], [Done::NotNeeded(_)]));
    let full = of_binding(&of(&[], 1_024), &role, &[Cut { item: &revoked, is_there: true, is_in_group: true }]);
    assert!(full.narrowed.is_none() && matches!(full.done[..], [Done::Failed(_)]));
    // What the role no longer gives does not come back by a review.
    let reduced = item(ReviewDecision::Reduce, "a:y");
    let cut = of_binding(&of(&["a"], 0), &role, &[Cut { item: &reduced, is_there: true, is_in_group: false }]);
    assert_eq!(
        (cut.parts.len(), &cut.done[..]),
        (0, &[Done::Changed("the binding no longer names the agent".into(), String::new())][..])
    );
}
