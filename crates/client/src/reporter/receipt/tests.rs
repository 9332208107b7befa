//! Receipts that show what was told, and those that do not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use legate_merkle::{Rotation, SeedSigner, Signer as _, prove_among};
use legate_wire::audit::{Emitter, EventReceipt, KeyRotation};

const ORIGIN: &str = "example.org/audit-log";

fn event(seq: u64) -> AuditEvent {
    AuditEvent {
        event_id: format!("evt_{seq}"),
        emitter: Some(Emitter { spiffe_id: "spiffe://example.org/ns/a/enforcer/b".into(), epoch: "e".into(), seq }),
        subject: if seq.is_multiple_of(2) { "user:ada".into() } else { String::new() },
        ..AuditEvent::default()
    }
}

/// What an honest log answers about events that it has beside others.
fn answer(told: &[AuditEvent], signer: &SeedSigner) -> GetReceiptsResponse {
    let leaves: Vec<Vec<u8>> =
        told.iter().map(|one| legate_personal::split(one.clone(), rand::random).event.encode_to_vec()).collect();
    let mut hashes = vec![leaf_hash(b"other"); 3];
    hashes.extend(leaves.iter().map(|leaf| leaf_hash(leaf)));
    let mut tree = legate_merkle::Frontier::default();
    hashes.iter().for_each(|hash| tree.push(*hash));
    let note = Checkpoint::new(ORIGIN, hashes.len() as u64, tree.root()).sign(signer).unwrap().to_string();
    let receipt = |(at, leaf): (u64, Vec<u8>)| EventReceipt {
        leaf_index: at,
        leaf,
        proof: prove_among(at, &hashes).unwrap().iter().map(|hash| hash.to_vec()).collect(),
    };
    GetReceiptsResponse {
        receipts: (3..).zip(leaves).map(receipt).collect(),
        tree_size: hashes.len() as u64,
        checkpoint: note,
        key_rotations: Vec::new(),
    }
}

