//! Questions over the record: who acted for whom through whom, with the proof, as it happens, and how often.

use std::time::Duration;

use crate::house::{EPOCH, House, send};
use bytes::Bytes;
use legate_clock::Timestamp;
use legate_ids::AgentId;
use legate_merkle::{Hash, leaf_hash, verify_inclusion};
use legate_rpc::Told;
use legate_wire::audit as wire;
use prost::Message as _;

fn agent(n: u8) -> String {
    AgentId::from_parts(1, [n; 10]).to_string()
}

/// Agent 1 made 2, which made 3; 4 is nobody's. Each acts for Ada and for Grace and for itself, hour by hour.
fn lives(house: &House) -> Vec<Bytes> {
    let mut events = Vec::new();
    let mut seq = 0;
    let mut tell = |event: wire::AuditEvent| {
        seq += 1;
        let base = house.event(seq);
        let time = event.time.or(base.time);
        let event = wire::AuditEvent { event_id: base.event_id, emitter: base.emitter, time, ..event };
        events.push(event.encode_to_vec().into());
    };
    for (made, by) in [(2, 1), (3, 2)] {
        let details = [("made_by".to_owned(), agent(by))].into();
        tell(wire::AuditEvent {
            r#type: "agent.created".into(),
            namespace: "payments".into(),
            agent_id: agent(made),
            details,
            ..wire::AuditEvent::default()
        });
    }
    let start = house.clock.now().secs() / 3_600 * 3_600 - 7_200;
    for n in 0..60_i64 {
        let who = u8::try_from(n % 4).unwrap() + 1;
        let subject = ["user:ada@example.com", "user:grace@example.com", ""][usize::try_from(n % 3).unwrap()];
        let spiffe_id = format!("spiffe://example.org/ns/payments/agent/{}", agent(who));
        tell(wire::AuditEvent {
            time: Some(Timestamp::from_secs(start + n * 60).into()),
            r#type: "decision.made".into(),
            namespace: "payments".into(),
            agent_id: agent(who),
            subject: subject.into(),
            chain: if subject.is_empty() { Vec::new() } else { vec![spiffe_id] },
            action: "invoice:read".into(),
            reason: format!("number {n}"),
            outcome: if n % 5 == 0 { wire::Outcome::Denied.into() } else { wire::Outcome::Success.into() },
            resource: Some(wire::EventResource { r#type: "Invoice".into(), id: n.to_string(), ..Default::default() }),
            ..wire::AuditEvent::default()
        });
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_done_for_somebody_through_an_agent_and_what_it_made_is_one_question() {
    let house = House::build();
    let running = house.raise().await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    let told = send(&mut registry, EPOCH, 1, lives(&house)).await.unwrap();
    let first = told.first_leaf_index.unwrap();
    let mut alice = house.query(&running, &house.operator("alice"));
    let base = || wire::QueryEventsRequest {
        subject: "user:ada@example.com".into(),
        via_agent_id: agent(1),
        indexed_at_least: first + 62,
        ..wire::QueryEventsRequest::default()
    };
    let subjects = |events: &[wire::IndexedEvent]| {
        let of = |e: &wire::IndexedEvent| e.event.clone().unwrap();
        assert!(events.iter().all(|e| of(e).subject == "user:ada@example.com"));
        events.iter().map(|e| of(e).agent_id).collect::<std::collections::BTreeSet<_>>()
    };
    let own = alice.query_events(base()).await.unwrap().into_inner();
    assert_eq!(subjects(&own.events), [agent(1)].into());
    let ask = wire::QueryEventsRequest {
        include_descendants: true,
        with_proofs: true,
        order: wire::EventOrder::OldestFirst.into(),
        ..base()
    };
    let all = alice.query_events(ask.clone()).await.unwrap().into_inner();
    assert_eq!(subjects(&all.events), [agent(1), agent(2), agent(3)].into());
    assert_eq!(all.events.len(), 15);
    assert!(all.events.is_sorted_by_key(|e| e.leaf_index));
    // Each comes with its proof, against the one checkpoint.
    let checkpoint = house.open_note(&all.checkpoint);
    assert_eq!(checkpoint.size, all.tree_size);
    for one in &all.events {
        let proof: Vec<Hash> = one.proof.iter().map(|h| h.as_slice().try_into().unwrap()).collect();
        verify_inclusion(one.leaf_index, checkpoint.size, &leaf_hash(&one.leaf), &proof, &checkpoint.root).unwrap();
        assert_eq!(wire::AuditEvent::decode(one.leaf.as_slice()).ok(), one.event);
    }
    // Page by page it is the same, both ways, and a token of one order is none of the other.
    for order in [wire::EventOrder::OldestFirst, wire::EventOrder::NewestFirst] {
        let mut ask = wire::QueryEventsRequest { page_size: 4, order: order.into(), with_proofs: false, ..ask.clone() };
        let mut leaves = Vec::new();
        loop {
            let page = alice.query_events(ask.clone()).await.unwrap().into_inner();
            leaves.extend(page.events.iter().map(|e| e.leaf_index));
            if page.next_page_token.is_empty() {
                break;
            }
            ask.page_token = page.next_page_token;
            let other = wire::QueryEventsRequest { order: 3 - ask.order, ..ask.clone() };
            let refused = alice.query_events(other).await.unwrap_err();
            assert_eq!(Told::from_status(&refused).reason, "PAGE_TOKEN_INVALID");
        }
        if order == wire::EventOrder::NewestFirst {
            leaves.reverse();
        }
        assert_eq!(leaves, all.events.iter().map(|e| e.leaf_index).collect::<Vec<_>>());
    }
    let filter = format!("outcome = denied AND (agent_id = {} OR agent_id = {})", agent(2), agent(4));
    let denied = wire::QueryEventsRequest { filter, ..wire::QueryEventsRequest::default() };
    let denied = alice.query_events(denied).await.unwrap().into_inner();
    assert!(denied.events.len() == 6 && denied.events.iter().all(|e| e.event.as_ref().unwrap().outcome == 2));
    let ask = wire::QueryEventsRequest { text: "number 4".into(), ..wire::QueryEventsRequest::default() };
    let held = alice.query_events(ask).await.unwrap().into_inner();
    assert_eq!(held.events.len(), 11, "4 and 40 to 49");

    for (field, ask) in [
        ("filter", wire::QueryEventsRequest { filter: "colour = red".into(), ..base() }),
        ("filter", wire::QueryEventsRequest { filter: "outcome = 'x' OR 1=1 --".into(), ..base() }),
        ("text", wire::QueryEventsRequest { text: "ab".into(), ..base() }),
        ("text", wire::QueryEventsRequest { text: "x".repeat(129), ..base() }),
        ("order", wire::QueryEventsRequest { order: 9, ..base() }),
        ("page_size", wire::QueryEventsRequest { page_size: 201, with_proofs: true, ..base() }),
        (
            "include_descendants",
            wire::QueryEventsRequest { include_descendants: true, ..wire::QueryEventsRequest::default() },
        ),
    ] {
        let told = Told::from_status(&alice.query_events(ask).await.unwrap_err());
        assert_eq!((told.reason.as_str(), told.violations[0].0.as_str()), ("INVALID_ARGUMENT", field));
    }

    let ask = wire::ListUsageRequest { indexed_at_least: first + 62, ..wire::ListUsageRequest::default() };
    let used = alice.list_usage(ask.clone()).await.unwrap().into_inner();
    assert_eq!(used.usage.iter().map(|u| u.count).sum::<u64>(), 60);
    let by_outcome = wire::ListUsageRequest { group_by: vec![wire::UsageField::Outcome.into()], ..ask.clone() };
    let by_outcome = alice.list_usage(by_outcome).await.unwrap().into_inner().usage;
    assert_eq!(by_outcome.iter().map(|u| (u.outcome, u.count)).collect::<Vec<_>>(), [(1, 48), (2, 12)]);
    let family = wire::ListUsageRequest {
        agent_id: agent(2),
        include_descendants: true,
        period: wire::UsagePeriod::Hour.into(),
        group_by: vec![wire::UsageField::Agent.into()],
        ..ask.clone()
    };
    let family = alice.list_usage(family).await.unwrap().into_inner().usage;
    assert!(family.len() == 2 && family.iter().all(|u| u.start_time.is_some() && u.count == 15));
    let cut = alice.list_usage(wire::ListUsageRequest { page_size: 1, ..ask }).await.unwrap().into_inner();
    assert!(cut.is_cut && cut.usage.len() == 1);
    running.shutdown().await;
    house.audit(None).unwrap();
}

async fn next(news: &mut tonic::Streaming<wire::TailEventsResponse>) -> Result<wire::TailEventsResponse, Told> {
    let said = tokio::time::timeout(Duration::from_secs(20), news.message()).await.unwrap();
    said.map(Option::unwrap).map_err(|status| Told::from_status(&status))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_log_sees_each_event_once_and_goes_on_where_it_was() {
    let house = House::build();
    let running = house.raise().await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    house.append(&mut registry, 1, 5).await.unwrap();
    let mut alice = house.query(&running, &house.operator("alice"));
    let query = wire::QueryEventsRequest { agent_id: "agt_1".into(), ..wire::QueryEventsRequest::default() };
    let ask = wire::TailEventsRequest { query: Some(query.clone()), resume_token: String::new() };
    let until = wire::QueryEventsRequest { indexed_at_least: 5, ..wire::QueryEventsRequest::default() };
    alice.query_events(until).await.unwrap();
    let mut news = alice.tail_events(ask.clone()).await.unwrap().into_inner();
    let mut seqs = Vec::new();
    let seq = |e: &wire::IndexedEvent| e.event.as_ref().unwrap().emitter.as_ref().unwrap().seq;
    house.append(&mut registry, 6, 300).await.unwrap();
    let mut token = String::new();
    while seqs.last() != Some(&304) {
        let said = next(&mut news).await.unwrap();
        seqs.extend(said.events.iter().map(seq));
        token = said.resume_token;
    }
    let wanted: Vec<u64> = (6..=305).filter(|seq| seq % 3 == 1).collect();
    assert_eq!(seqs, wanted);
    drop(news);
    // What came in between is not lost.
    house.append(&mut registry, 306, 6).await.unwrap();
    let resumed = wire::TailEventsRequest { resume_token: token.clone(), ..ask.clone() };
    let mut news = alice.tail_events(resumed.clone()).await.unwrap().into_inner();
    let mut later = Vec::new();
    while later.len() < 2 {
        later.extend(next(&mut news).await.unwrap().events.iter().map(seq));
    }
    assert_eq!(later, [307, 310]);
    // Nothing happens, and it says so.
    let quiet = next(&mut news).await.unwrap();
    assert!(quiet.events.is_empty() && quiet.indexed_through >= 312 && !quiet.resume_token.is_empty());

    let mut bob = house.query(&running, &house.operator("bob"));
    let another = wire::TailEventsRequest { query: None, resume_token: token.clone() };
    for refused in [bob.tail_events(resumed).await, alice.tail_events(another).await] {
        assert_eq!(Told::from_status(&refused.unwrap_err()).reason, "PAGE_TOKEN_INVALID");
    }
    let paged = wire::QueryEventsRequest { page_size: 5, ..query };
    let paged = wire::TailEventsRequest { query: Some(paged), resume_token: String::new() };
    let told = Told::from_status(&alice.tail_events(paged).await.unwrap_err());
    assert_eq!(told.violations[0].0, "query.page_size");
    let mut lines = Vec::new();
    let refused = loop {
        match bob.tail_events(wire::TailEventsRequest::default()).await {
            Ok(line) => lines.push(line),
            Err(refused) => break Told::from_status(&refused),
        }
    };
    assert_eq!((lines.len(), refused.reason.as_str()), (8, "AUDIT_TAILS_TOO_MANY"));
    // The service ends though they do not.
    running.shutdown().await;
    let ended = loop {
        if let Err(told) = next(&mut news).await {
            break told;
        }
    };
    assert!(matches!(ended.reason.as_str(), "AUDIT_STOPPING"), "{ended:?}");
    assert!(!ended.metadata["resume_token"].is_empty());
    house.audit(None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_questions_is_a_few_events_that_add_up() {
    let house = House::build();
    let running = house.raise().await;
    let mut alice = house.query(&running, &house.operator("alice"));
    for n in 0..200 {
        let agent_id = format!("agt_{}", n % 3);
        let ask = wire::QueryEventsRequest { agent_id, indexed_at_least: 1, ..Default::default() };
        alice.query_events(ask).await.unwrap();
    }
    running.shutdown().await;
    // All of them are told by the end.
    let running = house.raise().await;
    let mut bob = house.query(&running, &house.operator("bob"));
    let ask = wire::QueryEventsRequest { r#type: "log.queried".into(), page_size: 1_000, ..Default::default() };
    let first = wire::QueryEventsRequest { indexed_at_least: 1, ..ask.clone() };
    let size = bob.query_events(first).await.unwrap().into_inner().log_size;
    let page = bob.query_events(wire::QueryEventsRequest { indexed_at_least: size, ..ask }).await.unwrap();
    let events = page.into_inner().events.into_iter().filter_map(|e| e.event);
    let hers: Vec<_> = events.filter(|e| e.actor.ends_with("/operator/alice")).collect();
    let times = |e: &wire::AuditEvent| e.details.get("times").map_or(1, |times| times.parse::<u64>().unwrap());
    assert_eq!(hers.iter().map(times).sum::<u64>(), 200);
    assert!(hers.len() < 100, "{}", hers.len());
    running.shutdown().await;
}
