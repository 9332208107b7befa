//! Vectors that others made: proofs (transparency-dev/merkle), a real tiled log (transparency-dev/tessera), edge cases of
//! Ed25519 (C2SP/CCTV).
//!
//! They are read from `LEGATE_TEST_VECTORS`, and have to be there then, or from beside the project where they are there; without them only
//! the numbers of RFC 6962's own kind are checked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use legate_merkle::{
    Checkpoint, Frontier, Hash, TileId, VerifierKey, Walk, decode_bundle, decode_tile, empty_root, leaf_hash,
    new_tiles, verify_consistency, verify_inclusion, verify_subtree_consistency, walk,
};
use serde_json::Value;

fn vectors(folder: &str) -> Option<PathBuf> {
    let named = std::env::var_os("LEGATE_TEST_VECTORS").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let is_wanted = named.is_some();
    let path = named.unwrap_or_else(beside).join(folder);
    if path.is_dir() {
        return Some(path);
    }
    assert!(!is_wanted, "LEGATE_TEST_VECTORS names a place without {folder}");
    use std::io::Write as _;
    let _no_matter = writeln!(std::io::stderr(), "note: no vectors at {}, so they are not checked", path.display());
    None
}

fn json_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            json_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "json") {
            out.push(path);
        }
    }
}

/// `None` when it has not 32 bytes, which our types cannot even say.
fn hash(value: &Value) -> Option<Hash> {
    Base64::decode_vec(value.as_str().unwrap_or_default()).unwrap().try_into().ok()
}

fn proof(value: &Value) -> Option<Vec<Hash>> {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(hash).collect()
}

