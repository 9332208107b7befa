//! What lifecycle policies make of an agent: rule by rule, together, and as laws.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::super::samples;
use super::*;

const NOW: i64 = 1_900_000_000;

fn at(days: i64) -> Timestamp {
    Timestamp::from_secs(NOW + days * 86_400)
}

fn days(days: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 })
}

/// An agent of the class `clerk` that was created and became so at day 0.
fn agent(state: AgentState) -> wire::Agent {
    let mut agent = samples::agent();
    let metadata = agent.metadata.as_mut().unwrap();
    metadata.create_time = Some(at(0).into());
    agent.status = Some(wire::AgentStatus {
        state: state.into(),
        lifecycle_version: 1,
        state_time: Some(at(0).into()),
        ..wire::AgentStatus::default()
    });
    agent
}

fn declared(agent: &wire::Agent) -> wire::Declaration {
    wire::Declaration { object: Some(Object::Agent(agent.clone())) }
}

/// A policy that is carried out, over everybody, in force since day 0, without grace or notice.
fn policy(name: &str, change: impl FnOnce(&mut LifecyclePolicySpec)) -> wire::LifecyclePolicy {
    let mut spec = LifecyclePolicySpec {
        mode: LifecycleMode::Enforce.into(),
        grace: days(0),
        notify_before: days(0),
        ..LifecyclePolicySpec::default()
    };
    change(&mut spec);
    wire::LifecyclePolicy {
        metadata: Some(wire::Metadata {
            name: name.into(),
            namespace: "payments".into(),
            id: format!("obj_{name}"),
            ..wire::Metadata::default()
        }),
        spec: Some(spec),
        status: Some(wire::LifecyclePolicyStatus { effective_time: Some(at(0).into()) }),
    }
}

fn dues(policies: &[wire::LifecyclePolicy], agent: &wire::Agent, used: Option<Timestamp>) -> Vec<Due> {
    Policies::of(policies, &[samples::group()]).dues(&declared(agent), used)
}

/// What is done, by which rule, on which day.
fn told(dues: &[Due]) -> Vec<(LifecycleAction, LifecycleRule, i64)> {
    let day = |at: Timestamp| (at.secs() - NOW) / 86_400;
    dues.iter().map(|due| (due.action, due.rule, day(due.act_at))).collect()
}

#[test]
fn each_rule_counts_from_its_own_beginning() {
    let all = policy("all", |spec| {
        spec.attest_every = days(90);
        spec.expire_after = days(365);
        spec.suspend_when_dormant_for = days(60);
        spec.retire_after_suspended_for = days(30);
    });
    let active = agent(AgentState::Active);
    let (suspend, expire) = (LifecycleAction::Suspend, LifecycleAction::Expire);
    assert_eq!(
        told(&dues(std::slice::from_ref(&all), &active, None)),
        [
            (suspend, LifecycleRule::Dormant, 60),
            (suspend, LifecycleRule::Unattested, 90),
            (expire, LifecycleRule::Expired, 365)
        ]
    );
    let mut lively = active.clone();
    lively.status.as_mut().unwrap().last_attestation_time = Some(at(50).into());
    assert_eq!(
        told(&dues(std::slice::from_ref(&all), &lively, Some(at(40))))[..2],
        [(suspend, LifecycleRule::Dormant, 100), (suspend, LifecycleRule::Unattested, 140)]
    );
    for stopped in [AgentState::Suspended, AgentState::Expired] {
        let retire = [(LifecycleAction::Retire, LifecycleRule::StoppedForLong, 30)];
        assert_eq!(told(&dues(std::slice::from_ref(&all), &agent(stopped), None)), retire);
    }
    for other in [AgentState::PendingApproval, AgentState::Staged, AgentState::Quarantined, AgentState::Retired] {
        assert_eq!(dues(std::slice::from_ref(&all), &agent(other), None), [], "{other:?}");
    }
}

