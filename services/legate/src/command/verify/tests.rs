//! Logs that hold and logs that do not, made here entry by entry.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_merkle::{
    Cosigner, Hash, Note, Rotation, SeedSigner, Signer as _, encode_bundle, encode_tile, leaf_hash, new_tiles,
    node_hash,
};
use legate_wire::audit::Emitter;

use super::*;

const ORIGIN: &str = "dev.legate/audit-log";

fn signer() -> SeedSigner {
    SeedSigner::new(ORIGIN, &[7; 32]).unwrap()
}

fn event(n: u64, seq: u64) -> Vec<u8> {
    let event = AuditEvent {
        event_id: format!("evt_{n:04}"),
        emitter: Some(Emitter { spiffe_id: "spiffe://dev.legate/legate/registry".into(), epoch: "e".into(), seq }),
        time: Some(prost_types::Timestamp { seconds: 1_800_000_000 + n.cast_signed(), nanos: 0 }),
        r#type: "agent.suspended".into(),
        ..AuditEvent::default()
    };
    event.encode_to_vec()
}

fn fold(row: &[Hash]) -> Hash {
    match row {
        [one] => *one,
        more => {
            let (left, right) = more.split_at(1 << (usize::BITS - 1 - (more.len() - 1).leading_zeros()));
            node_hash(&fold(left), &fold(right))
        }
    }
}

/// Writes a log as the collector does; gives its checkpoint.
fn write(dir: &Path, entries: &[Vec<u8>]) -> Vec<u8> {
    write_by(&signer(), dir, entries)
}

fn write_by(signer: &SeedSigner, dir: &Path, entries: &[Vec<u8>]) -> Vec<u8> {
    let hashes: Vec<Hash> = entries.iter().map(|e| leaf_hash(e)).collect();
    for tile in new_tiles(0, entries.len() as u64) {
        let first = usize::try_from(tile.index).unwrap() * 256;
        let width = usize::from(tile.width);
        let bytes = match tile.kind {
            TileKind::Entries => encode_bundle(&entries[first..first + width]).unwrap(),
            TileKind::Hashes(0) => encode_tile(&hashes[first..first + width]),
            TileKind::Hashes(_) => {
                encode_tile(&hashes.as_chunks::<256>().0.iter().map(|row| fold(row)).collect::<Vec<_>>())
            }
        };
        let path = dir.join(tile.to_string());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let checkpoint = Checkpoint::new(ORIGIN, entries.len() as u64, fold(&hashes)).sign(signer).unwrap();
    std::fs::write(dir.join("checkpoint"), checkpoint.to_string()).unwrap();
    checkpoint.to_string().into_bytes()
}

fn log(size: u64) -> Vec<Vec<u8>> {
    (0..size).map(|n| event(n, n + 1)).collect()
}

fn check(dir: &Path, kept: Option<&[u8]>) -> Result<Verified, Found> {
    verify_directory(dir, signer().verifier(), kept)
}

#[test]
fn a_whole_log_holds_and_tells_its_story() {
    let dir = tempfile::tempdir().unwrap();
    let early = write(dir.path(), &log(5));
    write(dir.path(), &log(600));
    let verified = check(dir.path(), Some(&early)).unwrap();
    assert_eq!((verified.size, verified.continues), (600, Some(5)));
    assert_eq!(verified.story.first.unwrap().to_string(), "2027-01-15T08:00:00Z");
    assert_eq!(
        verified.story.lines(),
        ["spiffe://dev.legate/legate/registry: 600 events in 1 epoch, no number missing"]
    );
    // A partial bundle that was dropped is the beginning of the full one.
    write(dir.path(), &log(256));
    std::fs::remove_dir_all(dir.path().join("tile/entries/000.p")).unwrap();
    std::fs::write(dir.path().join("checkpoint"), &early).unwrap();
    assert_eq!(check(dir.path(), None).unwrap().size, 5);
}

#[test]
fn an_edited_byte_names_its_entry_and_event() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &log(300));
    let bundle = dir.path().join("tile/entries/001.p/44");
    let mut bytes = std::fs::read(&bundle).unwrap();
    let at = bytes.windows(8).position(|w| w == b"evt_0260").unwrap();
    bytes[at + 7] = b'9';
    std::fs::write(&bundle, bytes).unwrap();
    let found = check(dir.path(), None).unwrap_err();
    assert_eq!((found.entry, found.event_id.as_deref()), (Some(260), Some("evt_0269")), "{found:?}");
}

