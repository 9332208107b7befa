//! The lifecycle against a plain model.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::super::samples;
use super::*;
use AgentState::{Active, Expired, PendingApproval, Quarantined, Retired, Staged, Suspended, Unspecified};
use Transition as T;

const STATES: [AgentState; 8] =
    [Unspecified, PendingApproval, Staged, Active, Suspended, Quarantined, Expired, Retired];

/// The comments of agent_service.proto and agent.proto, written out.
const TABLE: [(AgentState, T, AgentState); 17] = [
    (PendingApproval, T::Approve, Staged),
    (Staged, T::Activate, Active),
    (Active, T::Suspend, Suspended),
    (Suspended, T::Resume, Active),
    (Expired, T::Resume, Active),
    (Staged, T::Quarantine, Quarantined),
    (Active, T::Quarantine, Quarantined),
    (Suspended, T::Quarantine, Quarantined),
    (Expired, T::Quarantine, Quarantined),
    (Quarantined, T::Release, Suspended),
    (PendingApproval, T::Retire, Retired),
    (Staged, T::Retire, Retired),
    (Active, T::Retire, Retired),
    (Suspended, T::Retire, Retired),
    (Quarantined, T::Retire, Retired),
    (Expired, T::Retire, Retired),
    (Active, T::Expire, Expired),
];

fn expected(from: AgentState, t: T) -> Option<AgentState> {
    TABLE.iter().find(|(state, step, _)| (*state, *step) == (from, t)).map(|(_, _, to)| *to)
}

