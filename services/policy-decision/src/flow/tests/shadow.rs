//! A policy in LOG_ONLY changes nothing, and what it would have changed is what it does change once it decides.

use legate_ids::Name;
use legate_wire::registry::PolicyMode::{self, Enforce, LogOnly};

use super::super::{Shadow, shadow};
use super::lineage;
use crate::domain::shadow::Would;
use crate::testing::*;

const TRIALS: [&str; 8] = [
    "forbid(principal, action, resource);",
    "forbid(principal, action, resource) when { context.nonsense };",
    "permit(principal, action, resource) when { context.nonsense };",
    "permit(principal, action, resource);",
    "permit(principal, action == Action::\"invoice:read\", resource); forbid(principal, action, resource) when { resource has sealed };",
    "forbid(principal, action, resource) when { resource has nothing };",
    "permit(principal, action == Action::\"invoice:write\", resource);",
    "@approval(\"of a person\") forbid(principal, action, resource);",
];

fn ask(namespace: &str, name: Option<&str>) -> Shadow {
    let name = name.map(|name| Name::parse(name).unwrap());
    Shadow { namespace: Name::parse(namespace).unwrap(), name }
}

/// What a decision is with the trial in this mode, and what is told of the trial.
async fn decided(stage: &mut Stage, trial: &str, mode: PolicyMode) -> (bool, Vec<(String, Would)>) {
    stage.change(vec![(policy("trial", mode, trial), false)]).await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    let told = spoken.answer.shadow.iter().map(|flip| (flip.policy.label.name.to_string(), flip.would)).collect();
    (spoken.answer.denied.is_none(), told)
}

#[tokio::test]
async fn what_is_told_of_a_trial_is_what_it_does_once_it_decides() {
    // With a permit in force, with none, and with a forbid.
    for others in ["permit(principal, action, resource);", "permit(principal, action, resource) when { false };"] {
        for forbids in [false, true] {
            let mut stage = Stage::set().await;
            stage.change(vec![(policy("production", Enforce, others), false)]).await;
            if forbids {
                let closed = "forbid(principal, action, resource);";
                stage.change(vec![(policy("closed", Enforce, closed), false)]).await;
            }
            for trial in TRIALS {
                let (enforced, told) = decided(&mut stage, trial, Enforce).await;
                assert!(told.is_empty(), "nothing is in LOG_ONLY: {told:?}");
                stage.change(vec![(policy("trial", Enforce, trial), true)]).await;
                let without = stage.ask(&enforcer("invoices"), stage.good()).await.answer.denied.is_none();
                let (logged, told) = decided(&mut stage, trial, LogOnly).await;
                assert_eq!(logged, without, "a policy in LOG_ONLY changed a decision: {trial}");
                let expected = match (logged, enforced) {
                    (true, false) => vec![("trial".to_owned(), Would::Deny)],
                    (false, true) => vec![("trial".to_owned(), Would::Allow)],
                    _ => Vec::new(),
                };
                assert_eq!(told, expected, "{others} {forbids} {trial}");
            }
        }
    }
}

/// Whether the agent may, and what is told of the trial.
async fn of_agent(stage: &Stage, n: u8) -> (bool, Vec<Would>) {
    let ask = stage.asserted(agent_id(n)).action("invoice:read").resource("apollo/7");
    let answer = stage.ask(&operator(), ask).await.answer;
    (answer.denied.is_none(), answer.shadow.iter().map(|flip| flip.would).collect())
}

