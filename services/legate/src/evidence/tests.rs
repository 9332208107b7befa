//! Packs that hold and packs that do not, made here entry by entry.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod documents;
mod keys;

use std::io::Cursor;

use legate_merkle::{
    Checkpoint, Cosigner, Hash, Note, Policy, SeedSigner, Signer as _, TlogProof, leaf_hash, node_hash,
    prove_consistency, prove_inclusion, root_of,
};
use legate_wire::audit::{AuditEvent, Emitter, IndexedEvent};
use prost::Message as _;

use super::*;
use crate::proto;

const ORIGIN: &str = "dev.legate/audit-log";
const ADA: &str = "spiffe://dev.legate/legate/operator/ada";

fn signer() -> SeedSigner {
    SeedSigner::new(ORIGIN, &[7; 32]).unwrap()
}

fn event(n: u64) -> AuditEvent {
    AuditEvent {
        event_id: format!("evt_{n:04}"),
        emitter: Some(Emitter {
            spiffe_id: "spiffe://dev.legate/legate/registry".into(),
            epoch: "e".into(),
            seq: n + 1,
        }),
        time: Some(prost_types::Timestamp { seconds: 1_800_000_000 + n.cast_signed(), nanos: 0 }),
        r#type: "agent.suspended".into(),
        reason: "said \"no\"\nand meant it".into(),
        ..AuditEvent::default()
    }
}

/// A log, by its leaves.
struct Log(Vec<Vec<u8>>);

impl Log {
    fn node(&self, level: u32, index: u64) -> Result<Hash, ()> {
        let first = usize::try_from(index << level).unwrap();
        if level == 0 {
            return Ok(leaf_hash(&self.0[first]));
        }
        Ok(node_hash(&self.node(level - 1, index * 2)?, &self.node(level - 1, index * 2 + 1)?))
    }

    fn checkpoint(&self, size: u64) -> String {
        let root = root_of(size, |l, i| self.node(l, i)).unwrap();
        Checkpoint::new(ORIGIN, size, root).sign(&signer()).unwrap().to_string()
    }

    fn line(&self, index: u64, size: u64) -> String {
        let leaf = self.0[usize::try_from(index).unwrap()].clone();
        let proof = prove_inclusion(index, size, |l, i| self.node(l, i)).unwrap();
        let one = IndexedEvent {
            leaf_index: index,
            event: AuditEvent::decode(leaf.as_slice()).ok(),
            leaf_hash: leaf_hash(&leaf).to_vec(),
            proof: proof.into_iter().map(|h| h.to_vec()).collect(),
            leaf,
            ..IndexedEvent::default()
        };
        proto::json(&proto::dynamic(&one), false).unwrap() + "\n"
    }
}

/// Everything of a pack, before it is put together.
struct Parts {
    log: Log,
    manifest: Manifest,
    files: Vec<(String, Vec<u8>)>,
    seal: AuditEvent,
    /// What is done to the checkpoint of the seal's tree.
    cosign_seal: Box<dyn Fn(String) -> String>,
}

/// A pack of these leaves of a log of 20, whose auditor had kept the checkpoint of 6.
fn parts(leaves: &[u64]) -> Parts {
    parts_of(Log((0..20).map(|n| event(n).encode_to_vec()).collect()), leaves)
}

fn parts_of(mut log: Log, leaves: &[u64]) -> Parts {
    let events: String = leaves.iter().map(|leaf| log.line(*leaf, 20)).collect();
    let kept = prove_consistency(6, 20, |l, i| log.node(l, i)).unwrap();
    let files: Vec<(String, Vec<u8>)> = vec![
        (README.into(), readme(ORIGIN, None).into_bytes()),
        (KEY.into(), format!("{}\n", signer().verifier()).into_bytes()),
        (CHECKPOINT.into(), log.checkpoint(20).into_bytes()),
        (EVENTS.into(), events.into_bytes()),
        (format!("{CONTINUES}6"), continues(6, 20, &kept).into_bytes()),
    ];
    let manifest = Manifest {
        format: FORMAT.into(),
        made_with: "a test".into(),
        about: None,
        asked_by: ADA.into(),
        asked: serde_json::json!({ "type": "agent.*" }),
        log: ORIGIN.into(),
        tree_size: 20,
        indexed_through: 20,
        events: leaves.len() as u64,
        is_complete: true,
        files: files.iter().map(|(name, bytes)| Listed::of(name, bytes)).collect(),
    };
    let seal = AuditEvent {
        event_id: "evt_seal".into(),
        emitter: Some(Emitter {
            spiffe_id: "spiffe://dev.legate/legate/audit-collector".into(),
            epoch: "log".into(),
            seq: 1,
        }),
        r#type: SEALED.into(),
        actor: ADA.into(),
        ..AuditEvent::default()
    };
    log.0.push(event(20).encode_to_vec());
    Parts { log, manifest, files, seal, cosign_seal: Box::new(|note| note) }
}