fn agent_in(state: AgentState) -> wire::Agent {
    let mut agent = samples::agent();
    agent.spec.as_mut().unwrap().expire_time = None;
    agent.status = Some(wire::AgentStatus { state: state.into(), lifecycle_version: 1, ..Default::default() });
    agent
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

#[test]
fn the_table_is_that_of_the_protos() {
    for from in STATES {
        for t in T::ALL {
            assert_eq!(next(from, t).ok(), expected(from, t), "{from:?} {t:?}");
        }
    }
}

#[test]
fn a_step_says_who_when_and_why() {
    let mut agent = agent_in(Active);
    apply(&mut agent, T::Suspend, at(7), "spiffe://legate.test/legate/operator/ada", "odd calls").unwrap();
    let status = agent.status.unwrap();
    assert_eq!(status.state(), Suspended);
    assert_eq!(status.lifecycle_version, 2);
    assert_eq!(status.state_time, Some(at(7).into()));
    assert_eq!(status.authorization_cutoff, Some(at(7).into()));
    assert_eq!(status.state_actor, "spiffe://legate.test/legate/operator/ada");
    assert_eq!(status.state_reason, "odd calls");
}

#[test]
fn only_going_down_cuts_off() {
    for (from, t, _) in TABLE {
        let mut agent = agent_in(from);
        agent.spec.as_mut().unwrap().expire_time = samples::at(100);
        apply(&mut agent, t, at(7), "a", "r").unwrap();
        let cut = agent.status.unwrap().authorization_cutoff.is_some();
        assert_eq!(cut, matches!(t, T::Suspend | T::Quarantine | T::Retire | T::Expire), "{from:?} {t:?}");
    }
}

#[test]
fn nobody_is_active_after_his_time() {
    let resumed = |from: AgentState, t: T, ends: Option<i64>| {
        let mut agent = agent_in(from);
        agent.spec.as_mut().unwrap().expire_time = ends.and_then(samples::at);
        apply(&mut agent, t, at(7), "a", "r").map_err(|e| e.why)
    };
    for (from, t) in [(Suspended, T::Resume), (Staged, T::Activate), (Expired, T::Resume)] {
        assert_eq!(resumed(from, t, Some(8)), Ok(()));
        assert_eq!(resumed(from, t, Some(7)), Err(Obstacle::TimeIsOver));
        assert_eq!(resumed(from, t, Some(i64::MAX)), Err(Obstacle::TimeIsOver));
    }
    assert_eq!(resumed(Suspended, T::Resume, None), Ok(()));
    assert_eq!(resumed(Expired, T::Resume, None), Err(Obstacle::NoExpireTime));
    // What goes down is never kept from it.
    assert_eq!(resumed(Active, T::Suspend, Some(7)), Ok(()));
}

#[test]
fn a_refusal_says_what_would_be_right() {
    let said = |state, t| apply(&mut agent_in(state), t, at(7), "a", "r").unwrap_err().to_string();
    assert_eq!(said(Suspended, T::Suspend), "the agent is SUSPENDED; to suspend it, it has to be ACTIVE");
    assert_eq!(said(Retired, T::Resume), "the agent is RETIRED; to resume it, it has to be SUSPENDED or EXPIRED");
    let e = revoke_credentials(&mut agent_in(Staged), at(7), "a", "r").unwrap_err();
    assert_eq!(e.to_string(), "the agent is STAGED; to revoke the credentials of it, it has to be ACTIVE");
}

#[test]
fn without_a_state_nothing_is_possible() {
    let mut unknown = agent_in(Active);
    unknown.status.as_mut().unwrap().state = 99;
    for agent in [samples::agent(), agent_in(Unspecified), unknown] {
        for t in T::ALL {
            assert!(apply(&mut agent.clone(), t, at(1), "a", "r").is_err());
        }
        assert!(revoke_credentials(&mut agent.clone(), at(1), "a", "r").is_err());
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(T),
    RevokeCredentials,
    SetExpireTime(Option<i64>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::sample::select(T::ALL.to_vec()).prop_map(Step::Take),
        1 => Just(Step::RevokeCredentials),
        1 => prop::option::of(0i64..100).prop_map(Step::SetExpireTime),
    ]
}

proptest! {
    /// Whatever is asked for, in whatever order, by a clock that also goes back: the agent does what the table says.
    #[test]
    fn does_as_the_model(first in prop::sample::select(vec![PendingApproval, Active]), steps in prop::collection::vec((step(), 0i64..100), 0..60)) {
        let mut agent = agent_in(first);
        // The model: state, version, cut-off in seconds.
        let (mut state, mut version, mut cutoff, mut ends) = (first, 1u64, None::<i64>, None::<i64>);
        for (step, now) in steps {
            let before = agent.clone();
            let (done, wanted) = match step {
                Step::SetExpireTime(to) => {
                    ends = to;
                    agent.spec.as_mut().unwrap().expire_time = to.and_then(samples::at);
                    continue;
                }
                Step::Take(t) => {
                    let may = |to: &AgentState| match (*to, ends) {
                        (Active, None) => state != Expired,
                        (Active, Some(ends)) => ends > now,
                        _ => true,
                    };
                    (apply(&mut agent, t, at(now), "actor", "reason"), expected(state, t).filter(may))
                }
                Step::RevokeCredentials => {
                    let wanted = (state == Active).then_some(Active);
                    (revoke_credentials(&mut agent, at(now), "actor", "reason"), wanted)
                }
            };
            prop_assert_eq!(done.is_ok(), wanted.is_some(), "{:?} at {} in {:?}", step, now, state);
            let Some(to) = wanted else {
                prop_assert_eq!(&agent, &before, "a refused step leaves no trace");
                continue;
            };
            prop_assert_ne!(state, Retired, "RETIRED is final");
            // It leaves ACTIVE or stands lower than before, or its credentials are revoked: cut off.
            let down = state == to || matches!(to, Quarantined | Retired | Expired) || (state, to) == (Active, Suspended);
            cutoff = if down { cutoff.max(Some(now)) } else { cutoff };
            (state, version) = (to, version + 1);

            let status = agent.status.clone().unwrap();
            prop_assert_eq!(status.state(), state);
            prop_assert_eq!(status.lifecycle_version, version);
            prop_assert_eq!(status.authorization_cutoff, cutoff.and_then(samples::at));
            prop_assert_eq!(status.state_time, samples::at(now));
            prop_assert_eq!((&*status.state_actor, &*status.state_reason), ("actor", "reason"));
            agent.status.clone_from(&before.status);
            prop_assert_eq!(&agent, &before, "only the status changes");
            agent.status = Some(status);
        }
    }
}

#[test]
fn an_agent_that_nobody_is_accountable_for_does_not_become_active() {
    for (from, step) in [(Staged, T::Activate), (Suspended, T::Resume), (Expired, T::Resume)] {
        let mut agent = agent_in(from);
        agent.spec.as_mut().unwrap().expire_time = samples::at(4_000_000_000);
        let flag = |agent: &mut wire::Agent, at| agent.status.as_mut().unwrap().orphaned_time = at;
        flag(&mut agent, samples::at(1));
        let refused = apply(&mut agent, step, at(10), "", "").unwrap_err();
        assert_eq!(refused.why, Obstacle::Orphaned);
        assert!(refused.to_string().contains("every sponsor of it has left"), "{refused}");
        assert_eq!(state_of(&agent), from);
        flag(&mut agent, None);
        apply(&mut agent, step, at(10), "", "").unwrap();
    }
    let mut agent = agent_in(Active);
    let status = agent.status.as_mut().unwrap();
    (status.orphaned_time, status.suspend_after) = (samples::at(1), samples::at(2));
    apply(&mut agent, T::Suspend, at(10), "", "").unwrap();
    assert!(agent.status.as_ref().unwrap().orphaned_time.is_some(), "the flag goes with a sponsor, not with a step");
    apply(&mut agent, T::Retire, at(10), "", "").unwrap();
    let status = agent.status.unwrap();
    assert_eq!((status.orphaned_time, status.suspend_after), (None, None));
}