#[test]
fn grace_comes_after_what_is_due_and_after_the_policy() {
    let mut late = policy("late", |spec| {
        spec.suspend_when_dormant_for = days(60);
        spec.grace = days(10);
        spec.notify_before = days(3);
    });
    late.status.as_mut().unwrap().effective_time = Some(at(100).into());
    let due = dues(&[late.clone()], &agent(AgentState::Active), None).remove(0);
    assert_eq!((due.due_at, due.act_at, due.notify_at), (at(60), at(110), Some(at(107))));
    late.spec.as_mut().unwrap().grace = None;
    late.spec.as_mut().unwrap().notify_before = None;
    let due = dues(&[late], &agent(AgentState::Active), None).remove(0);
    assert_eq!((due.act_at, due.notify_at), (at(107), Some(at(100))), "a week of each where nothing is said");
}

#[test]
fn who_is_concerned() {
    let concerned = |change: fn(&mut LifecyclePolicySpec)| {
        let one = policy("one", |spec| {
            spec.expire_after = days(1);
            change(spec);
        });
        Policies::of(&[one], &[samples::group()]).concern(&declared(&agent(AgentState::Active)))
    };
    assert!(concerned(|_| {}), "everybody where nothing is said");
    assert!(concerned(|spec| spec.agent_classes = vec!["other".into(), "clerk".into()]));
    assert!(!concerned(|spec| spec.agent_classes = vec!["other".into()]));
    assert!(concerned(|spec| spec.selector = "environment = prod".into()));
    assert!(!concerned(|spec| spec.selector = "environment = dev".into()));
    // The sample of a group lists the sample of an agent; another group is not known.
    assert!(concerned(|spec| spec.groups = vec!["clerks".into()]));
    assert!(!concerned(|spec| spec.groups = vec!["others".into()]));
    assert!(!concerned(|spec| spec.selector = "what (".into()), "a selector that cannot be read selects nobody");
}

#[test]
fn the_strictest_wins_and_always_the_same() {
    let dormant = |name: &str, span: i64| policy(name, |spec| spec.suspend_when_dormant_for = days(span));
    let quarantine = policy("z", |spec| {
        spec.attest_every = days(60);
        spec.unattested = LifecycleAction::Quarantine.into();
    });
    let mut policies = vec![dormant("b", 60), dormant("a", 60), quarantine, dormant("c", 90)];
    let first = |policies: &[wire::LifecyclePolicy]| {
        let dues = dues(policies, &agent(AgentState::Active), None);
        dues.into_iter().map(|due| due.policy).collect::<Vec<_>>()
    };
    assert_eq!(first(&policies), ["z", "a", "b", "c"]);
    policies.reverse();
    assert_eq!(first(&policies), ["z", "a", "b", "c"]);
}

#[test]
fn the_grace_of_an_orphan_is_only_shortened() {
    let orphaned = |span: i64, suspend_after: Option<i64>| {
        let one = policy("one", |spec| {
            spec.suspend_when_orphaned_for = days(span);
            // It has a grace of its own.
            spec.grace = days(90);
        });
        let mut agent = agent(AgentState::Active);
        let status = agent.status.as_mut().unwrap();
        status.orphaned_time = Some(at(10).into());
        status.suspend_after = suspend_after.map(|day| at(day).into());
        told(&dues(&[one], &agent, None))
    };
    let suspended = |day| [(LifecycleAction::Suspend, LifecycleRule::Orphaned, day)];
    assert_eq!(orphaned(3, Some(24)), suspended(13));
    assert_eq!(orphaned(3, None), suspended(13));
    assert_eq!(orphaned(0, Some(24)), suspended(10));
    assert_eq!(orphaned(30, Some(24)), [], "it is suspended before, without this rule");
    let one = policy("one", |spec| spec.suspend_when_orphaned_for = days(3));
    assert_eq!(dues(&[one], &agent(AgentState::Active), None), [], "somebody is accountable");
}