#[test]
fn what_is_there_is_shown_and_nothing_else() {
    let signer = SeedSigner::new(ORIGIN, &[7; 32]).unwrap();
    let other = SeedSigner::new(ORIGIN, &[8; 32]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let keyring = |keys: &[&SeedSigner]| {
        let text: String = keys.iter().map(|key| format!("{}\n", key.verifier())).collect();
        Keyring::open(LogKeys::parse(&text).unwrap(), &dir.path().join("rotations")).unwrap()
    };
    let mut keys = keyring(&[&other, &signer]);
    let told: Vec<AuditEvent> = (1..=6).map(event).collect();
    let good = answer(&told, &signer);
    assert_eq!(verified(&good, &told, &mut keys), Ok(6));
    let mut part = good.clone();
    part.receipts.truncate(2);
    assert_eq!(verified(&part, &told, &mut keys), Ok(2));

    part.receipts.clear();
    assert_eq!(verified(&part, &told, &mut keys), Err(BadReceipt::Count(0)));
    assert_eq!(verified(&good, &told[..5], &mut keys), Err(BadReceipt::Count(6)));
    assert!(matches!(verified(&good, &told, &mut keyring(&[&other])), Err(BadReceipt::Keys(_))));
    // Another name, another event, and one that is proved to be there in the place of the one that was told.
    let mut others = told.clone();
    others[1].subject = String::new();
    assert_eq!(verified(&good, &others, &mut keys), Ok(1), "what stands before it is shown");
    others[1] = AuditEvent { reason: "other".into(), ..told[1].clone() };
    assert_eq!(verified(&answer(&others, &signer), &told, &mut keys), Ok(1));
    // Another event of ours under the number of the first: only where it is proved to be there.
    assert_eq!(verified(&answer(&others[1..], &signer), &told[1..], &mut keys), Err(BadReceipt::Other(3)));
    let mut claimed = good.clone();
    claimed.receipts[0].leaf =
        answer(&[AuditEvent { reason: "x".into(), ..told[0].clone() }], &signer).receipts[0].leaf.clone();
    assert!(matches!(verified(&claimed, &told, &mut keys), Err(BadReceipt::Proof { leaf: 3, .. })));
    let mut swapped = good.clone();
    swapped.receipts.swap(0, 1);
    assert!(matches!(verified(&swapped, &told, &mut keys), Err(BadReceipt::Leaf(_))));
    // A tree that does not have it.
    let mut without = good.clone();
    without.checkpoint = answer(&others, &signer).checkpoint;
    assert!(matches!(verified(&without, &told, &mut keys), Err(BadReceipt::Proof { leaf: 3, .. })));
    let mut short = good.clone();
    short.receipts[0].proof[0] = vec![0; 31];
    assert!(matches!(verified(&short, &told, &mut keys), Err(BadReceipt::Proof { leaf: 3, .. })));
    let mut moved = good;
    moved.receipts[0].leaf_index = 2;
    assert!(matches!(verified(&moved, &told, &mut keys), Err(BadReceipt::Proof { leaf: 2, .. })));
}

#[test]
fn what_is_no_key_is_refused() {
    for text in ["", "\n \n", "no key", "example.org/audit-log+00000000+AAAA"] {
        assert!(matches!(LogKeys::parse(text), Err(ClientError::Key(_))), "{text:?}");
    }
}

/// What a log answers whose key was followed by others, in a tree of these leaves and the event that was told behind them.
fn rotated(keys: &[&SeedSigner], told: &AuditEvent, by: &SeedSigner, leaves_out: usize) -> GetReceiptsResponse {
    let mut tree = legate_merkle::Frontier::default();
    let mut leaves: Vec<Vec<u8>> = vec![b"first".to_vec()];
    tree.push(leaf_hash(&leaves[0]));
    for pair in keys.windows(2) {
        let rotation = Rotation::sign(leaves.len() as u64, tree.root(), pair[0], pair[1]).unwrap();
        let emitter = Emitter { spiffe_id: "spiffe://example.org/legate/audit-collector".into(), ..Emitter::default() };
        let event = AuditEvent { emitter: Some(emitter), ..legate_batch::rotated::event(&rotation, "a drill") };
        leaves.push(event.encode_to_vec());
        tree.push(leaf_hash(leaves.last().unwrap()));
    }
    leaves.push(legate_personal::split(told.clone(), rand::random).event.encode_to_vec());
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    tree.push(*hashes.last().unwrap());
    let proof = |at: usize| prove_among(at as u64, &hashes).unwrap().iter().map(|hash| hash.to_vec()).collect();
    let last = leaves.len() - 1;
    let rotation = |at: usize| KeyRotation { leaf_index: at as u64, leaf: leaves[at].clone(), proof: proof(at) };
    GetReceiptsResponse {
        receipts: vec![EventReceipt { leaf_index: last as u64, leaf: leaves[last].clone(), proof: proof(last) }],
        tree_size: leaves.len() as u64,
        checkpoint: Checkpoint::new(ORIGIN, leaves.len() as u64, tree.root()).sign(by).unwrap().to_string(),
        key_rotations: (1..last - leaves_out).map(rotation).collect(),
    }
}

#[test]
fn a_key_is_believed_of_trees_for_which_it_is_in_force_and_one_of_the_logs_keys_leads_to_it() {
    let [first, second, third] = [1, 2, 3].map(|seed| SeedSigner::new(ORIGIN, &[seed; 32]).unwrap());
    let told = [event(2)];
    let dir = tempfile::tempdir().unwrap();
    let keyring = |key: &SeedSigner| {
        let keys = LogKeys::parse(&key.verifier().to_string()).unwrap();
        Keyring::open(keys, &dir.path().join("rotations")).unwrap()
    };
    let mut keys = keyring(&first);
    assert_eq!(verified(&rotated(&[&first], &told[0], &first, 0), &told, &mut keys), Ok(1));
    // The key is followed by another, and nobody has to be told.
    let after = rotated(&[&first, &second], &told[0], &second, 0);
    assert_eq!(verified(&after, &told, &mut keys), Ok(1));
    // What the old key signs of such a tree is not believed, with the rotation and without it, also after a restart.
    for mut keys in [keys, keyring(&first)] {
        let old = rotated(&[&first, &second], &told[0], &first, 0);
        assert!(matches!(verified(&old, &told, &mut keys), Err(BadReceipt::Keys(NotRotated::Checkpoint(_)))));
        let left_out = rotated(&[&first, &second], &told[0], &first, 1);
        assert_eq!(verified(&left_out, &told, &mut keys), Err(BadReceipt::Forgotten));
    }
    let twice = rotated(&[&first, &second, &third], &told[0], &third, 0);
    assert_eq!(verified(&twice, &told, &mut keyring(&first)), Ok(1));
    // Whoever forges another way from the old key is found by who saw the true one.
    let forged = rotated(&[&first, &third], &told[0], &third, 0);
    assert_eq!(verified(&forged, &told, &mut keyring(&first)), Err(BadReceipt::Forgotten));
    let stranger = SeedSigner::new(ORIGIN, &[9; 32]).unwrap();
    assert!(matches!(verified(&twice, &told, &mut keyring(&stranger)), Err(BadReceipt::Keys(_))));
    std::fs::write(dir.path().join("rotations"), "damaged").unwrap();
    let keys = LogKeys::parse(&first.verifier().to_string()).unwrap();
    assert!(Keyring::open(keys, &dir.path().join("rotations")).is_err());
}