#[test]
fn swapped_missing_and_cut_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = log(40);
    let full = write(dir.path(), &entries);
    entries.swap(3, 9);
    std::fs::write(dir.path().join("tile/entries/000.p/40"), encode_bundle(&entries).unwrap()).unwrap();
    let found = check(dir.path(), None).unwrap_err();
    assert!(found.entry == Some(3) && found.what.contains("logged as entry 9"), "{found:?}");
    std::fs::remove_file(dir.path().join("tile/entries/000.p/40")).unwrap();
    assert_eq!(check(dir.path(), None).unwrap_err().entry, Some(0));
    write(dir.path(), &log(30));
    let cut = check(dir.path(), Some(&full)).unwrap_err();
    assert!(cut.what.contains("has 30 entries and had 40"), "{cut:?}");
    assert!(check(dir.path(), None).is_ok(), "without the kept checkpoint nobody can tell");
    let mut other = log(50);
    other[2] = event(2, 9);
    write(dir.path(), &other);
    assert!(check(dir.path(), Some(&full)).unwrap_err().what.contains("rewritten or forked"));
}

#[test]
fn a_number_that_is_missing_is_found_though_every_hash_holds() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = log(20);
    entries.remove(7);
    write(dir.path(), &entries);
    let found = check(dir.path(), None).unwrap_err();
    assert!(found.entry == Some(7) && found.what.contains("number 8 was due"), "{found:?}");
    write(dir.path(), &[b"\xff\xff no event".to_vec()]);
    assert!(check(dir.path(), None).unwrap_err().what.contains("no event"));
}

#[test]
fn another_key_and_a_changed_checkpoint_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &log(3));
    let stranger = SeedSigner::new(ORIGIN, &[8; 32]).unwrap();
    assert!(verify_directory(dir.path(), stranger.verifier(), None).is_err());
    let path = dir.path().join("checkpoint");
    let text = std::fs::read_to_string(&path).unwrap().replace("\n3\n", "\n2\n");
    std::fs::write(&path, text).unwrap();
    assert!(check(dir.path(), None).unwrap_err().what.contains("refused"));
    std::fs::remove_file(path).unwrap();
    assert!(check(dir.path(), None).unwrap_err().what.contains("no checkpoint"));
}

/// A note with the cosignatures of these witnesses under it.
fn cosigned_by(note: &[u8], who: &[u8]) -> String {
    let note = Note::parse(note).unwrap();
    let lines: Vec<_> = who.iter().map(|n| witness(*n).cosign(note.text(), 1_800_000_000)).collect();
    note.with(lines).to_string()
}

fn witness(n: u8) -> Cosigner {
    Cosigner::new(&format!("witness.example/w{n}"), &[n; 32]).unwrap()
}

