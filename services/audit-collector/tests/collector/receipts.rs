//! Who told something gets receipts of it, which hold by the log's public key alone; nobody gets anybody else's.

use legate_boot::Running;
use legate_merkle::{Hash, leaf_hash, verify_inclusion};
use legate_mtls::Identity;
use legate_rpc::Told;
use legate_wire::audit as wire;
use prost::Message as _;
use tonic::Code;

use crate::alerts::told;
use crate::house::{EPOCH, House, send};

async fn ask(
    house: &House,
    running: &Running,
    who: &Identity,
    epoch: &str,
    (first_seq, count): (u64, u32),
) -> Result<wire::GetReceiptsResponse, Told> {
    let mut line = house.ingest(running, who);
    let asked = wire::GetReceiptsRequest { epoch: epoch.into(), first_seq, count };
    line.get_receipts(asked).await.map(tonic::Response::into_inner).map_err(|status| Told::from_status(&status))
}

/// The numbers of the events that receipts are of, each verified by whoever has the log's public key.
fn verified(house: &House, answer: &wire::GetReceiptsResponse, who: &Identity) -> Vec<u64> {
    let tree = house.open_note(&answer.checkpoint);
    assert_eq!(tree.size, answer.tree_size);
    let of = |receipt: &wire::EventReceipt| {
        let proof: Vec<Hash> = receipt.proof.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect();
        verify_inclusion(receipt.leaf_index, tree.size, &leaf_hash(&receipt.leaf), &proof, &tree.root).unwrap();
        let emitter = wire::AuditEvent::decode(receipt.leaf.as_slice()).unwrap().emitter.unwrap();
        assert_eq!(emitter.spiffe_id, who.spiffe_id().unwrap().as_str());
        emitter.seq
    };
    answer.receipts.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gets_receipts_of_what_it_told_and_of_nothing_else() {
    let house = House::build();
    let running = house.raise().await;
    let (registry, enforcer, agent) = (house.service("registry"), house.enforcer(), house.agent());
    let mut line = house.ingest(&running, &registry);
    let mut backend = house.ingest(&running, &enforcer);
    house.append(&mut line, 1, 300).await.unwrap();
    // Between others' and in several requests, one of which comes twice.
    for (first, last) in [(1, 3), (4, 4), (4, 6)] {
        let events: Vec<_> = (first..=last).map(|seq| told(&house, &enforcer, seq, |_| {})).collect();
        send(&mut backend, EPOCH, first, events.clone()).await.unwrap();
        house.append(&mut line, 300 + first, 3).await.unwrap();
    }
    // Once the index holds the last of them, an answer has them all.
    ask(&house, &running, &enforcer, EPOCH, (6, 1)).await.unwrap();
    let got = ask(&house, &running, &enforcer, EPOCH, (1, 6)).await.unwrap();
    assert_eq!(verified(&house, &got, &enforcer), [1, 2, 3, 4, 5, 6]);
    let got = ask(&house, &running, &enforcer, EPOCH, (5, 100)).await.unwrap();
    assert_eq!(verified(&house, &got, &enforcer), [5, 6]);
    let got = ask(&house, &running, &registry, EPOCH, (250, 50)).await.unwrap();
    assert_eq!(verified(&house, &got, &registry), (250..300).collect::<Vec<_>>());

    // The same epoch and numbers are the registry's, and nobody else's.
    let refused = ask(&house, &running, &enforcer, EPOCH, (7, 1)).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "AUDIT_NOT_TOLD"));
    assert_eq!(refused.metadata["last_seq"], "6");
    for who in [&agent, &house.service("policy-decision")] {
        let refused = ask(&house, &running, who, EPOCH, (1, 6)).await.unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.metadata["last_seq"].as_str()), ("AUDIT_NOT_TOLD", "0"));
    }
    for who in [house.operator("alice"), house.service("somebody")] {
        assert_eq!(ask(&house, &running, &who, EPOCH, (1, 6)).await.unwrap_err().reason, "ACCESS_DENIED");
    }
    let refused = ask(&house, &running, &Identity::anonymous(), EPOCH, (1, 6)).await.unwrap_err();
    assert_eq!(refused.reason, "UNAUTHENTICATED");
    for (epoch, which, field) in [
        ("", (1, 1), "epoch"),
        ("otlp", (1, 1), "epoch"),
        ("e/1", (1, 1), "epoch"),
        (EPOCH, (0, 1), "first_seq"),
        (EPOCH, (u64::MAX, 1), "first_seq"),
        (EPOCH, (1, 0), "count"),
        (EPOCH, (1, 1_025), "count"),
    ] {
        let refused = ask(&house, &running, &enforcer, epoch, which).await.unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.violations[0].0.as_str()), ("INVALID_ARGUMENT", field));
    }
    running.shutdown().await;

    // Also of the run before, and where the index is made again.
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        drop(std::fs::remove_file(house.log_dir().join(name)));
    }
    let running = house.raise().await;
    let got = ask(&house, &running, &enforcer, EPOCH, (1, 6)).await.unwrap();
    assert_eq!(verified(&house, &got, &enforcer), [1, 2, 3, 4, 5, 6]);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_as_many_as_it_holds_and_nobody_asks_without_end() {
    let house = House::build();
    let running = house.raise().await;
    let registry = house.service("registry");
    let mut line = house.ingest(&running, &registry);
    let large = |seq: u64| {
        let event = wire::AuditEvent { reason: "x".repeat(50 << 10), ..house.event(seq) };
        event.encode_to_vec().into()
    };
    for first in [1, 61] {
        send(&mut line, EPOCH, first, (first..first + 60).map(large).collect()).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 120 {
        let next = seen.len() as u64 + 1;
        let got = ask(&house, &running, &registry, EPOCH, (next, 121 - u32::try_from(next).unwrap())).await.unwrap();
        assert!((1..60).contains(&got.receipts.len()), "{}", got.receipts.len());
        seen.extend(verified(&house, &got, &registry));
    }
    assert_eq!(seen, (1..=120).collect::<Vec<_>>());
    let spent = loop {
        match ask(&house, &running, &registry, EPOCH, (120, 1_024)).await {
            Ok(got) => assert_eq!(got.receipts.len(), 1),
            Err(spent) => break spent,
        }
    };
    assert_eq!(spent.reason, "AUDIT_QUOTA_SPENT");
    assert!(spent.retry_after.is_some());
    // It tells on all the same.
    house.append(&mut line, 121, 1).await.unwrap();
    running.shutdown().await;
}