#[test]
fn a_policy_that_reports_does_and_announces_nothing() {
    let report = policy("report", |spec| {
        spec.mode = LifecycleMode::Report.into();
        spec.attest_every = days(30);
        spec.notify_before = days(7);
    });
    let found = dues(&[report], &agent(AgentState::Active), None);
    assert!(found[0].report && found[0].notify_at.is_none());
    let plan = |was_told: bool| plan(&found, at(0), |_, _| was_told);
    assert_eq!(plan(false), Plan { look_at: Some(at(30)), due_at: None, attest_at: None });
    assert_eq!(plan(true), Plan::default(), "and is told once");
}

#[test]
fn a_plan_looks_when_something_is_to_be_told_or_done() {
    let one = policy("one", |spec| {
        spec.attest_every = days(30);
        spec.grace = days(10);
        spec.notify_before = days(7);
    });
    let found = dues(&[one], &agent(AgentState::Active), None);
    let whole = |look: i64| Plan { look_at: Some(at(look)), due_at: Some(at(40)), attest_at: Some(at(30)) };
    assert_eq!(plan(&found, at(0), |_, _| false), whole(33));
    assert_eq!(plan(&found, at(35), |_, beforehand| beforehand), whole(40));
    let dormant = policy("dormant", |spec| spec.suspend_when_dormant_for = days(60));
    let found = dues(&[dormant], &agent(AgentState::Active), None);
    assert_eq!(plan(&found, at(5), |_, _| false).look_at, Some(at(6)), "use is looked at every day");
}

#[test]
fn what_a_policy_says_begins_anew_when_it_changes() {
    let mut one = policy("one", |spec| spec.attest_every = days(30));
    one.status = Some(effective(&one, None, at(1)));
    let since = |wanted: &wire::LifecyclePolicy, now| effective(wanted, Some(&one), now).effective_time;
    assert_eq!(since(&one, at(9)), Some(at(1).into()));
    let mut described = one.clone();
    described.spec.as_mut().unwrap().description = "Why.".into();
    assert_eq!(since(&described, at(9)), Some(at(1).into()));
    let mut shorter = one.clone();
    shorter.spec.as_mut().unwrap().attest_every = days(3);
    assert_eq!(since(&shorter, at(9)), Some(at(9).into()));
}

#[test]
fn an_alert_is_answered_by_type_severity_and_time() {
    let alarm = |name: &str, action: LifecycleAction, mode: LifecycleMode| {
        policy(name, |spec| {
            spec.mode = mode.into();
            spec.on_alert = Some(wire::AlertRule {
                alert_types: vec!["ACTION_DESPITE_DENIAL".into()],
                min_severity: "HIGH".into(),
                action: action.into(),
                max_agents: 3,
                per: days(1),
            });
        })
    };
    let (suspend, quarantine) = (LifecycleAction::Suspend, LifecycleAction::Quarantine);
    let (enforce, report) = (LifecycleMode::Enforce, LifecycleMode::Report);
    let all = [alarm("a", suspend, enforce), alarm("b", quarantine, enforce), alarm("c", quarantine, report)];
    let policies = Policies::of(&all, &[]);
    let answers = |word: &str, severity: i32, raised: Timestamp| {
        policies.on_alert(&declared(&agent(AgentState::Active)), &Alert { word, severity, raised })
    };
    let found = answers("ACTION_DESPITE_DENIAL", 4, at(1));
    assert_eq!(found.len(), 3);
    assert_eq!(strictest(&found).unwrap().policy, "b");
    assert_eq!(strictest(&found[2..]).unwrap().policy, "c", "only told where no other says anything");
    assert!(answers("ACTION_DESPITE_DENIAL", 2, at(1)).is_empty());
    assert!(answers("DENIAL_BURST", 4, at(1)).is_empty());
    assert!(answers("ACTION_DESPITE_DENIAL", 4, at(-1)).is_empty(), "it was raised before the policy was there");
    assert_eq!(
        [severity(""), severity("LOW"), severity("CRITICAL"), severity("low")],
        [Some(0), Some(1), Some(4), None]
    );
}