impl Parts {
    fn manifest_text(&self) -> String {
        serde_json::to_string_pretty(&self.manifest).unwrap() + "\n"
    }

    /// Has the log record it, as the collector does, and puts it together.
    fn pack(mut self) -> Vec<u8> {
        let m = &self.manifest;
        let told = [
            ("manifest_sha256", sha256(self.manifest_text().as_bytes())),
            ("events", m.events.to_string()),
            ("tree_size", m.tree_size.to_string()),
            ("is_complete", m.is_complete.to_string()),
        ];
        for (name, value) in told {
            self.seal.details.entry(name.into()).or_insert(value);
        }
        self.log.0.push(self.seal.encode_to_vec());
        let size = self.log.0.len() as u64;
        let hashes = prove_inclusion(size - 1, size, |l, i| self.log.node(l, i)).unwrap();
        let proof = TlogProof {
            extra: None,
            index: size - 1,
            hashes,
            checkpoint: (self.cosign_seal)(self.log.checkpoint(size)),
        };
        let continued = prove_consistency(20, size, |l, i| self.log.node(l, i)).unwrap();
        let manifest = self.manifest_text().into_bytes();
        self.files.insert(1, (MANIFEST.into(), manifest));
        self.files.push((SEAL_LEAF.into(), self.seal.encode_to_vec()));
        self.files.push((SEAL_PROOF.into(), proof.to_string().into_bytes()));
        self.files.push((SEAL_CONTINUES.into(), continues(20, size, &continued).into_bytes()));
        let mut out = Vec::new();
        for (name, bytes) in &self.files {
            archive::put(&mut out, name, bytes.len() as u64, &mut bytes.as_slice()).unwrap();
        }
        archive::end(&mut out).unwrap();
        out
    }
}

fn verified(pack: &[u8]) -> Result<Checked, BadPack> {
    check(&mut Cursor::new(pack), Some(signer().verifier()), None, None, None)
}

#[test]
fn a_pack_holds_and_says_what_is_in_it() {
    let pack = parts(&[3, 4, 17]).pack();
    let held = verified(&pack).unwrap();
    assert_eq!((held.signed.size, held.manifest.events, held.leaves), (20, 3, Some((3, 17))));
    assert_eq!((held.seal.actor.as_str(), held.seal_index, held.is_own_key), (ADA, 21, false));
    assert_eq!(held.times.unwrap().0.to_string(), "2027-01-15T08:00:03Z");
    assert!(check(&mut Cursor::new(&pack), None, None, None, None).unwrap().is_own_key);
    assert_eq!(verified(&parts(&[]).pack()).unwrap().leaves, None);
}