#[tokio::test]
async fn what_a_trial_would_do_to_whoever_was_made_is_what_it_does() {
    let first = format!("forbid(principal == Agent::\"{}\", action, resource);", agent_id(1));
    let third = format!("permit(principal == Agent::\"{}\", action, resource);", agent_id(3));
    let fails =
        format!("forbid(principal == Agent::\"{}\", action, resource) when {{ principal.nothing }};", agent_id(2));
    let trials = [first.as_str(), &third, &fails, "permit(principal, action, resource);"];
    for own_grant_only in [false, true] {
        let mut stage = Stage::set_with(|mut all| {
            all.extend([lineage::namespace(own_grant_only), lineage::made(2, &[1]), lineage::made(3, &[2, 1])]);
            all
        })
        .await;
        let bound = binding(|b| b.agents = [1, 2, 3].map(|n| format!("invoice-bot-{n}")).into());
        stage.change(vec![(bound, false)]).await;
        for others in
            ["permit(principal, action, resource);", "permit(principal, action, resource) when { false };", &third]
        {
            stage.change(vec![(policy("production", Enforce, others), false)]).await;
            for trial in trials {
                for n in 1..=3 {
                    stage.change(vec![(policy("trial", Enforce, trial), false)]).await;
                    let (enforced, _) = of_agent(&stage, n).await;
                    stage.change(vec![(policy("trial", LogOnly, trial), false)]).await;
                    let (logged, told) = of_agent(&stage, n).await;
                    let expected = match (logged, enforced) {
                        (true, false) => vec![Would::Deny],
                        (false, true) => vec![Would::Allow],
                        _ => Vec::new(),
                    };
                    assert_eq!(told, expected, "agent {n}, {own_grant_only}: {others} {trial}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_would_have_changed_is_counted_recorded_and_shown_with_examples() {
    let mut stage = Stage::set().await;
    stage
        .change(vec![
            (policy("closes", LogOnly, "forbid(principal, action, resource);"), false),
            (policy("idle", LogOnly, "forbid(principal, action == Action::\"invoice:write\", resource);"), false),
        ])
        .await;
    let told = shadow(&stage.desk, &operator(), ask("payments", None)).await.unwrap();
    assert!(told.counts.is_empty(), "nothing was decided yet: {told:?}");
    let mut ids = Vec::new();
    for _ in 0..25 {
        let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
        assert_eq!(spoken.answer.word(), "ALLOWED");
        ids.push(spoken.id.to_string());
    }
    // What no policy is asked about is held against none.
    assert_eq!(stage.word(stage.good().action("invoice:delete")).await, "NOT_PERMITTED");
    let told = shadow(&stage.desk, &operator(), ask("payments", None)).await.unwrap();
    let counts: Vec<_> =
        told.counts.iter().map(|c| (c.policy.as_str(), c.decisions, c.would_allow, c.would_deny)).collect();
    assert_eq!(counts, [("payments/closes", 25, 0, 25), ("payments/idle", 25, 0, 0)]);
    let shown: Vec<&str> = told.counts[0].examples.iter().map(|example| example.decision_id.as_str()).collect();
    let newest: Vec<&str> = ids.iter().rev().take(20).map(String::as_str).collect();
    assert_eq!(shown, newest);
    assert_eq!(stage.desk.metrics.flips("payments/closes", "deny"), 25);
    let record = stage
        .paper
        .events()
        .into_iter()
        .rfind(|event| event.r#type == "decision.made" && event.reason_code == "ALLOWED");
    assert_eq!(record.unwrap().details["log_only_would_deny"], "payments/closes@1");
    let one = shadow(&stage.desk, &operator(), ask("payments", Some("idle"))).await.unwrap();
    assert_eq!(one.counts.len(), 1);

    // A new text begins anew; one that decides, or is gone, is told of no more.
    let next = "forbid(principal, action, resource) when { true };";
    let mut second = policy("closes", LogOnly, next);
    second.metadata_mut().unwrap().version = 2;
    stage.change(vec![(second, false)]).await;
    stage.word(stage.good()).await;
    let told = shadow(&stage.desk, &operator(), ask("payments", Some("closes"))).await.unwrap();
    assert_eq!((told.counts[0].decisions, told.counts[0].version), (1, 2));
    stage.change(vec![(policy("closes", Enforce, next), false)]).await;
    assert!(shadow(&stage.desk, &operator(), ask("payments", Some("closes"))).await.unwrap().counts.is_empty());

    // Whoever may not read the namespace learns nothing.
    let refused = shadow(&stage.desk, &operator(), ask("treasury", None)).await.unwrap_err();
    assert!(refused.to_string().starts_with("OPERATOR_NOT_PERMITTED: "), "{refused}");
}
