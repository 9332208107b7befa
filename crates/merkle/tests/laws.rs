//! Laws: every proof of every tree verifies, and nothing that differs by a bit does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use legate_merkle::{
    Checkpoint, CheckpointError, Frontier, Hash, Note, NoteError, SeedSigner, Signer, TileId, TileKind, VerifierKey,
    Walk, WalkError, decode_tile, encode_bundle, encode_tile, leaf_hash, new_tiles, node_hash, node_in_tile,
    prove_consistency, prove_inclusion, root_of, verify_consistency, verify_inclusion, walk,
};
use proptest::prelude::*;

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

/// MTH of RFC 6962 section 2.1, as it stands there.
fn root_by_definition(leaves: &[Hash]) -> Hash {
    match leaves.len() {
        0 => legate_merkle::empty_root(),
        1 => leaves[0],
        n => {
            let k = n.next_power_of_two() / 2;
            node_hash(&root_by_definition(&leaves[..k]), &root_by_definition(&leaves[k..]))
        }
    }
}

fn node_of(leaves: &[Hash]) -> impl FnMut(u32, u64) -> Result<Hash, ()> + '_ {
    |level, index| {
        let lo = usize::try_from(index << level).unwrap();
        Ok(root_by_definition(leaves.get(lo..lo + (1 << level)).ok_or(())?))
    }
}

/// A log as files, written a batch at a time.
#[derive(Clone, Default)]
struct Log {
    files: BTreeMap<TileId, Vec<u8>>,
    entries: Vec<Vec<u8>>,
    tree: Frontier,
}

impl Log {
    fn append(&mut self, more: Vec<Vec<u8>>) {
        let old = self.tree.size();
        more.iter().for_each(|e| self.tree.push(leaf_hash(e)));
        self.entries.extend(more);
        let hashes: Vec<Hash> = self.entries.iter().map(|e| leaf_hash(e)).collect();
        for tile in new_tiles(old, self.tree.size()) {
            let lo = usize::try_from(tile.index * 256).unwrap();
            let width = usize::from(tile.width);
            let bytes = match tile.kind {
                TileKind::Entries => encode_bundle(&self.entries[lo..lo + width]).unwrap(),
                TileKind::Hashes(level) => {
                    let each = 1usize << (8 * u32::from(level));
                    let row = hashes.chunks_exact(each).map(root_by_definition).skip(lo).take(width);
                    encode_tile(&row.collect::<Vec<_>>())
                }
            };
            self.files.insert(tile, bytes);
        }
    }

    fn of(count: u64) -> Self {
        let mut log = Self::default();
        log.append((0..count).map(|i| format!("entry {i}").into_bytes()).collect());
        log
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint::new("test", self.tree.size(), self.tree.root())
    }

    fn read(&self, tile: TileId) -> Result<Vec<u8>, String> {
        self.files.get(&tile).cloned().ok_or_else(|| "not there".to_owned())
    }
}