#[test]
fn every_changed_byte_is_found_at_its_place() {
    let good = parts(&[3, 17]).pack();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let refused = verified(&bad).map(|_| at).unwrap_err();
        assert!(!refused.place.is_empty(), "byte {at}: {refused}");
    }
    let place = |text: &str, nth: usize| {
        let (at, _) = good.windows(text.len()).enumerate().filter(|(_, w)| *w == text.as_bytes()).nth(nth).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        verified(&bad).unwrap_err()
    };
    assert_eq!(place("Evidence from", 0).place, README);
    assert_eq!(place("a test", 0).place, MANIFEST);
    assert_eq!(place("consistency 6", 0).place, "continues-6");
    assert_eq!(place("c2sp.org/tlog-proof", 0).place, SEAL_PROOF);
    assert_eq!(place("log.evidence_made", 0).place, SEAL_LEAF);
    // What is spelled out, and what is proved.
    let spelled = place("said \\\"no", 1);
    assert_eq!((spelled.place.as_str(), spelled.leaf), ("events.jsonl line 2", Some(17)));
    let proved = place("\"leaf\":\"", 0);
    assert!(proved.place.starts_with("events.jsonl line 1"), "{proved}");
    for end in [0, 511, 512, 700, good.len() - 1] {
        assert!(verified(&good[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn whoever_makes_a_pack_cannot_say_more_than_the_log() {
    let refused = |change: &dyn Fn(&mut Parts)| {
        let mut parts = parts(&[3, 17]);
        change(&mut parts);
        verified(&parts.pack()).unwrap_err().to_string()
    };
    // Another manifest than the one on record, another asker, another count.
    let told = |name: &'static str, value: &'static str| {
        move |p: &mut Parts| drop(p.seal.details.insert(name.into(), value.into()))
    };
    assert!(refused(&told("manifest_sha256", "00")).contains("not the one whose making is on record"));
    assert!(refused(&told("events", "3")).contains("events is"));
    assert!(refused(&told("is_complete", "false")).contains("isComplete is"));
    assert!(refused(&|p| p.seal.actor = "spiffe://dev.legate/legate/operator/eve".into()).contains("askedBy is"));
    // An event that somebody else told, or that tells something else, is no record.
    assert!(refused(&|p| p.seal.r#type = "log.queried".into()).contains("no record of a pack"));
    let other = |p: &mut Parts| p.seal.emitter.as_mut().unwrap().spiffe_id = "spiffe://dev.legate/ns/a/agent/b".into();
    assert!(refused(&other).contains("no record of a pack"));
    // Events left out, twice, out of order, or not in the tree, though every hash of a file is right.
    let events = |lines: &[u64], count: u64| {
        let lines = lines.to_vec();
        move |p: &mut Parts| {
            let text: String = lines.iter().map(|leaf| p.log.line(*leaf, 20)).collect();
            p.files[3].1 = text.into_bytes();
            p.manifest.files[3] = Listed::of(EVENTS, &p.files[3].1);
            p.manifest.events = count;
        }
    };
    assert!(refused(&events(&[3], 2)).contains("it holds 1 events"));
    assert!(refused(&events(&[3, 3], 2)).contains("does not come behind"));
    assert!(refused(&events(&[17, 3], 2)).contains("does not come behind"));
    let forged = |p: &mut Parts| {
        let mut event = event(3);
        event.reason = "forged".into();
        let honest = std::mem::replace(&mut p.log.0[3], event.encode_to_vec());
        let line = p.log.line(3, 20);
        p.log.0[3] = honest;
        p.files[3].1 = line.into_bytes();
        p.manifest.files[3] = Listed::of(EVENTS, &p.files[3].1);
        p.manifest.events = 1;
    };
    assert!(refused(&forged).contains("leaf 3: it is not proved to be in the log"));
    // A file more, a file less, another order.
    assert!(refused(&|p| p.files.push(("more".into(), vec![]))).contains("not those of the manifest"));
    assert!(refused(&|p| drop(p.files.remove(4))).contains("not those of the manifest"));
    assert!(refused(&|p| p.files.swap(0, 1)).contains("not those of the manifest"));
    assert!(refused(&|p| p.files.push((README.into(), vec![]))).contains("twice"));
    assert!(refused(&|p| p.manifest.format = "legate-evidence/2".into()).contains("legate-evidence/1"));
}

#[test]
fn a_kept_checkpoint_is_continued_or_it_is_said_why_not() {
    let Parts { log, .. } = parts(&[3]);
    let pack = parts(&[3]).pack();
    let with =
        |note: &str| check(&mut Cursor::new(&pack), Some(signer().verifier()), Some(note.as_bytes()), None, None);
    assert_eq!(with(&log.checkpoint(6)).unwrap().continues, Some(6));
    assert_eq!(with(&log.checkpoint(20)).unwrap().continues, Some(20));
    assert!(with(&log.checkpoint(7)).unwrap_err().what.contains("no proof between the two"));
    assert!(with(&log.checkpoint(21)).unwrap_err().what.contains("no proof between the two"));
    let mut other = Log((0..20).map(|n| event(n).encode_to_vec()).collect());
    other.0[2] = event(99).encode_to_vec();
    assert!(with(&other.checkpoint(6)).unwrap_err().what.contains("does not continue"));
    assert!(with(&other.checkpoint(20)).unwrap_err().what.contains("another log was signed"));
    let stranger = SeedSigner::new(ORIGIN, &[8; 32]).unwrap();
    let refused = check(&mut Cursor::new(&pack), Some(stranger.verifier()), None, None, None).unwrap_err();
    assert!(refused.place == KEY && refused.what.contains("another"), "{refused}");
}

/// A pack whose two checkpoints have these witnesses under them.
fn cosigned_pack(tree: &[u8], seal: &[u8]) -> Vec<u8> {
    let under = |note: String, who: &[u8]| {
        let note = Note::parse(note.as_bytes()).unwrap();
        let lines: Vec<_> = who.iter().map(|n| witness(*n).cosign(note.text(), 1_800_000_000)).collect();
        note.with(lines).to_string()
    };
    let mut parts = parts(&[3, 17]);
    parts.files[2].1 = under(parts.log.checkpoint(20), tree).into_bytes();
    parts.manifest.files[2] = Listed::of(CHECKPOINT, &parts.files[2].1);
    parts.cosign_seal = Box::new({
        let seal = seal.to_vec();
        move |note| under(note, &seal)
    });
    parts.pack()
}

fn witness(n: u8) -> Cosigner {
    Cosigner::new(&format!("witness.example/w{n}"), &[n; 32]).unwrap()
}

#[test]
fn a_policy_of_witnesses_is_met_by_both_trees_or_it_is_said_by_which_it_is_not() {
    let line = |n: u8| format!("witness w{n} {}\n", witness(n).verifier());
    let policy = format!("{}{}{}group g 2 w1 w2 w3\nquorum g\n", line(1), line(2), line(3));
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let with = |pack: &[u8]| check(&mut Cursor::new(pack), Some(signer().verifier()), None, Some(&policy), None);
    let good = cosigned_pack(&[1, 3], &[2, 3, 9]);
    let by = with(&good).unwrap().cosigned.unwrap().by;
    assert_eq!(by, [("witness.example/w1".into(), 1_800_000_000), ("witness.example/w3".into(), 1_800_000_000)]);
    // Whoever asks for nobody is told of nobody.
    assert_eq!(verified(&good).unwrap().cosigned, None);
    let place = |pack: &[u8]| with(pack).unwrap_err();
    assert_eq!(place(&parts(&[3]).pack()).place, CHECKPOINT);
    assert_eq!(place(&cosigned_pack(&[1], &[1, 2])).place, CHECKPOINT);
    assert_eq!(place(&cosigned_pack(&[1, 2], &[3])).place, SEAL_PROOF);
    let refused = place(&cosigned_pack(&[1, 2], &[]));
    assert!(refused.place == SEAL_PROOF && refused.what.contains("quorum g"), "{refused}");

    // The tree of another cosigned checkpoint of the same log, put in its place.
    let log = parts(&[3]).log;
    let note = Note::parse(log.checkpoint(19).as_bytes()).unwrap();
    let lines = [1, 2].map(|n| witness(n).cosign(note.text(), 1_800_000_000));
    let other = note.with(lines).to_string();
    let mut cut = parts(&[3, 17]);
    cut.files[2].1 = other.into_bytes();
    cut.manifest.files[2] = Listed::of(CHECKPOINT, &cut.files[2].1);
    let refused = with(&cut.pack()).unwrap_err();
    assert!(refused.place == CHECKPOINT && refused.what.contains("its size is 19"), "{refused}");
}

#[test]
fn there_is_one_text_for_a_proof_of_consistency() {
    let text = continues(6, 20, &[[1; 32], [2; 32]]);
    assert_eq!(read_continues(text.as_bytes()), Some((6, 20, vec![[1; 32], [2; 32]])));
    for bad in
        ["", "consistency 6 20", "consistency 06 20\n", "consistency 6 20\n\n", "consistency 6 20\nAA==\n", "x 6 20\n"]
    {
        assert_eq!(read_continues(bad.as_bytes()), None, "{bad:?}");
    }
}