#[test]
fn known_roots() {
    // The empty tree's root is SHA-256 of nothing (RFC 6962 section 2.1).
    let hex = |h: Hash| h.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(hex(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(hex(leaf_hash(&[])), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    assert_eq!(Frontier::new().root(), empty_root());
}

#[test]
fn inclusion_cases() {
    let Some(dir) = vectors("rfc6962-merkle/testdata/inclusion") else { return };
    let mut files = Vec::new();
    json_files(&dir, &mut files);
    assert_eq!(files.len(), 98);
    for file in files {
        let case: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let (index, size) = (case["leafIdx"].as_u64().unwrap(), case["treeSize"].as_u64().unwrap());
        let hashes = (|| Some((hash(&case["leafHash"])?, proof(&case["proof"])?, hash(&case["root"])?)))();
        let good =
            hashes.is_some_and(|(leaf, proof, root)| verify_inclusion(index, size, &leaf, &proof, &root).is_ok());
        assert_eq!(good, !case["wantErr"].as_bool().unwrap(), "{}", file.display());
    }
}

#[test]
fn consistency_cases() {
    let Some(dir) = vectors("rfc6962-merkle/testdata/consistency") else { return };
    let mut files = Vec::new();
    json_files(&dir, &mut files);
    assert_eq!(files.len(), 98);
    for file in files {
        let case: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let (first, second) = (case["size1"].as_u64().unwrap(), case["size2"].as_u64().unwrap());
        // Some roots are short texts of which only equality matters; their digests are equal where they are.
        let root = |name: &str| hash(&case[name]).unwrap_or_else(|| leaf_hash(case[name].as_str().unwrap().as_bytes()));
        let hashes = proof(&case["proof"]).map(|proof| (root("root1"), root("root2"), proof));
        let good =
            hashes.is_some_and(|(old, new, proof)| verify_consistency(first, second, &old, &new, &proof).is_ok());
        assert_eq!(good, !case["wantErr"].as_bool().unwrap(), "{}", file.display());
    }
}

/// A subtree that begins where a tree of its size can (draft-ietf-plants-merkle-tree-certs) is a tree of its own leaves.
#[test]
fn subtree_inclusion_cases() {
    let Some(dir) = vectors("rfc6962-merkle/testdata/subtreeinclusion") else { return };
    let mut files = Vec::new();
    json_files(&dir, &mut files);
    assert_eq!(files.len(), 204);
    for file in files {
        let case: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let number = |name: &str| case[name].as_u64().unwrap();
        let (index, start, end) = (number("leafIdx"), number("start"), number("end"));
        let is_tree = start < end
            && (end - start).checked_next_power_of_two().is_some_and(|whole| start.is_multiple_of(whole))
            && index >= start;
        let hashes = (|| Some((hash(&case["leafHash"])?, proof(&case["proof"])?, hash(&case["root"])?)))();
        let good = is_tree
            && hashes.is_some_and(|(leaf, proof, root)| {
                verify_inclusion(index - start, end - start, &leaf, &proof, &root).is_ok()
            });
        assert_eq!(good, !case["wantErr"].as_bool().unwrap(), "{}", file.display());
    }
}

#[test]
fn subtree_consistency_cases() {
    let Some(dir) = vectors("rfc6962-merkle/testdata/subtreeconsistency") else { return };
    let mut files = Vec::new();
    json_files(&dir, &mut files);
    assert_eq!(files.len(), 118);
    for file in files {
        let case: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let number = |name: &str| case[name].as_u64().unwrap();
        // Some roots are short texts of which only equality matters; their digests are equal where they are.
        let root = |name: &str| hash(&case[name]).unwrap_or_else(|| leaf_hash(case[name].as_str().unwrap().as_bytes()));
        let place = (number("start"), number("end"), number("size"));
        let good = proof(&case["proof"])
            .is_some_and(|proof| verify_subtree_consistency(place, &root("root1"), &root("root2"), &proof).is_ok());
        assert_eq!(good, !case["wantErr"].as_bool().unwrap(), "{}", file.display());
    }
}

#[test]
fn a_log_that_tessera_wrote() {
    const KEY: &str = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";
    let Some(dir) = vectors("tessera-log/testdata/log") else { return };
    let key = VerifierKey::parse(KEY).unwrap();
    assert_eq!(key.to_string(), KEY);
    let mut earlier: Option<Checkpoint> = None;
    for size in 0..=15u64 {
        let note = std::fs::read(dir.join(format!("checkpoint.{size}"))).unwrap();
        assert_eq!(legate_merkle::Note::parse(&note).unwrap().to_string().as_bytes(), note);
        let checkpoint = Checkpoint::open(&note, &key, "example.com/log/testdata").unwrap();
        assert_eq!(checkpoint.size, size);
        let mut bad = note.clone();
        let at = bad.len() / 3;
        bad[at] ^= 1;
        assert!(Checkpoint::open(&bad, &key, "example.com/log/testdata").is_err());
        assert!(Checkpoint::open(&note, &key, "example.com/log").is_err());

        let read = |tile: TileId| std::fs::read(dir.join(tile.to_string()));
        let saved: Vec<&Checkpoint> = earlier.iter().collect();
        let task = Walk { checkpoint: &checkpoint, saved: &saved };
        let report = walk(task, read).unwrap();
        assert_eq!((report.entries, report.root), (size, checkpoint.root));
        for tile in new_tiles(0, size) {
            let bytes = std::fs::read(dir.join(tile.to_string())).unwrap();
            match tile.kind {
                legate_merkle::TileKind::Entries => {
                    let entries = decode_bundle(&bytes, usize::from(tile.width)).unwrap();
                    assert_eq!(legate_merkle::encode_bundle(&entries).unwrap(), bytes);
                }
                legate_merkle::TileKind::Hashes(_) => {
                    let hashes = decode_tile(&bytes, usize::from(tile.width)).unwrap();
                    assert_eq!(legate_merkle::encode_tile(&hashes), bytes);
                }
            }
        }
        earlier = Some(checkpoint);
    }
}

#[test]
fn ed25519_edge_cases_follow_one_strict_rule() {
    let Some(dir) = vectors("ed25519/ed25519") else { return };
    let all: Value = serde_json::from_slice(&std::fs::read(dir.join("ed25519vectors.json")).unwrap()).unwrap();
    let hex = |value: &Value| -> Vec<u8> {
        let text = value.as_str().unwrap();
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    };
    let mut accepted = 0;
    for case in all.as_array().unwrap() {
        let flags: Vec<&str> =
            case["flags"].as_array().map(|f| f.iter().map(|f| f.as_str().unwrap()).collect()).unwrap_or_default();
        let key: [u8; 32] = hex(&case["key"]).try_into().unwrap();
        let signature: [u8; 64] = hex(&case["sig"]).try_into().unwrap();
        let message = case["msg"].as_str().unwrap().as_bytes();
        let good = VerifierKey::new("edge", &key).is_ok_and(|key| key.verifies(message, &signature));
        // Strict: no point of small order, no encoding that is not canonical, and the equation without the cofactor.
        let refused = ["low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R", "low_order_residue"];
        let wanted = !flags.iter().any(|f| refused.contains(f));
        assert_eq!(good, wanted, "case {} {flags:?}", case["number"]);
        accepted += usize::from(good);
    }
    assert_eq!(all.as_array().unwrap().len(), 914);
    assert!(accepted > 0);
}
