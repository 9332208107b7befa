//! Evidence: pages of one tree, the record that seals it, proofs in other forms; and who may not have it.

use crate::house::House;
use legate_merkle::{Checkpoint, Hash, Receipt, TlogProof, VerifierKey, leaf_hash, verify_inclusion};
use legate_rpc::Told;
use legate_wire::audit as wire;
use prost::Message as _;
use tonic::Code;

fn hashes(all: &[Vec<u8>]) -> Vec<Hash> {
    all.iter().map(|h| h.as_slice().try_into().unwrap()).collect()
}

fn key(house: &House) -> VerifierKey {
    VerifierKey::parse(std::fs::read_to_string(house.log_dir().join("log.pub")).unwrap().trim()).unwrap()
}

fn of_tree(size: u64) -> wire::QueryEventsRequest {
    wire::QueryEventsRequest {
        r#type: "agent.suspended".into(),
        order: wire::EventOrder::OldestFirst.into(),
        with_proofs: true,
        proof_tree_size: size,
        indexed_at_least: size,
        page_size: 40,
        ..wire::QueryEventsRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_asked_for_while_the_log_grows_are_of_one_tree() {
    let house = House::build();
    let running = house.raise().await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    house.append(&mut registry, 1, 100).await.unwrap();
    let alice = house.operator("alice");
    let (mut query, mut proof) = (house.query(&running, &alice), house.proof(&running, &alice));
    let newest = loop {
        let newest = proof.get_checkpoint(wire::GetCheckpointRequest::default()).await.unwrap().into_inner();
        if newest.tree_size > 100 {
            break newest;
        }
    };
    let signed = Checkpoint::open(newest.checkpoint.as_bytes(), &key(&house), key(&house).name()).unwrap();
    let (mut request, mut found, mut seq) = (of_tree(signed.size), Vec::new(), 101);
    loop {
        let page = query.query_events(request.clone()).await.unwrap().into_inner();
        assert_eq!(page.tree_size, signed.size);
        for one in &page.events {
            let hash = leaf_hash(&one.leaf);
            verify_inclusion(one.leaf_index, signed.size, &hash, &hashes(&one.proof), &signed.root).unwrap();
        }
        found.extend(page.events);
        // What comes meanwhile answers as well, and is of another tree.
        house.append(&mut registry, seq, 10).await.unwrap();
        seq += 10;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(found.len(), 100);

    let bad = |change: fn(&mut wire::QueryEventsRequest)| {
        let mut request = of_tree(signed.size);
        change(&mut request);
        request
    };
    let without = query.query_events(bad(|r| r.with_proofs = false)).await.unwrap_err();
    assert_eq!(without.code(), Code::InvalidArgument, "{without}");
    let beyond = query.query_events(bad(|r| (r.proof_tree_size, r.indexed_at_least) = (1 << 40, 0))).await.unwrap_err();
    assert_eq!(Told::from_status(&beyond).reason, "AUDIT_NOT_IN_TREE");
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_evidence_was_made_is_on_record_and_proved() {
    let house = House::build();
    let running = house.raise().await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    house.append(&mut registry, 1, 20).await.unwrap();
    let mut proof = house.proof(&running, &house.operator("alice"));
    // What was asked is of a tree that is published.
    let published = wire::GetCheckpointRequest { at_least_size: 1, ..wire::GetCheckpointRequest::default() };
    proof.get_checkpoint(published).await.unwrap();
    let asked = wire::QueryEventsRequest {
        agent_id: "agt_1".into(),
        text: "x".repeat(128),
        namespace: "payments".into(),
        ..wire::QueryEventsRequest::default()
    };
    let ask = wire::RecordEvidenceRequest {
        manifest_sha256: vec![0xab; 32],
        query: Some(asked),
        events: 7,
        tree_size: 1,
        is_complete: true,
        cosigned: false,
        kind: wire::PackKind::Dossier.into(),
    };
    let too_many = proof.record_evidence(ask.clone()).await.unwrap_err();
    assert_eq!(Told::from_status(&too_many).reason, "AUDIT_NOT_IN_TREE", "more events than leaves");
    let ask = wire::RecordEvidenceRequest { events: 1, ..ask };
    let recorded = proof.record_evidence(ask.clone()).await.unwrap().into_inner();
    let file = TlogProof {
        extra: None,
        index: recorded.leaf_index,
        hashes: hashes(&recorded.proof),
        checkpoint: recorded.checkpoint,
    };
    assert_eq!(file.verify(&recorded.leaf, &key(&house)).unwrap().size, recorded.tree_size);
    let event = wire::AuditEvent::decode(recorded.leaf.as_slice()).unwrap();
    assert_eq!((event.r#type.as_str(), event.namespace.as_str()), ("log.evidence_made", "payments"));
    assert!(event.actor.ends_with("/operator/alice"));
    for (name, value) in [
        ("manifest_sha256", "ab".repeat(32).as_str()),
        ("events", "1"),
        ("tree_size", "1"),
        ("is_complete", "true"),
        ("asked.agent_id", "agt_1"),
        ("kind", "dossier"),
    ] {
        assert_eq!(event.details[name], value, "{name}");
    }

    // The same event by itself, in both forms.
    let request =
        wire::ProveInclusionRequest { leaf_index: recorded.leaf_index, tree_size: 0, with_cose_receipt: true };
    let proved = proof.prove_inclusion(request).await.unwrap().into_inner();
    let receipt = Receipt::decode(&proved.cose_receipt).unwrap();
    assert_eq!(receipt.verify(&proved.leaf, &key(&house)).unwrap().as_slice(), proved.root_hash);
    let request = wire::ProveInclusionRequest { with_cose_receipt: false, tree_size: recorded.tree_size, ..request };
    assert!(proof.prove_inclusion(request).await.unwrap().into_inner().cose_receipt.is_empty());

    let bad = |change: fn(&mut wire::RecordEvidenceRequest)| {
        let mut bad = ask.clone();
        change(&mut bad);
        bad
    };
    for (what, request) in [
        ("a short hash", bad(|r| r.manifest_sha256 = vec![1; 31])),
        ("a page token", bad(|r| r.query.as_mut().unwrap().page_token = "x".into())),
        ("proofs", bad(|r| r.query.as_mut().unwrap().with_proofs = true)),
        ("a tree", bad(|r| r.query.as_mut().unwrap().proof_tree_size = 3)),
        ("a long text", bad(|r| r.query.as_mut().unwrap().actor = "x".repeat(3_000))),
    ] {
        assert_eq!(proof.record_evidence(request).await.unwrap_err().code(), Code::InvalidArgument, "{what}");
    }
    let beyond = proof.record_evidence(bad(|r| r.tree_size = 1 << 40)).await.unwrap_err();
    assert_eq!(Told::from_status(&beyond).reason, "AUDIT_NOT_IN_TREE");
    // Emitters do not read.
    let mut emitter = house.proof(&running, &house.service("registry"));
    assert_eq!(emitter.record_evidence(ask).await.unwrap_err().code(), Code::PermissionDenied);
    running.shutdown().await;
    house.audit(None).unwrap();
}
