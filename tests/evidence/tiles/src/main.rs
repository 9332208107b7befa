//! Our log against crates `tlog_tiles` and `signed_note`, ports of Go's that know nothing of ours.
//!
//! Without arguments the arithmetic: 70,000 leaves, every tile, and proofs both ways. With a log's directory and the file of its key the log itself,
//! as its collector wrote it: their signature check, their reader of tiles, every entry.

use std::collections::BTreeMap;

use legate_merkle::{
    Frontier, Hash, TileId, TileKind, encode_tile, leaf_hash, new_tiles, node_in_tile, prove_consistency,
    prove_inclusion, root_of, verify_consistency, verify_inclusion,
};
use tlog_tiles as theirs;

mod log;

const LEAVES: u64 = 70_000;
/// Sizes at which trees are looked at: around powers of two and of 256, and in between.
const SIZES: [u64; 19] =
    [1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 4_095, 4_097, 20_000, 65_535, 65_536, 65_537, 65_793, 69_999, LEAVES];

/// Their tree: every node in the order in which it came to be.
struct Stored(Vec<theirs::Hash>);

impl theirs::HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<theirs::Hash>, theirs::Error> {
        let at = |index: &u64| self.0.get(usize::try_from(*index).unwrap()).copied();
        indexes.iter().map(at).collect::<Option<_>>().ok_or(theirs::Error::IndexesNotInTree)
    }
}

fn plain(all: &[theirs::Hash]) -> Vec<Hash> {
    all.iter().map(|hash| hash.0).collect()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [] => arithmetic(),
        [dir, key] => log::read_all(dir.as_ref(), key.as_ref()),
        _ => panic!("give nothing, or a log's directory and the file of its key"),
    }
}

fn arithmetic() {
    let (mut stored, mut tree, mut leaves, mut roots) =
        (Stored(Vec::new()), Frontier::new(), Vec::new(), BTreeMap::new());
    for n in 0..LEAVES {
        let entry = format!("entry {n}");
        let new = theirs::stored_hashes(n, entry.as_bytes(), &stored).unwrap();
        stored.0.extend(new);
        leaves.push(leaf_hash(entry.as_bytes()));
        tree.push(leaf_hash(entry.as_bytes()));
        if SIZES.contains(&(n + 1)) {
            roots.insert(n + 1, tree.root());
        }
    }

    // Every tile, by name and by content; ours are made from the leaves, theirs from their nodes.
    let mut tiles: BTreeMap<TileId, Vec<Hash>> = BTreeMap::new();
    let hashes = |tile: &TileId| matches!(tile.kind, TileKind::Hashes(_));
    for tile in new_tiles(0, LEAVES).into_iter().filter(hashes) {
        let TileKind::Hashes(level) = tile.kind else { unreachable!() };
        let first = usize::try_from(tile.index * 256).unwrap();
        let row: Vec<Hash> = match level {
            0 => leaves[first..first + usize::from(tile.width)].to_vec(),
            _ => (0..u64::from(tile.width)).map(|n| below(&tiles, level - 1, tile.index * 256 + n)).collect(),
        };
        // Go's names say the height as well.
        let other = theirs::Tile::from_path(&tile.to_string().replacen("tile/", "tile/8/", 1)).unwrap();
        assert_eq!((other.level(), other.level_index(), other.width()), (level, tile.index, u32::from(tile.width)));
        assert_eq!(encode_tile(&row), other.read_data(&stored).unwrap(), "{tile}");
        tiles.insert(tile, row);
    }

    assert_eq!(tiles.len(), theirs::Tile::new_tiles(8, 0, LEAVES).len());

    let node = |level, index| {
        let mut read = |id: TileId| tiles.get(&id).cloned().ok_or(());
        node_in_tile(LEAVES, level, index, &mut read, |_| ())
    };
    let mut proofs = 0;
    for (size, root) in &roots {
        assert_eq!(theirs::tree_hash(*size, &stored).unwrap().0, *root, "the root of {size}");
        assert_eq!(root_of(*size, node), Ok(*root));
        for index in (0..*size).step_by(usize::try_from(size / 37 + 1).unwrap()).chain([size - 1]) {
            let leaf = leaves[usize::try_from(index).unwrap()];
            let (ours, other) = (prove_inclusion(index, *size, node), theirs::prove_record(*size, index, &stored));
            assert_eq!(ours.as_ref().unwrap(), &plain(other.as_ref().unwrap()), "leaf {index} of {size}");
            verify_inclusion(index, *size, &leaf, &plain(&other.unwrap()), root).unwrap();
            let ours: Vec<theirs::Hash> = ours.unwrap().into_iter().map(theirs::Hash).collect();
            theirs::check_record(&ours, *size, theirs::Hash(*root), index, theirs::Hash(leaf)).unwrap();
            assert!(
                theirs::check_record(&ours, *size, theirs::Hash(*root), index, theirs::Hash(leaf_hash(b"another")))
                    .is_err()
            );
            proofs += 1;
        }
        for (earlier, before) in roots.range(..=size) {
            let (ours, other) =
                (prove_consistency(*earlier, *size, node), theirs::prove_tree(*size, *earlier, &stored));
            assert_eq!(ours.as_ref().unwrap(), &plain(other.as_ref().unwrap()), "{earlier} to {size}");
            verify_consistency(*earlier, *size, before, root, &plain(&other.unwrap())).unwrap();
            let ours: Vec<theirs::Hash> = ours.unwrap().into_iter().map(theirs::Hash).collect();
            theirs::check_tree(&ours, *size, theirs::Hash(*root), *earlier, theirs::Hash(*before)).unwrap();
            proofs += 1;
        }
    }
    println!(
        "tlog_tiles: {LEAVES} leaves, {} tiles, {} roots and {proofs} proofs are the same",
        tiles.len(),
        roots.len()
    );
}

/// The hash over a full tile.
fn below(tiles: &BTreeMap<TileId, Vec<Hash>>, level: u8, index: u64) -> Hash {
    let row = &tiles[&TileId { kind: TileKind::Hashes(level), index, width: 256 }];
    let mut tree = Frontier::new();
    row.iter().for_each(|hash| tree.push(*hash));
    tree.root()
}
