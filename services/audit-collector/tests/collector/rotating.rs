//! The log's key is rotated between two runs of the service: whoever knows the first one follows the log over its API.

use legate_batch::rotated::{NotRotated, ROTATED, follow};
use legate_merkle::{CheckpointError, Receipt, SeedSigner, Signer as _};
use legate_wire::audit as wire;

use crate::house::{House, ORIGIN};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_first_key_follows_to_the_newest_and_nobody_else_is_believed() {
    let house = House::build();
    let running = house.raise().await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    let mut prover = house.proof(&running, &house.operator("alice"));
    let told = house.append(&mut registry, 1, 300).await.unwrap();
    let end = told.first_leaf_index.unwrap() + 300;
    let ask = |at_least_size| wire::GetCheckpointRequest { at_least_size, ..wire::GetCheckpointRequest::default() };
    let before = prover.get_checkpoint(ask(end)).await.unwrap().into_inner();
    let (first, kept) = (house.verifier_key(), house.open_note(&before.checkpoint));
    assert!(before.key_rotations.is_empty());
    assert_eq!(follow(&first, before.checkpoint.as_bytes(), &[]).unwrap().0, kept);

    let next = legate_audit_collector::prepare_log_key(&house.log_dir(), "routine").unwrap();
    assert_eq!(house.verifier_key(), first, "a service that runs goes on under its key");
    house.append(&mut registry, 301, 10).await.unwrap();
    running.shutdown().await;

    let running = house.raise().await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    let mut prover = house.proof(&running, &house.operator("alice"));
    assert_eq!(house.append(&mut registry, 305, 10).await.unwrap().appended, 4, "emitters notice nothing");
    let after = prover.get_checkpoint(ask(end + 16)).await.unwrap().into_inner();
    assert_eq!((after.verifier_key.as_str(), after.key_rotations.len()), (next.as_str(), 1));
    for given in [&first, &house.verifier_key()] {
        let (signed, keys) = follow(given, after.checkpoint.as_bytes(), &after.key_rotations).unwrap();
        assert_eq!((signed.size, keys.newest().to_string()), (after.tree_size, next.clone()));
        assert_eq!(keys.open(before.checkpoint.as_bytes()).unwrap(), kept, "what was kept is by the key of then");
    }
    let refused = follow(&first, after.checkpoint.as_bytes(), &[]).unwrap_err();
    assert!(matches!(refused, NotRotated::Checkpoint(CheckpointError::Note(_))), "without the leaf: {refused}");
    let stranger = SeedSigner::new(ORIGIN, &[9; 32]).unwrap();
    let refused = follow(stranger.verifier(), after.checkpoint.as_bytes(), &after.key_rotations).unwrap_err();
    assert!(matches!(refused, NotRotated::Stranger { .. }), "{refused}");
    let mut changed = after.key_rotations.clone();
    changed[0].leaf_index += 1;
    assert!(matches!(follow(&first, after.checkpoint.as_bytes(), &changed), Err(NotRotated::Proof { .. })));
    changed[0].leaf_index -= 1;
    changed[0].leaf[40] ^= 1;
    assert!(matches!(follow(&first, after.checkpoint.as_bytes(), &changed), Err(NotRotated::Proof { .. })));

    // The earlier tree continues in the later one, receipts are by the key of now, and the rotation is an event like others.
    let request = wire::ProveConsistencyRequest { first_size: kept.size, second_size: after.tree_size };
    let proved = prover.prove_consistency(request).await.unwrap().into_inner();
    assert_eq!(proved.first_root_hash, kept.root);
    let place = after.key_rotations[0].leaf_index;
    let request =
        wire::ProveInclusionRequest { leaf_index: place, tree_size: after.tree_size, with_cose_receipt: true };
    let proved = prover.prove_inclusion(request).await.unwrap().into_inner();
    assert_eq!(proved.leaf, after.key_rotations[0].leaf);
    Receipt::decode(&proved.cose_receipt).unwrap().verify(&proved.leaf, &house.verifier_key()).unwrap();
    let mut operator = house.query(&running, &house.operator("alice"));
    let asked = wire::QueryEventsRequest {
        r#type: ROTATED.into(),
        indexed_at_least: after.tree_size,
        ..wire::QueryEventsRequest::default()
    };
    let page = operator.query_events(asked).await.unwrap().into_inner();
    let events: Vec<_> = page.events.iter().filter_map(|one| one.event.as_ref()).collect();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].reason.as_str(), events[0].details["to"].as_str()), ("routine", next.as_str()));
    running.shutdown().await;
    assert_eq!(house.audit(Some(&kept)).unwrap().continues, Some(kept.size));
}