#[test]
fn a_policy_is_met_by_the_newest_checkpoint_or_by_one_that_the_log_continues() {
    let dir = tempfile::tempdir().unwrap();
    let earlier = write(dir.path(), &log(5));
    let newest = write(dir.path(), &log(12));
    let keys = [1, 2].map(|n| witness(n).verifier().to_string());
    let policy = format!("witness a {}\nwitness b {}\ngroup g all a b\nquorum g\n", keys[0], keys[1]);
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let ask = || verify(&mut Directory(dir.path()), signer().verifier(), None, Some(&policy), None);
    let refused = || ask().unwrap_err().what;
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    assert!(refused().contains("no witness that the policy names") && refused().contains("no checkpoint.cosigned"));
    put(COSIGNED, &cosigned_by(&earlier, &[1]));
    assert!(refused().contains("only witness.example/w1 cosigned"));
    put(COSIGNED, &cosigned_by(&earlier, &[1, 2]));
    let (size, by) = ask().unwrap().cosigned.unwrap();
    assert_eq!((size, by.by.len()), (5, 2));
    assert!(check(dir.path(), None).unwrap().cosigned.is_none(), "whoever asks for nobody is told of nobody");
    // The witnesses saw another history of five entries, and a longer one than there is.
    let other = tempfile::tempdir().unwrap();
    let forked = write(other.path(), &(0..5).map(|n| event(n + 90, n + 1)).collect::<Vec<_>>());
    put(COSIGNED, &cosigned_by(&forked, &[1, 2]));
    assert!(refused().contains("rewritten or forked"));
    let longer = write(other.path(), &log(20));
    put(COSIGNED, &cosigned_by(&longer, &[1, 2]));
    assert!(refused().contains("tail was cut"));
    // With them under the newest one there is nothing else to look for.
    put(COSIGNED, "damaged");
    assert!(refused().contains("checkpoint.cosigned is refused"));
    put("checkpoint", &cosigned_by(&newest, &[1, 2]));
    assert_eq!(ask().unwrap().cosigned.unwrap().0, 12);
}

fn key(seed: u8) -> SeedSigner {
    SeedSigner::new(ORIGIN, &[seed; 32]).unwrap()
}

/// A log of so many entries in which the key 6 was followed by 7 and that by 8; a rotation can be changed before it is appended.
fn rotated(size: u64, mut change: impl FnMut(usize, Rotation) -> AuditEvent) -> Vec<Vec<u8>> {
    let mut entries = log(size);
    for (n, (place, from, to)) in [(300, 6, 7), (411, 7, 8)].into_iter().enumerate() {
        let hashes: Vec<Hash> = entries[..place].iter().map(|entry| leaf_hash(entry)).collect();
        let rotation = Rotation::sign(place as u64, fold(&hashes), &key(from), &key(to)).unwrap();
        let emitter = Emitter {
            spiffe_id: "spiffe://dev.legate/legate/audit-collector".into(),
            epoch: "log".into(),
            seq: n as u64 + 1,
        };
        let event = AuditEvent { emitter: Some(emitter), ..change(n, rotation) };
        entries.insert(place, event.encode_to_vec());
    }
    entries
}

fn as_told(_: usize, rotation: Rotation) -> AuditEvent {
    legate_batch::rotated::event(&rotation, "")
}

#[test]
fn a_log_is_followed_from_any_of_its_keys_to_the_one_that_signs() {
    let dir = tempfile::tempdir().unwrap();
    let entries = rotated(600, as_told);
    // What was kept in each of the three times, and what somebody signed who was not to.
    let kept = |seed: u8, size: usize| write_by(&key(seed), dir.path(), &entries[..size]);
    let (first, second, third) = (kept(6, 300), kept(7, 301), kept(8, 412));
    let stolen = kept(6, 301);
    write_by(&key(8), dir.path(), &entries);
    for given in [6, 7, 8] {
        let ask = |kept: &[u8]| verify_directory(dir.path(), key(given).verifier(), Some(kept));
        for (kept, size) in [(&first, 300), (&second, 301), (&third, 412)] {
            let verified = ask(kept).unwrap();
            assert_eq!((verified.continues, verified.keys.newest()), (Some(size), key(8).verifier()), "{given}");
        }
        assert!(ask(&stolen).unwrap_err().what.contains("the checkpoint that you kept is refused"), "{given}");
    }
    for stranger in [5, 9] {
        let found = verify_directory(dir.path(), key(stranger).verifier(), None).unwrap_err();
        assert!(found.what.contains("none of this log's"), "{found:?}");
    }
}

