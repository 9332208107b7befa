//! Who reads is on record: nobody hides a question in a flood of others, and who is refused is there as well.

use std::collections::BTreeSet;
use std::time::Duration;

use legate_boot::Running;
use legate_rpc::Told;
use legate_wire::audit as wire;

use crate::house::House;

const LONG: Duration = Duration::from_secs(60);

/// What is on record of alice's reads of this kind, as soon as it is what is waited for.
async fn on_record(
    house: &House,
    running: &Running,
    kind: &str,
    is_it: impl Fn(&[wire::AuditEvent]) -> bool,
) -> Vec<wire::AuditEvent> {
    let mut bob = house.query(running, &house.operator("bob"));
    let deadline = tokio::time::Instant::now() + LONG;
    loop {
        let ask = wire::QueryEventsRequest {
            r#type: kind.into(),
            actor: house.operator("alice").spiffe_id().unwrap().to_string(),
            page_size: 1_000,
            ..Default::default()
        };
        let found = bob.query_events(ask).await.unwrap().into_inner().events;
        let found: Vec<wire::AuditEvent> = found.into_iter().filter_map(|one| one.event).collect();
        if is_it(&found) {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_floods_the_record_first_hides_nothing_in_it() {
    let house = House::build();
    let running = house.raise().await;
    let mut alice = house.query(&running, &house.operator("alice"));
    let about = |n: usize| wire::QueryEventsRequest { agent_id: format!("agt_{n}"), ..Default::default() };
    for n in 0..100 {
        alice.query_events(about(n)).await.unwrap();
    }
    let hidden = wire::QueryEventsRequest { namespace: "payments".into(), ..about(4_711) };
    alice.query_events(hidden).await.unwrap();
    let is_there =
        |events: &[wire::AuditEvent]| events.iter().any(|event| event.details["asked.agent_id"] == "agt_4711");
    let found = on_record(&house, &running, "log.queried", is_there).await;
    assert!(found.iter().any(|event| event.namespace == "payments"), "{found:?}");
    running.shutdown().await;
    // By the end all of them are there, each with its question.
    let running = house.raise().await;
    let whole = |events: &[wire::AuditEvent]| {
        let asked: BTreeSet<&str> = events.iter().map(|event| event.details["asked.agent_id"].as_str()).collect();
        asked.len() == 101
    };
    on_record(&house, &running, "log.queried", whole).await;
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_read_is_refused_for_is_on_record() {
    let house = House::build();
    let running = house.raise().await;
    let (mut alice, mut bob) =
        (house.query(&running, &house.operator("alice")), house.query(&running, &house.operator("bob")));
    let mut registry = house.ingest(&running, &house.service("registry"));
    house.append(&mut registry, 1, 30).await.unwrap();
    let ask = || wire::QueryEventsRequest { indexed_at_least: 30, page_size: 5, ..Default::default() };
    let page_token = bob.query_events(ask()).await.unwrap().into_inner().next_page_token;
    let refused = alice.query_events(wire::QueryEventsRequest { page_token, ..ask() }).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "PAGE_TOKEN_INVALID");
    let mut prover = house.proof(&running, &house.operator("alice"));
    let far = wire::ProveInclusionRequest { leaf_index: 1_000_000, ..Default::default() };
    prover.prove_inclusion(far).await.unwrap_err();
    let reasons = |events: &[wire::AuditEvent]| {
        let all: BTreeSet<(String, String)> =
            events.iter().map(|event| (event.details["method"].clone(), event.reason_code.clone())).collect();
        let wanted = [("QueryEvents", "PAGE_TOKEN_INVALID"), ("ProveInclusion", "AUDIT_NOT_IN_TREE")];
        wanted.iter().all(|(method, reason)| all.contains(&((*method).to_owned(), (*reason).to_owned())))
    };
    let found = on_record(&house, &running, "log.read_refused", reasons).await;
    assert!(found.iter().all(|event| event.outcome() == wire::Outcome::Denied));
    running.shutdown().await;
}