fn signer() -> SeedSigner {
    SeedSigner::new("legate.example/log", &[7; 32]).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_frontier_has_the_root_of_the_definition(size in 0u64..700) {
        let all = leaves(size);
        let mut tree = Frontier::new();
        all.iter().for_each(|l| tree.push(*l));
        prop_assert_eq!(tree.root(), root_by_definition(&all));
        prop_assert_eq!(root_of(size, node_of(&all)), Ok(tree.root()));
    }

    #[test]
    fn inclusion_verifies_and_any_flipped_bit_fails(
        size in 1u64..300, at in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>(),
    ) {
        let all = leaves(size);
        let index = at.index(all.len());
        let root = root_by_definition(&all);
        let proof = prove_inclusion(index as u64, size, node_of(&all)).unwrap();
        let check = |i, n, l: &Hash, p: &[Hash], r: &Hash| verify_inclusion(i, n, l, p, r);
        prop_assert_eq!(check(index as u64, size, &all[index], &proof, &root), Ok(()));

        let mut bytes: Vec<Hash> = vec![all[index], root];
        bytes.extend(&proof);
        let flip = bit.index(bytes.len() * 256);
        bytes[flip / 256][flip % 256 / 8] ^= 1 << (flip % 8);
        prop_assert!(check(index as u64, size, &bytes[0], &bytes[2..], &bytes[1]).is_err());
        for other in 0..size {
            if other != index as u64 {
                prop_assert!(check(other, size, &all[index], &proof, &root).is_err());
            }
        }
        prop_assert!(check(size, size, &all[index], &proof, &root).is_err());
        let mut longer = proof.clone();
        longer.push([0; 32]);
        prop_assert!(check(index as u64, size, &all[index], &longer, &root).is_err());
        if let Some((_, shorter)) = proof.split_last() {
            prop_assert!(check(index as u64, size, &all[index], shorter, &root).is_err());
        }
    }

    #[test]
    fn consistency_verifies_and_any_flipped_bit_fails(
        second in 1u64..300, at in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>(),
    ) {
        let all = leaves(second);
        let first = at.index(all.len()) as u64 + 1;
        let roots = [root_by_definition(&all[..usize::try_from(first).unwrap()]), root_by_definition(&all)];
        let proof = prove_consistency(first, second, node_of(&all)).unwrap();
        prop_assert_eq!(verify_consistency(first, second, &roots[0], &roots[1], &proof), Ok(()));
        let mut bytes: Vec<Hash> = roots.to_vec();
        bytes.extend(&proof);
        let flip = bit.index(bytes.len() * 256);
        bytes[flip / 256][flip % 256 / 8] ^= 1 << (flip % 8);
        prop_assert!(verify_consistency(first, second, &bytes[0], &bytes[1], &bytes[2..]).is_err());
        prop_assert!(verify_consistency(second + 1, second, &roots[0], &roots[1], &proof).is_err());
    }

    #[test]
    fn tile_paths_come_back(index in any::<u64>(), width in 1u16..=256, level in 0u8..9) {
        let kind = if level == 8 { TileKind::Entries } else { TileKind::Hashes(level) };
        let tile = TileId { kind, index, width };
        prop_assert_eq!(TileId::parse(&tile.to_string()), Ok(tile));
    }

    #[test]
    fn a_note_of_any_bytes_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _any = Note::parse(&bytes);
        let _any = TileId::parse(&String::from_utf8_lossy(&bytes));
        let _any = Checkpoint::parse_text(&String::from_utf8_lossy(&bytes));
        let _any = VerifierKey::parse(&String::from_utf8_lossy(&bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn tiles_written_step_by_step_give_every_node(steps in prop::collection::vec(1u64..400, 1..4)) {
        let mut log = Log::default();
        let mut saved = None;
        for step in steps {
            let from = log.tree.size();
            log.append((from..from + step).map(|i| format!("entry {i}").into_bytes()).collect());
            let report = walk(
                Walk { checkpoint: &log.checkpoint(), saved: &saved.iter().collect::<Vec<_>>() },
                |tile| log.read(tile),
            );
            prop_assert_eq!(report.unwrap().root, log.tree.root());
            saved = Some(log.checkpoint());
        }
        let size = log.tree.size();
        let mut tile = |id: TileId| {
            decode_tile(&log.files[&id], usize::from(id.width)).ok_or("short")
        };
        let root = root_of(size, |level, index| node_in_tile(size, level, index, &mut tile, |_| "short"));
        prop_assert_eq!(root, Ok(log.tree.root()));
    }

    /// Any changed byte of any file of a log is noticed; in a bundle, at the entry that it is in.
    #[test]
    fn any_changed_byte_of_a_log_is_found(
        size in 1u64..600, file in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let mut log = Log::of(size);
        let checkpoint = log.checkpoint();
        let needed: Vec<TileId> = new_tiles(0, size);
        let tile = needed[file.index(needed.len())];
        let bytes = log.files.get_mut(&tile).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let found = walk(Walk { checkpoint: &checkpoint, saved: &[] }, |t| log.read(t));
        prop_assert!(found.is_err(), "{tile} byte {at}");
    }
}

#[test]
fn the_first_bad_entry_is_named() {
    let good = Log::of(300);
    let checkpoint = good.checkpoint();
    let bundle = TileId { kind: TileKind::Entries, index: 1, width: 44 };
    let found = |log: &Log| walk(Walk { checkpoint: &checkpoint, saved: &[] }, |t| log.read(t)).unwrap_err();
    let with = |entries: &[Vec<u8>]| {
        let mut log = good.clone();
        log.files.insert(bundle, encode_bundle(entries).unwrap());
        log
    };
    let second = &good.entries[256..];

    let mut changed = second.to_vec();
    changed[4] = b"entry 261".to_vec();
    let WalkError::Entry { index, belongs_at, .. } = found(&with(&changed)) else { panic!("changed") };
    assert_eq!((index, belongs_at), (260, Some(261)));

    let mut swapped = second.to_vec();
    swapped.swap(7, 9);
    let WalkError::Entry { index, belongs_at, .. } = found(&with(&swapped)) else { panic!("swapped") };
    assert_eq!((index, belongs_at), (263, Some(265)));

    let mut deleted = second.to_vec();
    deleted.remove(20);
    let WalkError::Entry { index, belongs_at, .. } = found(&with(&deleted)) else { panic!("deleted") };
    assert_eq!((index, belongs_at), (276, Some(277)));

    let cut = &second[..43];
    let WalkError::Bundle { index, .. } = found(&with(cut)) else { panic!("cut") };
    assert_eq!(index, 299);

    let mut gone = good.clone();
    gone.files.remove(&bundle);
    let WalkError::Missing { first_entry, .. } = found(&gone) else { panic!("gone") };
    assert_eq!(first_entry, 256);
}

#[test]
fn a_log_set_back_or_forked_is_noticed_with_a_saved_checkpoint() {
    let (short, long) = (Log::of(10), Log::of(300));
    let saved = long.checkpoint();
    let set_back = walk(Walk { checkpoint: &short.checkpoint(), saved: &[&saved] }, |t| short.read(t));
    assert_eq!(set_back, Err(WalkError::Shorter { size: 10, saved: 300 }));

    let mut fork = Log::of(5);
    fork.append((0..300).map(|i| format!("other {i}").into_bytes()).collect());
    let forked = walk(Walk { checkpoint: &fork.checkpoint(), saved: &[&saved] }, |t| fork.read(t));
    assert_eq!(forked, Err(WalkError::Fork { saved: 300 }));
    let same = walk(Walk { checkpoint: &long.checkpoint(), saved: &[&short.checkpoint()] }, |t| long.read(t));
    assert_eq!(same.unwrap().continues, Some(10));
    // Each of several counts, whatever their order.
    let (good, bad) = (short.checkpoint(), Checkpoint { root: [9; 32], size: 7, ..short.checkpoint() });
    for saved in [[&good, &bad], [&bad, &good]] {
        let several = walk(Walk { checkpoint: &long.checkpoint(), saved: &saved }, |t| long.read(t));
        assert!(matches!(several, Err(WalkError::Fork { saved: 7 })), "{several:?}");
    }
}

#[test]
fn a_log_of_seventy_thousand_has_three_rows_of_tiles() {
    let tiles = new_tiles(0, 70_000);
    let of = |kind| tiles.iter().filter(move |t| t.kind == kind).collect::<Vec<_>>();
    assert_eq!(of(TileKind::Entries).len(), 274);
    assert_eq!(of(TileKind::Hashes(0)).len(), 274);
    assert_eq!(of(TileKind::Hashes(1)).len(), 2);
    assert_eq!(of(TileKind::Hashes(2)), [&TileId { kind: TileKind::Hashes(2), index: 0, width: 1 }]);
    assert!(new_tiles(70_000, 70_000).is_empty());
    let more: Vec<String> = new_tiles(70_000, 70_001).iter().map(ToString::to_string).collect();
    assert_eq!(more, ["tile/entries/273.p/113", "tile/0/273.p/113"]);
}

#[test]
fn odd_paths_name_no_tile() {
    // The example of C2SP tlog-tiles.
    let tile = TileId { kind: TileKind::Hashes(0), index: 1_234_067, width: 8 };
    assert_eq!(tile.to_string(), "tile/0/x001/x234/067.p/8");
    for bad in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/8/000",
        "tile/00/000",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000",
        "tile/0/x000/001",
        "tile/0/001/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/08",
        "tile/-1/000",
        "tile/0/+01",
        "tile/data/000",
        "tile/entries/../000",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/000.p/",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/x001/x234/067.p/8/..",
    ] {
        assert!(TileId::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_checkpoint_is_signed_and_read_back_and_no_flipped_bit_passes() {
    let signer = signer();
    let key = VerifierKey::parse(&signer.verifier().to_string()).unwrap();
    assert_eq!(&key, signer.verifier());
    let checkpoint = Checkpoint::new("legate.example/log", 300, leaf_hash(b"x"));
    let note = checkpoint.sign(&signer).unwrap().to_string();
    assert_eq!(Checkpoint::open(note.as_bytes(), &key, "legate.example/log"), Ok(checkpoint));
    for bit in 0..note.len() * 8 {
        let mut bad = note.clone().into_bytes();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Checkpoint::open(&bad, &key, "legate.example/log").is_err(), "bit {bit}");
    }
    let stranger = SeedSigner::new("legate.example/log", &[8; 32]).unwrap();
    let other = Checkpoint::open(note.as_bytes(), stranger.verifier(), "legate.example/log");
    assert!(matches!(other, Err(CheckpointError::Note(NoteError::Unsigned(_)))));
    assert!(!format!("{signer:?}").contains("07070707"));
}

#[test]
fn only_the_shortest_form_of_a_checkpoint_is_read() {
    let root = "rKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=";
    assert!(Checkpoint::parse_text(&format!("o\n15\n{root}\nmore\n")).is_ok());
    for bad in [
        "\n15\nR\n",
        "o\n015\nR\n",
        "o\n+15\nR\n",
        "o\n-1\nR\n",
        "o\n15\nR",
        "o\n15\nR\n\n",
        "o\n15\n",
        "o\n15\nAAAA\n",
    ] {
        assert!(Checkpoint::parse_text(&bad.replace('R', root)).is_err(), "{bad:?}");
    }
}

#[test]
fn keys_that_prove_nothing_are_refused() {
    let good = signer().verifier().to_string();
    let weak = [1u8].into_iter().chain([0; 31]).collect::<Vec<_>>();
    assert!(VerifierKey::new("n", weak.as_slice().try_into().unwrap()).is_err());
    assert!(VerifierKey::new("a b", &[7; 32]).is_err());
    assert!(VerifierKey::parse(&good.replace("log+", "logg+")).is_err());
    assert!(VerifierKey::parse(&good.to_uppercase()).is_err());
    assert!(VerifierKey::parse(&format!("{good}=")).is_err());
}