#[test]
fn a_rotation_that_was_taken_back_and_a_key_that_was_never_announced_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let entries = rotated(600, as_told);
    for (by, given) in [(6, 6), (7, 7), (7, 6), (9, 6), (9, 9)] {
        write_by(&key(by), dir.path(), &entries);
        let found = verify_directory(dir.path(), key(given).verifier(), None).unwrap_err();
        assert!(found.what.contains("refused") || found.what.contains("none of this log's"), "{by} {given}: {found:?}");
    }
    // The log is set back behind the second rotation, and whoever has the newest key knows.
    write_by(&key(7), dir.path(), &entries[..411]);
    assert!(verify_directory(dir.path(), key(6).verifier(), None).is_ok());
    assert!(verify_directory(dir.path(), key(8).verifier(), None).unwrap_err().what.contains("none of this log's"));
}

#[test]
fn a_rotation_that_does_not_hold_is_named() {
    let half = |seed: u8| {
        move |n: usize, rotation: Rotation| {
            let mut event = as_told(n, rotation.clone());
            if n == 1 {
                let note = Note::parse(rotation.to_string().as_bytes()).unwrap();
                let half = note.only(|line| line.id == key(seed).verifier().id());
                event.details.insert("rotation".into(), half.to_string());
            }
            event
        }
    };
    // Signed by both, of another log; and one that follows on a key that is not the one that signs.
    let other_tree = |n: usize, rotation: Rotation| match n {
        1 => as_told(n, Rotation::sign(rotation.size(), [5; 32], &key(7), &key(8)).unwrap()),
        _ => as_told(n, rotation),
    };
    let not_next = |n: usize, rotation: Rotation| match n {
        1 => as_told(n, Rotation::sign(rotation.size(), *rotation.root(), &key(6), &key(8)).unwrap()),
        _ => as_told(n, rotation),
    };
    let cases = [
        (rotated(500, half(7)), "did not sign"),
        (rotated(500, half(8)), "did not sign"),
        (rotated(500, other_tree), "another log"),
        (rotated(500, not_next), "follows on the key"),
    ];
    for (entries, what) in cases {
        let dir = tempfile::tempdir().unwrap();
        write_by(&key(8), dir.path(), &entries);
        for given in [6, 7, 8] {
            let found = verify_directory(dir.path(), key(given).verifier(), None).unwrap_err();
            assert!(found.entry == Some(411) && found.what.contains(what), "{what}, {given}: {found:?}");
        }
    }
}

#[test]
fn what_witnesses_cosigned_before_a_rotation_counts_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let entries = rotated(600, as_told);
    let before = write_by(&key(6), dir.path(), &entries[..200]);
    write_by(&key(8), dir.path(), &entries);
    let policy = Policy::parse(format!("witness a {}\nquorum a\n", witness(1).verifier()).as_bytes()).unwrap();
    let ask = |given: u8| verify(&mut Directory(dir.path()), key(given).verifier(), None, Some(&policy), None);
    std::fs::write(dir.path().join(COSIGNED), cosigned_by(&before, &[1])).unwrap();
    for given in [6, 7, 8] {
        assert_eq!(ask(given).unwrap().cosigned.unwrap().0, 200);
    }
    // A witness's word does not make a key the log's.
    let hashes: Vec<Hash> = entries[..200].iter().map(|entry| leaf_hash(entry)).collect();
    let by_later = Checkpoint::new(ORIGIN, 200, fold(&hashes)).sign(&key(8)).unwrap().to_string();
    std::fs::write(dir.path().join(COSIGNED), cosigned_by(by_later.as_bytes(), &[1])).unwrap();
    assert!(ask(6).unwrap_err().what.contains("the cosigned checkpoint is refused"));
}
