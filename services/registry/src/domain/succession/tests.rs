//! The rule of succession: examples of each case, and that nobody is ever left without somebody or a flag.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use wire::AgentState;

use super::super::samples;
use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// Those who left everywhere, each with its successor.
fn departed(all: &[(&str, &str)]) -> Departed {
    let mut departed = Departed::default();
    for (who, successor) in all {
        departed.add(who, gone("", successor));
    }
    departed
}

fn gone(namespace: &str, successor: &str) -> Gone {
    Gone { namespace: namespace.into(), successor: successor.into(), time: at(1) }
}

fn agent(owners: &[&str], sponsors: &[&str], manager: &str) -> Agent {
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let mut agent = samples::agent();
    let spec = agent.spec.as_mut().unwrap();
    (spec.owners, spec.sponsors, spec.manager) = (all(owners), all(sponsors), manager.to_owned());
    agent.status = Some(AgentStatus { state: AgentState::Active.into(), lifecycle_version: 1, ..Default::default() });
    agent
}

fn settled(agent: &mut Agent, departed: &Departed) -> Settled {
    settle(agent, departed, DAY, at(100), ("registry", "left"))
}

/// Who answers then: owners, sponsors, manager.
fn told(agent: &Agent) -> String {
    let spec = agent.spec.as_ref().unwrap();
    format!("{} / {} / {}", spec.owners.join(" "), spec.sponsors.join(" "), spec.manager)
}

#[test]
fn each_duty_passes_by_its_own_rule() {
    // Who answers, who left, what is left.
    for (owners, sponsors, manager, left, then, expected) in [
        ("a b", "c", "m", &[("x", "")][..], "a b / c / m", Settled::Same),
        // A sponsor's duty is the manager's, beside whoever else is accountable.
        ("a", "c", "m", &[("c", "")][..], "a / m / m", Settled::PassedOn),
        ("a", "c d", "m", &[("c", "")][..], "a / m d / m", Settled::PassedOn),
        ("a", "c d", "", &[("c", "")][..], "a / d / ", Settled::PassedOn),
        // Or the successor's, before the manager.
        ("a", "c", "m", &[("c", "s")][..], "a / s / m", Settled::PassedOn),
        ("a", "c s", "m", &[("c", "s")][..], "a / s / m", Settled::PassedOn),
        // An owner's falls to the others, to the manager, to a sponsor.
        ("a b", "c", "m", &[("a", "")][..], "b / c / m", Settled::PassedOn),
        ("a", "c", "m", &[("a", "")][..], "m / c / m", Settled::PassedOn),
        ("a", "c", "", &[("a", "")][..], "c / c / ", Settled::PassedOn),
        ("a b", "c", "m", &[("a", "s")][..], "s b / c / m", Settled::PassedOn),
        // The manager's is the successor's, or nobody's.
        ("a", "c", "m", &[("m", "s")][..], "a / c / s", Settled::PassedOn),
        ("a", "c", "m", &[("m", "")][..], "a / c / ", Settled::PassedOn),
        // One who was all three.
        ("a", "a", "a", &[("a", "s")][..], "s / s / s", Settled::PassedOn),
        ("a", "a", "m", &[("a", "")][..], "m / m / m", Settled::PassedOn),
        // Successors who left too are followed.
        ("a", "c", "", &[("c", "s"), ("s", "t")][..], "a / t / ", Settled::PassedOn),
        ("a", "c", "m", &[("c", ""), ("m", "t")][..], "a / t / t", Settled::PassedOn),
        ("a", "c", "m", &[("c", "s"), ("s", "")][..], "a / m / m", Settled::PassedOn),
        // Nobody is left: the last ones stay named, and what is no sponsor's passes on all the same.
        ("a", "c", "", &[("c", "")][..], "a / c / ", Settled::Orphaned),
        ("a b", "c", "m", &[("c", ""), ("m", ""), ("a", "")][..], "b / c / ", Settled::Orphaned),
        ("a", "a", "", &[("a", "")][..], "a / a / ", Settled::Orphaned),
        ("a", "c", "", &[("c", "s"), ("s", "c")][..], "a / c / ", Settled::Orphaned),
        // A group is not a person, and stays.
        ("a", "c group:g", "", &[("c", "")][..], "a / group:g / ", Settled::PassedOn),
    ] {
        let split = |names: &'static str| names.split(' ').filter(|n| !n.is_empty()).collect::<Vec<_>>();
        let mut one = agent(&split(owners), &split(sponsors), manager);
        assert_eq!(settled(&mut one, &departed(left)), expected, "{owners} / {sponsors} / {manager} without {left:?}");
        assert_eq!(told(&one), then, "{owners} / {sponsors} / {manager} without {left:?}");
        let status = one.status.unwrap();
        let flag = (expected == Settled::Orphaned).then(|| (at(100).into(), at(100 + 86_400).into()));
        assert_eq!(status.orphaned_time.zip(status.suspend_after), flag);
        assert_eq!(status.lifecycle_version, 1, "what was issued goes on working");
    }
}

