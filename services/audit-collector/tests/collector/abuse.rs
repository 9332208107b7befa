//! What must be refused, each with its reason, and the log is as it was.

use std::time::Duration;

use crate::house::{EPOCH, House, send};
use bytes::Bytes;
use legate_mtls::Identity;
use legate_rpc::Told;
use legate_wire::audit as wire;
use prost::Message as _;
use tonic::Code;

fn bytes(event: &wire::AuditEvent) -> Bytes {
    event.encode_to_vec().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_lies_is_refused_with_its_reason_and_nothing_behind_it_is_recorded() {
    let house = House::build();
    let running = house.raise().await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    house.append(&mut registry, 1, 10).await.unwrap();
    let good = |seq| bytes(&house.event(seq));
    let bent = |seq, bend: &dyn Fn(&mut wire::AuditEvent)| {
        let mut event = house.event(seq);
        bend(&mut event);
        bytes(&event)
    };
    let issuer = house.service_id("credential-issuer");
    let forged = bent(11, &|e| e.emitter.as_mut().unwrap().spiffe_id = issuer.clone());
    let ahead = house.clock.now().plus(Duration::from_secs(301));
    let other = legate_ids::EventId::from_parts(10, [9; 10]).to_string();
    let cases: Vec<(&str, &str, u64, Vec<Bytes>, &str)> = vec![
        ("forged producer", EPOCH, 11, vec![forged], "AUDIT_PRODUCER_MISMATCH"),
        ("no emitter", EPOCH, 11, vec![bent(11, &|e| e.emitter = None)], "AUDIT_PRODUCER_MISMATCH"),
        ("wrong number", EPOCH, 11, vec![good(12)], "AUDIT_EVENT_INVALID"),
        ("wrong order", EPOCH, 11, vec![good(12), good(11)], "AUDIT_EVENT_INVALID"),
        ("another epoch", "e2", 1, vec![good(1)], "AUDIT_EVENT_INVALID"),
        ("another event", EPOCH, 10, vec![bent(10, &|e| e.event_id = other.clone()), good(11)], "AUDIT_EVENTS_DIFFER"),
        ("gap", EPOCH, 12, vec![good(12)], "AUDIT_SEQUENCE_GAP"),
        ("future", EPOCH, 11, vec![bent(11, &|e| e.time = Some(ahead.into()))], "AUDIT_TIME_IN_FUTURE"),
        ("no time", EPOCH, 11, vec![bent(11, &|e| e.time = None)], "AUDIT_EVENT_INVALID"),
        ("no id", EPOCH, 11, vec![bent(11, &|e| e.event_id.clear())], "AUDIT_EVENT_INVALID"),
        ("61 KiB", EPOCH, 11, vec![bent(11, &|e| e.reason = "x".repeat(61 << 10))], "AUDIT_EVENT_TOO_LARGE"),
        ("10 MiB", EPOCH, 11, vec![bent(11, &|e| e.reason = "x".repeat(10 << 20))], "AUDIT_EVENT_TOO_LARGE"),
        ("garbage", EPOCH, 11, vec![Bytes::from_static(&[0xff; 9])], "AUDIT_EVENT_INVALID"),
        ("empty event", EPOCH, 11, vec![Bytes::new()], "AUDIT_PRODUCER_MISMATCH"),
        ("no events", EPOCH, 11, vec![], "INVALID_ARGUMENT"),
        ("too many", EPOCH, 1, (1..=1_025).map(good).collect(), "INVALID_ARGUMENT"),
        ("number 0", EPOCH, 0, vec![good(0)], "INVALID_ARGUMENT"),
        ("number without end", EPOCH, u64::MAX, vec![good(u64::MAX)], "INVALID_ARGUMENT"),
        ("no epoch", "", 11, vec![good(11)], "INVALID_ARGUMENT"),
        ("odd epoch", "e/1", 11, vec![good(11)], "INVALID_ARGUMENT"),
        ("long epoch", &"e".repeat(65), 11, vec![good(11)], "INVALID_ARGUMENT"),
    ]
    .into_iter()
    .map(|(what, epoch, first, events, reason)| (what, &*epoch.to_owned().leak(), first, events, reason))
    .collect();
    for (what, epoch, first, events, reason) in cases {
        let told = Told::from_status(&send(&mut registry, epoch, first, events).await.unwrap_err());
        assert_eq!(told.reason, reason, "{what}: {}", told.message);
        assert!(!told.cure.is_empty() && !told.message.is_empty(), "{what}");
        if reason == "AUDIT_SEQUENCE_GAP" {
            assert_eq!(told.metadata["expected_seq"], "11");
        }
    }
    // Each kind of it is on record, and an alert about whoever offered it.
    let wanted = [
        "AUDIT_PRODUCER_MISMATCH",
        "AUDIT_EVENT_INVALID",
        "AUDIT_EVENTS_DIFFER",
        "AUDIT_SEQUENCE_GAP",
        "AUDIT_TIME_IN_FUTURE",
        "AUDIT_EVENT_TOO_LARGE",
    ];
    let (mut alice, mut records) =
        (house.alerts(&running, &house.operator("alice")), house.query(&running, &house.operator("alice")));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let ask = wire::ListAlertsRequest { r#type: wire::AlertType::EmitterRefused.into(), ..Default::default() };
        let found = match alice.list_alerts(ask).await {
            Ok(answer) => answer.into_inner().alerts,
            // Its database is not open yet, or is slow.
            Err(status) if Told::from_status(&status).reason == "AUDIT_INDEX_UNAVAILABLE" => Vec::new(),
            Err(status) => panic!("{status:?}"),
        };
        let is_there = |reason: &&str| found.iter().any(|alert| alert.summary.contains(*reason));
        if wanted.iter().all(is_there) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found:#?}");
    }
    let ask = wire::QueryEventsRequest { r#type: "batch.refused".into(), ..Default::default() };
    let told = records.query_events(ask).await.unwrap().into_inner().events;
    let told: Vec<wire::AuditEvent> = told.into_iter().filter_map(|one| one.event).collect();
    for reason in wanted {
        let of = told.iter().find(|event| event.reason_code == reason).unwrap_or_else(|| panic!("{reason}: {told:?}"));
        assert_eq!((&of.actor, of.outcome()), (&house.service_id("registry"), wire::Outcome::Denied));
    }
    // None of it is there; a duplicate is acknowledged, and is not there twice.
    let told = house.append(&mut registry, 5, 6).await.unwrap();
    assert_eq!((told.acked_seq, told.appended, told.first_leaf_index), (10, 0, None));
    // Good events before a bad one are recorded; the bad one is named.
    let mut events: Vec<Bytes> = (11..15).map(good).collect();
    events[2] = bent(13, &|e| e.event_id = "agt_1".into());
    let told = Told::from_status(&send(&mut registry, EPOCH, 11, events).await.unwrap_err());
    assert_eq!(told.violations[0].0, "events[2]");
    let told = house.append(&mut registry, 11, 4).await.unwrap();
    assert_eq!((told.acked_seq, told.appended), (14, 2));
    running.shutdown().await;
    house.audit(None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_does_not_read_and_who_reads_does_not_write() {
    let house = House::build();
    let running = house.raise().await;
    let denied = (Code::PermissionDenied, "ACCESS_DENIED");
    for (who, wanted) in [
        (house.operator("alice"), denied),
        (house.service("audit-collector"), denied),
        (house.service("somebody"), denied),
        (Identity::anonymous(), (Code::Unauthenticated, "UNAUTHENTICATED")),
    ] {
        let mut to = house.ingest(&running, &who);
        let refused = house.append(&mut to, 1, 1).await.unwrap_err();
        assert_eq!((refused.code(), Told::from_status(&refused).reason.as_str()), wanted);
    }
    for (who, wanted) in [
        (house.service("registry"), denied),
        (house.agent(), denied),
        (house.enforcer(), denied),
        (Identity::anonymous(), (Code::Unauthenticated, "UNAUTHENTICATED")),
    ] {
        let is_wanted = |refused: tonic::Status| {
            assert_eq!((refused.code(), Told::from_status(&refused).reason.as_str()), wanted);
        };
        let (mut query, mut proof) = (house.query(&running, &who), house.proof(&running, &who));
        is_wanted(query.query_events(wire::QueryEventsRequest::default()).await.unwrap_err());
        is_wanted(proof.get_checkpoint(wire::GetCheckpointRequest::default()).await.unwrap_err());
        is_wanted(proof.prove_inclusion(wire::ProveInclusionRequest::default()).await.unwrap_err());
        is_wanted(proof.prove_consistency(wire::ProveConsistencyRequest::default()).await.unwrap_err());
    }
    // They are on record within a second or so; reading it over and over is what grows the log meanwhile.
    let mut operator = house.query(&running, &house.operator("alice"));
    let ask = wire::QueryEventsRequest { r#type: "access.refused".into(), ..wire::QueryEventsRequest::default() };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let is_there = |events: &[wire::IndexedEvent], actor: &str, reason: &str| {
        let mut all = events.iter().filter_map(|e| e.event.as_ref());
        all.any(|e| e.actor == actor && e.reason_code == reason && e.outcome() == wire::Outcome::Denied)
    };
    loop {
        let events = operator.query_events(ask.clone()).await.unwrap().into_inner().events;
        let agent = house.agent().spiffe_id().unwrap().to_string();
        if is_there(&events, &agent, "ACCESS_DENIED") && is_there(&events, "", "UNAUTHENTICATED") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{events:?}");
    }
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_none_is_refused_with_its_field() {
    let house = House::build();
    let running = house.raise().await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    house.append(&mut registry, 1, 30).await.unwrap();
    let mut operator = house.query(&running, &house.operator("alice"));
    let base =
        || wire::QueryEventsRequest { indexed_at_least: 30, page_size: 5, ..wire::QueryEventsRequest::default() };
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    for (field, ask) in [
        ("page_size", wire::QueryEventsRequest { page_size: 1_001, ..base() }),
        ("type", wire::QueryEventsRequest { r#type: "a%".into(), ..base() }),
        ("outcome", wire::QueryEventsRequest { outcome: 99, ..base() }),
        ("actor", wire::QueryEventsRequest { actor: "x".repeat(2_049), ..base() }),
        ("from_time", wire::QueryEventsRequest { from_time: time(i64::MAX), ..base() }),
        ("to_time", wire::QueryEventsRequest { from_time: time(10), to_time: time(10), ..base() }),
    ] {
        let told = Told::from_status(&operator.query_events(ask).await.unwrap_err());
        assert_eq!((told.reason.as_str(), told.violations[0].0.as_str()), ("INVALID_ARGUMENT", field));
    }

    let token = operator.query_events(base()).await.unwrap().into_inner().next_page_token;
    assert!(!token.is_empty());
    let with = |token: &str| wire::QueryEventsRequest { page_token: token.into(), ..base() };
    operator.query_events(with(&token)).await.unwrap();
    let mut bob = house.query(&running, &house.operator("bob"));
    let mut edited = token.clone();
    let digit = if edited.starts_with('3') { "4" } else { "3" };
    edited.replace_range(1..2, digit);
    let another = wire::QueryEventsRequest { agent_id: "agt_1".into(), ..with(&token) };
    for refused in [
        operator.query_events(with(&edited)).await.unwrap_err(),
        operator.query_events(with("' OR 1=1 --")).await.unwrap_err(),
        operator.query_events(another).await.unwrap_err(),
        bob.query_events(with(&token)).await.unwrap_err(),
    ] {
        assert_eq!(Told::from_status(&refused).reason, "PAGE_TOKEN_INVALID");
    }

    let mut hurried = house.hurried_query(&running, &house.operator("alice"));
    let ask = wire::QueryEventsRequest { indexed_at_least: 1_000_000, ..base() };
    let told = Told::from_status(&hurried.query_events(ask).await.unwrap_err());
    assert_eq!(told.reason, "AUDIT_INDEX_BEHIND");
    assert!(told.metadata["indexed_through"].parse::<u64>().unwrap() >= 30);

    let mut prover = house.proof(&running, &house.operator("alice"));
    let size = prover.get_checkpoint(wire::GetCheckpointRequest::default()).await.unwrap().into_inner().tree_size;
    let far = size + 1_000;
    for refused in [
        prover
            .prove_inclusion(wire::ProveInclusionRequest { leaf_index: far, tree_size: 0, with_cose_receipt: false })
            .await
            .unwrap_err(),
        prover
            .prove_inclusion(wire::ProveInclusionRequest { leaf_index: 5, tree_size: 5, with_cose_receipt: false })
            .await
            .unwrap_err(),
        prover
            .prove_inclusion(wire::ProveInclusionRequest { leaf_index: 0, tree_size: far, with_cose_receipt: false })
            .await
            .unwrap_err(),
        prover.prove_consistency(wire::ProveConsistencyRequest { first_size: 1, second_size: far }).await.unwrap_err(),
        prover.prove_consistency(wire::ProveConsistencyRequest { first_size: 5, second_size: 4 }).await.unwrap_err(),
    ] {
        let told = Told::from_status(&refused);
        assert_eq!((told.code, told.reason.as_str()), (Code::OutOfRange, "AUDIT_NOT_IN_TREE"));
    }
    let mut hurried = house.hurried_proof(&running, &house.operator("alice"));
    for (cosigned, at_least_size, reason) in
        [(false, far, "AUDIT_CHECKPOINT_BEHIND"), (true, 0, "AUDIT_NO_WITNESSES"), (true, far, "AUDIT_NO_WITNESSES")]
    {
        let ask = wire::GetCheckpointRequest { cosigned, at_least_size };
        assert_eq!(Told::from_status(&hurried.get_checkpoint(ask).await.unwrap_err()).reason, reason);
    }
    let none = wire::ProveConsistencyRequest { first_size: 0, second_size: 0 };
    let told = Told::from_status(&prover.prove_consistency(none).await.unwrap_err());
    assert_eq!(told.violations[0].0, "first_size");
    running.shutdown().await;
}
