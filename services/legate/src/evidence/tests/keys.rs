//! Packs of a log whose key was rotated, for those who have a key of before, and chains of keys that do not hold.

use legate_batch::rotated;
use legate_merkle::{Rotation, VerifierKey};
use legate_wire::audit::KeyRotation;

use super::*;

/// Where the rotation is.
const PLACE: u64 = 10;

fn key(seed: u8) -> SeedSigner {
    SeedSigner::new(ORIGIN, &[seed; 32]).unwrap()
}

fn verified_by(pack: &[u8], given: &VerifierKey, kept: Option<&[u8]>) -> Result<Checked, BadPack> {
    check(&mut Cursor::new(pack), Some(given), kept, None, None)
}

/// A log of 20 in which the key of this seed was followed by that which signs; the rotation's own words can be changed.
fn rotated_log(from: u8, change: impl FnOnce(&mut AuditEvent)) -> Log {
    let mut log = Log((0..20).map(|n| event(n).encode_to_vec()).collect());
    let root = root_of(PLACE, |l, i| log.node(l, i)).unwrap();
    let rotation = Rotation::sign(PLACE, root, &key(from), &signer()).unwrap();
    let emitter =
        Emitter { spiffe_id: "spiffe://dev.legate/legate/audit-collector".into(), epoch: "log".into(), seq: 1 };
    let mut event = AuditEvent { emitter: Some(emitter), ..rotated::event(&rotation, "routine") };
    change(&mut event);
    log.0[usize::try_from(PLACE).unwrap()] = event.encode_to_vec();
    log
}

/// A pack of it that shows the rotation.
fn pack_of(log: Log) -> Parts {
    let shown = KeyRotation {
        leaf_index: PLACE,
        leaf: log.0[usize::try_from(PLACE).unwrap()].clone(),
        proof: prove_inclusion(PLACE, 20, |l, i| log.node(l, i)).unwrap().into_iter().map(|h| h.to_vec()).collect(),
    };
    let text = rotations(&[shown]).unwrap();
    let mut parts = parts_of(log, &[3, 17]);
    parts.manifest.files.push(Listed::of(ROTATIONS, &text));
    parts.files.push((ROTATIONS.into(), text));
    parts
}

#[test]
fn whoever_has_the_key_of_before_comes_by_the_rotation_to_the_one_that_signed() {
    let pack = pack_of(rotated_log(6, |_| ())).pack();
    let held = verified_by(&pack, key(6).verifier(), None).unwrap();
    assert_eq!((held.followed, held.signed.size), (1, 20));
    assert_eq!(verified_by(&pack, signer().verifier(), None).unwrap().followed, 0);
    // A checkpoint that was kept before is by the key of then, and by no other.
    let log = rotated_log(6, |_| ());
    let root = root_of(6, |l, i| log.node(l, i)).unwrap();
    let kept = |seed: u8| Checkpoint::new(ORIGIN, 6, root).sign(&key(seed)).unwrap().to_string();
    for given in [key(6), signer()] {
        let held = verified_by(&pack, given.verifier(), Some(kept(6).as_bytes())).unwrap();
        assert_eq!(held.continues, Some(6));
        let refused = verified_by(&pack, given.verifier(), Some(kept(7).as_bytes())).unwrap_err();
        assert!(refused.place.contains("you kept"), "{refused}");
    }
    // One that was made before the rotation is still by the key of then.
    assert!(verified(&parts(&[3]).pack()).is_ok());
}

#[test]
fn keys_that_nothing_leads_to_are_refused() {
    let pack = pack_of(rotated_log(6, |_| ())).pack();
    let refused = verified_by(&pack, key(5).verifier(), None).unwrap_err();
    assert!(refused.place == ROTATIONS && refused.what.contains("no rotation that it shows leads there"), "{refused}");
    // The pack does not show the rotation.
    let silent = parts_of(rotated_log(6, |_| ()), &[3]).pack();
    let refused = verified_by(&silent, key(6).verifier(), None).unwrap_err();
    assert!(refused.place == KEY && refused.what.contains("no rotation from one to the other"), "{refused}");
}

#[test]
fn a_rotation_that_is_half_signed_or_not_in_the_tree_is_refused() {
    for kept in [6, 7] {
        let log = rotated_log(6, |event| {
            let note = Note::parse(event.details["rotation"].as_bytes()).unwrap();
            let half = note.only(|line| line.id == key(kept).verifier().id());
            event.details.insert("rotation".into(), half.to_string());
        });
        let refused = verified_by(&pack_of(log).pack(), key(6).verifier(), None).unwrap_err();
        assert!(refused.place == ROTATIONS && refused.what.contains("did not sign"), "{refused}");
    }
    // By somebody who is not the log's collector.
    let log =
        rotated_log(6, |event| event.emitter.as_mut().unwrap().spiffe_id = "spiffe://dev.legate/ns/a/agent/b".into());
    let refused = verified_by(&pack_of(log).pack(), key(6).verifier(), None).unwrap_err();
    assert!(refused.what.contains("no log.key_rotated"), "{refused}");
    // Signed by both, and put into the pack alone.
    let plain = Log((0..20).map(|n| event(n).encode_to_vec()).collect());
    let mut parts = pack_of(rotated_log(6, |_| ()));
    parts.log = plain;
    let note = parts.log.checkpoint(20).into_bytes();
    let events: String = [3, 17].iter().map(|leaf| parts.log.line(*leaf, 20)).collect();
    let kept = prove_consistency(6, 20, |l, i| parts.log.node(l, i)).unwrap();
    for (name, bytes) in [
        (CHECKPOINT.to_owned(), note),
        (EVENTS.to_owned(), events.into_bytes()),
        (format!("{CONTINUES}6"), continues(6, 20, &kept).into_bytes()),
    ] {
        let at = parts.files.iter().position(|(known, _)| *known == name).unwrap();
        parts.manifest.files[at] = Listed::of(&name, &bytes);
        parts.files[at].1 = bytes;
    }
    parts.log.0.push(event(20).encode_to_vec());
    let refused = verified_by(&parts.pack(), key(6).verifier(), None).unwrap_err();
    assert!(refused.place == ROTATIONS && refused.what.contains("not proved to be in the log"), "{refused}");
}

#[test]
fn a_proof_in_a_file_carries_them_too() {
    let log = rotated_log(6, |_| ());
    let shown = KeyRotation {
        leaf_index: PLACE,
        leaf: log.0[usize::try_from(PLACE).unwrap()].clone(),
        proof: prove_inclusion(PLACE, 20, |l, i| log.node(l, i)).unwrap().into_iter().map(|h| h.to_vec()).collect(),
    };
    let text = rotations(std::slice::from_ref(&shown)).unwrap();
    assert_eq!(read_rotations(&text), Some(vec![shown]));
    assert_eq!(read_rotations(&text[..text.len() - 1]), None);
    assert_eq!(read_rotations(b"{}\n").map(|all| all.len()), Some(1), "of nothing, which proves nothing");
    assert_eq!(read_rotations(b"something else\n"), None);
    let proof = TlogProof {
        extra: Some(text),
        index: 3,
        hashes: prove_inclusion(3, 20, |l, i| log.node(l, i)).unwrap(),
        checkpoint: log.checkpoint(20),
    };
    let read = TlogProof::parse(proof.to_string().as_bytes()).unwrap();
    let carried = read.extra.as_deref().and_then(read_rotations).unwrap();
    let (_, keys) = rotated::follow(key(6).verifier(), read.checkpoint.as_bytes(), &carried).unwrap();
    assert_eq!(read.verify_by(&log.0[3], &keys).unwrap().size, 20);
}