#[test]
fn a_departure_counts_where_it_is_from() {
    let mut departed = Departed::default();
    departed.add("user:c", gone("sales", ""));
    let mut one = agent(&["user:a"], &["user:c"], "");
    assert_eq!(settled(&mut one, &departed), Settled::Same, "from another namespace");
    departed.add("user:c", gone("", "user:s"));
    departed.add("user:c", gone("payments", "user:t"));
    assert_eq!(settled(&mut one, &departed), Settled::PassedOn);
    assert_eq!(told(&one), "user:a / user:t / ", "the nearer one says who follows");
    assert_eq!(departed.successors(), ["user:s", "user:t"].map(str::to_owned).into());
}

#[test]
fn a_flag_is_set_once_and_goes_with_a_sponsor_who_is_here() {
    let left = departed(&[("c", "")]);
    let mut one = agent(&["a"], &["c"], "");
    assert_eq!(settled(&mut one, &left), Settled::Orphaned);
    let before = one.clone();
    assert_eq!(settle(&mut one, &left, DAY, at(500), ("", "")), Settled::Same);
    assert_eq!(one, before, "the grace is not begun anew");
    assert_eq!(settled(&mut one, &Departed::default()), Settled::AnsweredFor, "c is back");
    assert_eq!(one.status.unwrap().orphaned_time, None);
}

#[test]
fn what_was_approved_is_looked_at_again() {
    let mut one = agent(&["a"], &["c"], "m");
    one.status.as_mut().unwrap().set_state(AgentState::Staged);
    assert_eq!(settled(&mut one, &departed(&[("c", "")])), Settled::PassedOn);
    assert_eq!(one.status.as_ref().unwrap().state(), AgentState::PendingApproval);
    assert_eq!(one.status.unwrap().state_actor, "registry");
}

#[test]
fn of_one_that_was_found_elsewhere_nobody_has_to_be_accountable() {
    let mut one = agent(&["a"], &[], "");
    assert_eq!(settled(&mut one, &departed(&[("a", "")])), Settled::Same);
    let mut one = agent(&[], &[], "m");
    assert_eq!(settled(&mut one, &departed(&[("m", "")])), Settled::PassedOn);
    assert_eq!(told(&one), " /  / ");
}

#[test]
fn the_grace_is_the_departures_the_namespaces_or_the_usual() {
    let namespace = |seconds| NamespaceSpec {
        orphan_grace: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..NamespaceSpec::default()
    };
    assert_eq!(grace(None, None), USUAL_GRACE);
    assert_eq!(grace(None, Some(&NamespaceSpec::default())), USUAL_GRACE);
    assert_eq!(grace(None, Some(&namespace(60))), Duration::from_secs(60));
    assert_eq!(grace(Some(Duration::ZERO), Some(&namespace(60))), Duration::ZERO);
    assert_eq!(grace(Some(DAY * 400), None), LONGEST_GRACE);
}

fn person() -> impl Strategy<Value = String> {
    (0..6u8).prop_map(|n| format!("user:{n}"))
}

fn persons(least: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(person(), least..4).prop_map(|all| each_once(all.into_iter()))
}

fn somebody_or_nobody() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), person()]
}

proptest! {
    /// No agent is without a sponsor who is here unless it is flagged, and without a flag nobody who left is named.
    #[test]
    fn somebody_is_accountable_or_it_is_flagged(
        (owners, sponsors, manager) in (persons(1), persons(1), somebody_or_nobody()),
        left in prop::collection::vec((person(), somebody_or_nobody(), any::<bool>()), 0..6),
    ) {
        let mut gone_by = Departed::default();
        for (who, successor, everywhere) in &left {
            gone_by.add(who, gone(if *everywhere { "" } else { "payments" }, successor));
        }
        let mut one = agent(&[], &[], &manager);
        let spec = one.spec.as_mut().unwrap();
        (spec.owners, spec.sponsors) = (owners.clone(), sponsors.clone());
        let before = one.clone();
        let outcome = settled(&mut one, &gone_by);
        let spec = one.spec.clone().unwrap();
        let is_here = |who: &String| gone_by.of(who, "payments").is_none();
        let is_flagged = one.status.as_ref().unwrap().orphaned_time.is_some();
        prop_assert!(!spec.sponsors.is_empty() && !spec.owners.is_empty());
        prop_assert_eq!(spec.sponsors.iter().any(is_here), !is_flagged);
        prop_assert_eq!(is_flagged, outcome == Settled::Orphaned);
        if !is_flagged {
            prop_assert!(spec.sponsors.iter().chain(&spec.owners).all(is_here));
            prop_assert!(spec.manager.is_empty() || is_here(&spec.manager));
        }
        // Whoever is here keeps what he answers for.
        for (was, is) in [(&owners, &spec.owners), (&sponsors, &spec.sponsors)] {
            prop_assert!(was.iter().filter(|who| is_here(who)).all(|who| is.contains(who)));
        }
        prop_assert_eq!(outcome == Settled::Same, one == before);
        // Once is as good as twice.
        let after = one.clone();
        prop_assert_eq!(settle(&mut one, &gone_by, DAY, at(900), ("", "")), Settled::Same);
        prop_assert_eq!(&one, &after);
        // Everybody is back: no flag is left.
        settled(&mut one, &Departed::default());
        prop_assert_eq!(one.status.unwrap().orphaned_time, None);
    }
}
