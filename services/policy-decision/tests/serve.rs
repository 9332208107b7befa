//! The service as it is started, over real mutual TLS, between a registry and a collector that tests play.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod authzen;
mod envoy;
mod house;

use house::{House, word};
use legate_rpc::Told;
use legate_wire::policy as wire;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn answers_records_ships_and_says_how_the_last_run_ended() {
    let house = House::build().await;
    let running = house.raise().await;
    let mut backend = house.decisions(&running, &house.enforcer("invoices"));
    house.until_fresh(&mut backend).await;
    assert_eq!(word(&mut backend, house.question("apollo/1")).await, "ALLOWED");
    assert_eq!(word(&mut backend, house.question("zeus/1")).await, "BINDING_NARROWED");
    let events = house.collected(|events| events.iter().any(|e| e.reason_code == "BINDING_NARROWED")).await;
    let first_epoch = events[0].emitter.clone().unwrap().epoch;
    // Turned away just before the end: recorded all the same, and nothing comes after `spool.closed`.
    let agent = house.agent();
    house.decisions(&running, &agent).evaluate(house.question("apollo/1")).await.unwrap_err();
    running.shutdown().await;
    let events = house.collected(|events| events.last().is_some_and(|e| e.r#type == "spool.closed")).await;
    assert_eq!(events[events.len() - 2].r#type, "access.refused");

    let running = house.raise().await;
    let events = house.collected(|events| events.iter().filter(|e| e.r#type == "spool.opened").count() == 2).await;
    let last = events.last().unwrap();
    assert_eq!(last.details["previous_epoch"], first_epoch);
    assert_eq!(last.details["previous_ended_clean"], "true");
    let of_first: Vec<_> =
        events.iter().filter_map(|e| e.emitter.as_ref()).filter(|e| e.epoch == first_epoch).collect();
    let numbers: Vec<_> = of_first.iter().map(|e| e.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(last.details["previous_last_seq"], numbers.len().to_string());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lets_in_whom_the_table_names_and_nobody_else() {
    let house = House::build().await;
    let running = house.raise().await;
    let mut backend = house.decisions(&running, &house.enforcer("invoices"));
    house.until_fresh(&mut backend).await;

    for (who, code, reason) in [
        (house.agent(), Code::PermissionDenied, "ACCESS_DENIED"),
        (house.service("registry"), Code::PermissionDenied, "ACCESS_DENIED"),
        (house.service("credential-issuer"), Code::PermissionDenied, "ACCESS_DENIED"),
        (house.enforcer("undeclared"), Code::PermissionDenied, "CALLER_UNKNOWN"),
        (legate_mtls::Identity::anonymous(), Code::Unauthenticated, "UNAUTHENTICATED"),
    ] {
        let refused = house.decisions(&running, &who).evaluate(house.question("apollo/1")).await.unwrap_err();
        let told = Told::from_status(&refused);
        assert_eq!((refused.code(), told.reason.as_str()), (code, reason));
    }
    let ask = || wire::AuthorizeIssuanceRequest {
        agent_id: house.agent_id(),
        audience: house::AUDIENCE.into(),
        ..wire::AuthorizeIssuanceRequest::default()
    };
    for who in [house.operator(), house.enforcer("invoices"), house.agent(), house.service("registry")] {
        let refused = house.issuance(&running, &who).authorize_issuance(ask()).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "ACCESS_DENIED");
    }
    let answer = house.issuance(&running, &house.service("credential-issuer")).authorize_issuance(ask()).await.unwrap();
    assert!(answer.into_inner().allowed);

    let mut empty = wire::EvaluateBatchRequest::default();
    let refused = backend.evaluate_batch(empty.clone()).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "QUESTION_INVALID");
    empty.evaluations = vec![house.question("apollo/1"), house.question("apollo/2\n")];
    let refused = backend.evaluate_batch(empty.clone()).await.unwrap_err();
    let told = Told::from_status(&refused);
    assert_eq!(told.reason, "QUESTION_INVALID");
    assert_eq!(told.violations[0].0, "evaluations[1].resource.id");
    empty.evaluations[1] = house.question("zeus/1");
    let answers = backend.evaluate_batch(empty).await.unwrap().into_inner().evaluations;
    let words: Vec<_> = answers.iter().map(|a| a.reason_code.as_str()).collect();
    assert_eq!(words, ["ALLOWED", "BINDING_NARROWED"]);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enforcement_point_taken_back_is_cut_off_and_does_not_come_back() {
    let house = House::build().await;
    let running = house.raise().await;
    let mut backend = house.decisions(&running, &house.enforcer("invoices"));
    house.until_fresh(&mut backend).await;
    let connections = running.serving().connections();
    assert_eq!(connections.len(), 1);
    house.take_back_point("invoices");
    house.until("the connection is cut", || connections.is_empty()).await;
    // A call that the cut connection ends is no refusal; the client has yet to hear of the end.
    let refused = loop {
        let told = Told::from_status(&backend.evaluate(house.question("apollo/1")).await.unwrap_err());
        if !told.reason.is_empty() {
            break told.reason;
        }
    };
    assert_eq!(refused, "CALLER_UNKNOWN");
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_is_heard_within_a_second() {
    let house = House::build().await;
    let running = house.raise().await;
    let mut backend = house.decisions(&running, &house.enforcer("invoices"));
    house.until_fresh(&mut backend).await;
    let revision = house.suspend();
    let start = std::time::Instant::now();
    let mut question = house.question("apollo/1");
    question.at_least_revision = revision;
    assert_eq!(word(&mut backend, question).await, "AGENT_SUSPENDED");
    assert!(start.elapsed() < std::time::Duration::from_secs(1), "{:?}", start.elapsed());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_without_a_registry_and_denies() {
    let house = House::build().await;
    let mut config = house.config();
    config.registry = "https://127.0.0.1:9".into();
    let running = house.raise_with(config).await;
    let mut backend = house.decisions(&running, &house.enforcer("invoices"));
    let answer = backend.evaluate(house.question("apollo/1")).await.unwrap().into_inner();
    assert_eq!(answer.reason_code, "STALE");
    assert_eq!(answer.decision(), wire::Decision::Deny);
    assert_eq!(answer.denial(), wire::Denial::Undecided);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_configuration_that_would_promise_less() {
    let house = House::build().await;
    let mut config = house.config();
    config.decision.staleness_ms = 60_000;
    let refused = house.try_raise(config).await.unwrap_err().to_string();
    assert!(refused.contains("staleness_ms"), "{refused}");
}