#[test]
fn reasons_are_sentences() {
    let one = policy("tidy", |spec| spec.suspend_when_dormant_for = days(1));
    let due = dues(&[one], &agent(AgentState::Active), None).remove(0);
    assert_eq!(due.reason("payments"), "lifecycle policy payments/tidy: it was not used for 1 day");
    let spans =
        [(90, "90 seconds"), (60, "1 minute"), (5_400, "90 minutes"), (129_600, "36 hours"), (864_000, "10 days")];
    for (secs, said) in spans {
        assert_eq!(words(Duration::from_secs(secs)), said);
    }
}

fn spans() -> impl Strategy<Value = Option<prost_types::Duration>> {
    prop::option::of(1i64..800).prop_map(|d| d.and_then(days))
}

prop_compose! {
    fn any_policy()(
        attest in spans(),
        expire in spans(),
        dormant in spans(),
        retire in spans(),
        grace in prop::option::of(0i64..90),
        notify in prop::option::of(0i64..90),
        since in -400i64..400,
        report in prop::bool::weighted(0.2),
        name in "[a-d]",
    ) -> wire::LifecyclePolicy {
        let mut one = policy(&name, |spec| {
            spec.attest_every = attest;
            spec.expire_after = expire;
            spec.suspend_when_dormant_for = dormant;
            spec.retire_after_suspended_for = retire;
            spec.grace = grace.and_then(days);
            spec.notify_before = notify.and_then(days);
            spec.mode = if report { LifecycleMode::Report } else { LifecycleMode::Enforce }.into();
        });
        one.status = Some(wire::LifecyclePolicyStatus { effective_time: Some(at(since).into()) });
        one
    }
}

proptest! {
    /// Whatever policies there are and however long ago it was made, used or confirmed: whom somebody resumes now, no sweep stops within a
    /// day, nor within the shortest time that a rule has.
    #[test]
    fn a_resumption_begins_every_time_anew(
        policies in prop::collection::vec(any_policy(), 0..4),
        resumed in 0i64..2_000,
        used in prop::option::of(-100i64..2_000),
        confirmed in prop::option::of(-100i64..2_000),
    ) {
        let mut agent = agent(AgentState::Active);
        let status = agent.status.as_mut().unwrap();
        status.state_time = Some(at(resumed).into());
        status.last_attestation_time = confirmed.map(|day| at(day).into());
        for due in dues(&policies, &agent, used.map(at)) {
            prop_assert!(due.act_at >= at(resumed + 1), "{due:?}");
            prop_assert!(due.act_at >= at(resumed).plus(due.span), "{due:?}");
        }
    }

    /// To confirm or to use an agent never brings anything nearer.
    #[test]
    fn nothing_comes_sooner_for_being_confirmed_or_used(
        policies in prop::collection::vec(any_policy(), 0..4),
        used in 0i64..1_000,
        later in 0i64..1_000,
        confirmed in 0i64..1_000,
    ) {
        let idle = agent(AgentState::Active);
        let mut busy = idle.clone();
        busy.status.as_mut().unwrap().last_attestation_time = Some(at(confirmed).into());
        let first = |agent: &wire::Agent, used: i64| {
            dues(&policies, agent, Some(at(used))).into_iter().find(|due| !due.report).map(|due| due.act_at)
        };
        let (before, after) = (first(&idle, used), first(&busy, used + later));
        prop_assert_eq!(before.is_some(), after.is_some());
        prop_assert!(after >= before);
    }

    /// What a plan says is next is never later than the first thing that is done, so that no sweep misses it.
    #[test]
    fn no_sweep_misses_what_is_due(policies in prop::collection::vec(any_policy(), 0..4), was_told in any::<bool>()) {
        let found = dues(&policies, &agent(AgentState::Active), None);
        let plan = plan(&found, at(0), |_, _| was_told);
        let first = found.iter().filter(|due| !due.report).map(|due| due.act_at).min();
        prop_assert_eq!(plan.due_at, first);
        if let Some(first) = first {
            prop_assert!(plan.look_at.unwrap() <= first);
        }
    }
}
