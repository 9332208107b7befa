//! Emitters that sign what they tell: what holds is in the log with its signature, what does not is refused and told.

use std::time::Duration;

use legate_batch::{Attested, EVENTS_BEFORE, KIND, sign};
use legate_clock::{Clock as _, Timestamp};
use legate_merkle::{Hash, leaf_hash, verify_inclusion};
use legate_mtls::Identity;
use legate_rpc::{Client, Code, Told};
use legate_wire::audit as wire;
use legate_wire::audit::ingest_service_client::IngestServiceClient;
use legate_wire::audit::{AlertType, AppendEventsRequest, AppendEventsResponse, AuditEvent, TrustClass};
use prost::Message as _;

use crate::alerts::{alerts, config, turned};
use crate::house::{EPOCH, House};

fn request(house: &House, first_seq: u64, count: u64) -> AppendEventsRequest {
    let events = (first_seq..first_seq + count).map(|seq| house.event(seq).encode_to_vec().into()).collect();
    AppendEventsRequest { epoch: EPOCH.into(), first_seq, events, ..Default::default() }
}

fn signed(house: &House, by: &Identity, first_seq: u64, count: u64) -> AppendEventsRequest {
    let mut request = request(house, first_seq, count);
    sign(&mut request, by);
    assert!(request.signature.is_some());
    request
}

async fn offer(
    to: &mut IngestServiceClient<Client>,
    request: AppendEventsRequest,
) -> Result<AppendEventsResponse, Told> {
    to.append_events(request).await.map(tonic::Response::into_inner).map_err(|status| Told::from_status(&status))
}

fn hashes(all: &[Vec<u8>]) -> Vec<Hash> {
    all.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect()
}

async fn ask(
    house: &House,
    running: &legate_boot::Running,
    ask: wire::QueryEventsRequest,
) -> wire::QueryEventsResponse {
    let mut alice = house.query(running, &house.operator("alice"));
    alice.query_events(ask).await.unwrap().into_inner()
}

