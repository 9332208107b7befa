//! Decisions are made again by Cedar's own authorizer, and a difference is told.

use std::sync::Arc;

use legate_wire::audit::Outcome;
use legate_wire::registry as wire;
use legate_wire::registry::PolicyMode::{Enforce, LogOnly};
use tokio::sync::mpsc;

use super::super::self_check::{Compared, compare, compare_all};
use crate::convert::Ask;
use crate::domain::authority::{Bench, Way};
use crate::domain::question::Value;
use crate::testing::*;

/// A namespace in which every kind of policy has something to say.
async fn stage() -> Stage {
    Stage::set_with(|mut all| {
        all.extend([
            group("readers", |spec| spec.agents = vec!["invoice-bot-1".into()]),
            policy(
                "grouped",
                Enforce,
                "forbid(principal in Group::\"readers\", action, resource == Invoice::\"apollo/secret\");",
            ),
            policy(
                "role",
                Enforce,
                "forbid(principal in Role::\"invoice-reader\", action in [Action::\"invoice:read\"], resource) when { \
                 resource.amount > 100 };",
            ),
            policy("odd", Enforce, "permit(principal is Agent, action, resource is Invoice) when { context.odd };"),
            policy(
                "vault",
                Enforce,
                "@approval(\"the treasurer\") forbid(principal, action, resource == Invoice::\"apollo/vault\");",
            ),
            policy("later", LogOnly, "forbid(principal, action, resource);"),
            agent(2, |agent| {
                if let Some(spec) = &mut agent.spec {
                    spec.environment = wire::Environment::Dev.into();
                }
            }),
        ]);
        all
    })
    .await
}

fn questions(stage: &Stage) -> Vec<Ask> {
    let amount = |n: i64| Value::Long(n);
    vec![
        stage.good().attribute("amount", amount(1)),
        stage.good().attribute("amount", amount(101)),
        stage.good().attribute("amount", Value::Text("many".into())),
        stage.good(),
        stage.good().attribute("amount", amount(1)).attribute("sealed", Value::Bool(true)),
        stage.good().attribute("amount", amount(1)).resource("apollo/secret"),
        stage.good().attribute("amount", amount(1)).resource("apollo/vault"),
        stage.good().action("invoice:list"),
        stage.asserted(agent_id(2)).action("invoice:list"),
    ]
}

#[tokio::test]
async fn every_decision_is_what_the_authorizer_says() {
    let mut stage = stage().await;
    let plain = Bench::going(Way::Plain);
    // The second time the agents are remembered; the third time one of them has become another.
    for round in 0..3 {
        if round == 2 {
            let moved = agent(1, |agent| {
                if let Some(spec) = &mut agent.spec {
                    spec.environment = wire::Environment::Test.into();
                }
            });
            stage.change(vec![(moved, false)]).await;
        }
        let mut words = Vec::new();
        for ask in questions(&stage) {
            let spoken = stage.ask(&enforcer("trusted"), ask).await;
            words.push(spoken.answer.word());
            let samples = stage.samples.as_mut().unwrap();
            let Ok(sample) = samples.try_recv() else {
                assert_eq!(spoken.answer.word(), "NOT_PERMITTED", "what no policy was asked about is not chosen");
                continue;
            };
            assert_eq!(compare(&stage.desk, &plain, &sample), Compared::Same, "{:?}", spoken.answer);
        }
        if round < 2 && !legate_planted::is(legate_planted::Bug::LostForbid) {
            let wanted = ["ALLOWED", "FORBIDDEN_BY_POLICY", "POLICY_ERROR", "POLICY_ERROR", "FORBIDDEN_BY_POLICY"];
            assert_eq!(words[..5], wanted);
            assert_eq!(words[5..7], ["FORBIDDEN_BY_POLICY", "APPROVAL_REQUIRED"]);
        }
    }
    assert_eq!(stage.desk.metrics.self_checks("left_out"), 0);
}

#[tokio::test]
async fn a_difference_is_counted_and_put_on_record() {
    let mut stage = stage().await;
    let ask = stage.good().attribute("amount", Value::Long(1));
    let allowed = stage.ask(&enforcer("invoices"), ask.clone()).await;
    let sealed = stage.ask(&enforcer("invoices"), ask.attribute("sealed", Value::Bool(true))).await;
    let samples = stage.samples.as_mut().unwrap();
    let (good, mut bad) = (samples.try_recv().unwrap(), samples.try_recv().unwrap());
    // As an engine would say it that has lost the forbid.
    bad.answer = allowed.answer;
    let (chosen, queue) = mpsc::channel(2);
    chosen.send(good).await.unwrap();
    chosen.send(bad).await.unwrap();
    drop(chosen);
    compare_all(Arc::clone(&stage.desk), queue, 0).await;
    let count = |result| stage.desk.metrics.self_checks(result);
    assert_eq!((count("same"), count("different")), (1, 1));
    let told: Vec<_> = stage.paper.events().into_iter().filter(|event| event.r#type == "decision.diverged").collect();
    let [event] = told.as_slice() else { panic!("one event: {told:?}") };
    assert_eq!((event.outcome(), event.reason_code.as_str()), (Outcome::Failure, "ALLOWED"));
    assert_eq!(event.details["decision_id"], sealed.id.to_string());
    assert_eq!(event.details["authorizer"], "FORBIDDEN_BY_POLICY");
    assert!(event.details["policies"].contains("policy:payments/sealed@1"), "{event:?}");
}

#[tokio::test]
async fn where_too_many_wait_a_decision_is_left_out_and_no_check_waits() {
    let stage = stage().await;
    let ask = stage.good().attribute("amount", Value::Long(1));
    // Nobody compares.
    for _ in 0..70 {
        assert_eq!(stage.word(ask.clone()).await, "ALLOWED");
    }
    assert_eq!(stage.desk.metrics.self_checks("left_out"), 6);
}

#[tokio::test]
async fn one_in_so_many_is_chosen() {
    for (one_in, of_nine) in [(0, 0), (1, 9), (4, 3)] {
        let (check, _samples) = crate::flow::SelfCheck::new(one_in);
        assert_eq!((0..9).filter(|_| check.is_due()).count(), of_nine, "one in {one_in}");
    }
}