fn seq(one: &wire::IndexedEvent) -> u64 {
    one.event.as_ref().unwrap().emitter.as_ref().unwrap().seq
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_emitter_signed_is_attested_and_anybody_can_verify_it() {
    let house = House::build();
    let running = house.raise().await;
    let registry = house.service("registry");
    let mut line = house.ingest(&running, &registry);
    let told = offer(&mut line, signed(&house, &registry, 1, 300)).await.unwrap();
    let first = told.first_leaf_index.unwrap();
    assert_eq!((told.acked_seq, told.appended), (300, 300));
    // One that does not sign is taken as before.
    offer(&mut line, request(&house, 301, 2)).await.unwrap();
    // A connection outlives a certificate; the same name is signed for with the next one.
    let renewed = house.service("registry");
    let told = offer(&mut line, signed(&house, &renewed, 303, 1)).await.unwrap();
    let last = told.first_leaf_index.unwrap();

    let all = wire::QueryEventsRequest {
        emitter: house.service_id("registry"),
        indexed_at_least: last + 1,
        order: wire::EventOrder::OldestFirst.into(),
        with_proofs: true,
        page_size: 200,
        ..wire::QueryEventsRequest::default()
    };
    let mut seen = Vec::new();
    let mut page = ask(&house, &running, all.clone()).await;
    loop {
        let tree = house.open_note(&page.checkpoint);
        let mut holds: Option<Attested> = None;
        for one in &page.events {
            let Some(attestation) = &one.attestation else {
                assert_eq!((one.trust(), seq(one) / 303), (TrustClass::Authenticated, 0), "{}", seq(one));
                continue;
            };
            assert_eq!(one.trust(), TrustClass::Attested);
            if !attestation.leaf.is_empty() {
                let (leaf, proof) = (leaf_hash(&attestation.leaf), hashes(&attestation.proof));
                verify_inclusion(attestation.leaf_index, page.tree_size, &leaf, &proof, &tree.root).unwrap();
                let event = AuditEvent::decode(attestation.leaf.as_slice()).unwrap();
                assert_eq!(event.emitter.as_ref().unwrap().spiffe_id, house.service_id("audit-collector"));
                let attested = Attested::try_from(&event).unwrap();
                attested.verify().unwrap();
                holds = Some(attested);
            }
            let leaf = AuditEvent::decode(one.leaf.as_slice()).unwrap();
            let path = hashes(&attestation.path);
            holds.as_ref().unwrap().holds(&leaf, &leaf_hash(&one.leaf), attestation.position, &path).unwrap();
        }
        seen.extend(page.events);
        if page.next_page_token.is_empty() {
            break;
        }
        let next = wire::QueryEventsRequest { page_token: page.next_page_token, ..all.clone() };
        page = ask(&house, &running, next).await;
    }
    assert_eq!(seen.iter().map(seq).collect::<Vec<_>>(), (1..=303).collect::<Vec<_>>());
    assert_eq!(seen[0].leaf_index, first);
    assert!(seen.iter().all(|one| one.attestation.is_some() != (301..=302).contains(&seq(one))));
    assert_eq!(seen[302].attestation.as_ref().unwrap().leaf_index, last - 1, "the signature stands in front");

    // The class can be asked for; the leaf of the signature is in the log and no answer.
    for (class, count) in [(TrustClass::Attested, 301), (TrustClass::Authenticated, 2), (TrustClass::Observed, 0)] {
        let of = wire::QueryEventsRequest { trust: class.into(), with_proofs: false, page_size: 1_000, ..all.clone() };
        let found = ask(&house, &running, of).await.events;
        assert_eq!(found.len(), count, "{class:?}");
        assert!(found.iter().all(|one| one.trust() == class));
    }
    let told = wire::QueryEventsRequest { r#type: KIND.into(), ..wire::QueryEventsRequest::default() };
    assert!(ask(&house, &running, told).await.events.is_empty());
    let mut prover = house.proof(&running, &house.operator("alice"));
    let asked = wire::ProveInclusionRequest { leaf_index: first - 1, ..wire::ProveInclusionRequest::default() };
    let proved = prover.prove_inclusion(asked).await.unwrap().into_inner();
    let event = AuditEvent::decode(proved.leaf.as_slice()).unwrap();
    assert_eq!((event.r#type.as_str(), event.actor), (KIND, house.service_id("registry")));

    // An index that is made again says the same: it starts between a signature and what it is of as well.
    running.shutdown().await;
    let running = house.raise().await;
    let of =
        wire::QueryEventsRequest { trust: TrustClass::Attested.into(), page_size: 1_000, with_proofs: false, ..all };
    assert_eq!(ask(&house, &running, of).await.events.len(), 301);
    running.shutdown().await;
    house.audit(None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_batch_is_taken_whole_or_not_at_all() {
    let house = House::build();
    let running = house.raise().await;
    let registry = house.service("registry");
    let mut line = house.ingest(&running, &registry);
    offer(&mut line, signed(&house, &registry, 1, 10)).await.unwrap();
    // The answer was lost, and more waits by now: what is known is acknowledged, and the rest comes with a signature of its own.
    let told = offer(&mut line, signed(&house, &registry, 1, 15)).await.unwrap();
    assert_eq!((told.acked_seq, told.appended, told.first_leaf_index), (10, 0, None));
    let told = offer(&mut line, signed(&house, &registry, 1, 10)).await.unwrap();
    assert_eq!((told.acked_seq, told.appended), (10, 0));
    let told = offer(&mut line, signed(&house, &registry, 11, 5)).await.unwrap();
    assert_eq!((told.acked_seq, told.appended), (15, 5));
    let gap = offer(&mut line, signed(&house, &registry, 17, 1)).await.unwrap_err();
    assert_eq!(gap.reason, "AUDIT_SEQUENCE_GAP");

    // A bad event keeps all of them out, and the refusal says how many can go without it.
    let mut bad = request(&house, 16, 5);
    bad.events[3] = AuditEvent { event_id: "agt_1".into(), ..house.event(19) }.encode_to_vec().into();
    sign(&mut bad, &registry);
    let refused = offer(&mut line, bad.clone()).await.unwrap_err();
    assert_eq!(refused.reason, "AUDIT_EVENT_INVALID");
    assert_eq!(refused.metadata.get(EVENTS_BEFORE).map(String::as_str), Some("3"));
    assert_eq!(legate_batch::events_before(&refused.metadata), Some(3));
    let again = offer(&mut line, request(&house, 16, 0)).await;
    assert!(again.is_err());
    let told = offer(&mut line, signed(&house, &registry, 16, 3)).await.unwrap();
    assert_eq!((told.acked_seq, told.appended), (18, 3));
    let last = told.first_leaf_index.unwrap() + 3;
    let all = wire::QueryEventsRequest {
        emitter: house.service_id("registry"),
        trust: TrustClass::Attested.into(),
        indexed_at_least: last,
        ..wire::QueryEventsRequest::default()
    };
    let seqs: Vec<u64> = ask(&house, &running, all).await.events.iter().map(seq).collect();
    assert_eq!(seqs, (1..=18).rev().collect::<Vec<_>>());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_does_not_hold_is_refused_told_and_an_alert() {
    let (house, clock) = turned();
    let running = house.raise_with(config(&house)).await;
    let registry = house.service("registry");
    let mut line = house.ingest(&running, &registry);
    let good = signed(&house, &registry, 1, 3);
    let with = |change: &dyn Fn(&mut AppendEventsRequest)| {
        let mut other = good.clone();
        change(&mut other);
        other
    };
    let of_another = signed(&house, &house.service("policy-decision"), 1, 3).signature;
    let of_a_stranger = signed(&house, &house.stranger("registry"), 1, 3).signature;
    let lies = [
        ("another number", with(&|r| r.signature.as_mut().unwrap().signature[20] ^= 1)),
        (
            "another event",
            with(&|r| r.events[1] = AuditEvent { reason: "x".into(), ..house.event(2) }.encode_to_vec().into()),
        ),
        ("fewer events", with(&|r| drop(r.events.pop()))),
        ("another's certificate", with(&|r| r.signature.clone_from(&of_another))),
        ("a stranger's CA", with(&|r| r.signature.clone_from(&of_a_stranger))),
        ("no certificate", with(&|r| r.signature.as_mut().unwrap().certificates.clear())),
        ("no DER", with(&|r| r.signature.as_mut().unwrap().certificates[0] = vec![0x30; 400])),
        ("too much", with(&|r| r.signature.as_mut().unwrap().certificates[0] = vec![1; 3_001])),
        ("another scheme", with(&|r| r.signature.as_mut().unwrap().scheme = 0x0804)),
        ("no signature", with(&|r| r.signature.as_mut().unwrap().signature.clear())),
    ];
    for (what, lie) in lies {
        let refused = offer(&mut line, lie).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::PermissionDenied, "AUDIT_SIGNATURE_INVALID"),
            "{what}"
        );
    }
    // Nothing of it was written.
    let told = offer(&mut line, good).await.unwrap();
    assert_eq!((told.acked_seq, told.appended), (3, 3));
    // It signed before, and does not any more: said once for all of the epoch.
    offer(&mut line, request(&house, 4, 2)).await.unwrap();
    offer(&mut line, request(&house, 6, 2)).await.unwrap();

    let found = alerts(&house, &running, &clock, 2).await;
    let of: Vec<&wire::Alert> = found.iter().filter(|one| one.r#type() == AlertType::EmitterSignature).collect();
    assert_eq!(of.len(), 2, "{found:?}");
    let (refused, unsigned) = (
        of.iter().find(|one| one.severity() == wire::AlertSeverity::High).unwrap(),
        of.iter().find(|one| one.severity() == wire::AlertSeverity::Medium).unwrap(),
    );
    assert!(refused.summary.contains("refused"), "{}", refused.summary);
    assert!(unsigned.summary.contains("does not sign event 4"), "{}", unsigned.summary);
    assert_eq!((unsigned.count, refused.count), (1, 1), "a flood is told once a while");
    let told = wire::QueryEventsRequest { r#type: "batch.refused".into(), ..wire::QueryEventsRequest::default() };
    let told = ask(&house, &running, told).await.events;
    let event = told[0].event.clone().unwrap();
    assert_eq!((told.len(), event.actor.as_str()), (1, house.service_id("registry").as_str()));
    assert_eq!((event.reason_code.as_str(), event.outcome()), ("AUDIT_SIGNATURE_INVALID", wire::Outcome::Denied));
    let mut alice = house.alerts(&running, &house.operator("alice"));
    let report = alice.report_completeness(wire::ReportCompletenessRequest::default()).await.unwrap().into_inner();
    assert!(report.emitter_alerts.iter().any(|one| one.r#type() == AlertType::EmitterSignature));
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_signs_for_itself_and_an_ended_certificate_for_nobody() {
    let (house, clock) = turned();
    let running = house.raise_with(config(&house)).await;
    let agent = house.agent();
    let id = agent.spiffe_id().unwrap();
    let of = |seq: u64, now: Timestamp| AuditEvent {
        emitter: Some(wire::Emitter { spiffe_id: id.to_string(), epoch: EPOCH.into(), seq }),
        r#type: "action.executed".into(),
        namespace: "payments".into(),
        agent_id: legate_ids::AgentId::from_parts(1, [1; 10]).to_string(),
        action: "invoice:read".into(),
        outcome: wire::Outcome::Success.into(),
        time: Some(now.into()),
        ..house.event(seq)
    };
    let make = |seq: u64, by: &Identity| {
        let events = vec![of(seq, clock.now()).encode_to_vec().into()];
        let mut request = AppendEventsRequest { epoch: EPOCH.into(), first_seq: seq, events, ..Default::default() };
        sign(&mut request, by);
        request
    };
    let old = house.agent_for(Duration::from_secs(60));
    let mut line = house.ingest(&running, &agent);
    offer(&mut line, make(1, &agent)).await.unwrap();
    // A certificate that was renewed may have ended meanwhile: the one that signs holds now.
    clock.advance(Duration::from_secs(120));
    let fresh = house.agent();
    let mut line = house.ingest(&running, &fresh);
    let refused = offer(&mut line, make(2, &old)).await.unwrap_err();
    assert_eq!(refused.reason, "AUDIT_SIGNATURE_INVALID");
    offer(&mut line, make(2, &fresh)).await.unwrap();
    running.shutdown().await;
}
