//! A log in its directory, read by `tlog_tiles` and `signed_note`: of ours there is nothing here, and only files are opened.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{
    Checkpoint, Error, Hash, HashReader as _, Tile, TileHashReader, TileReader, check_record, check_tree, prove_record,
    prove_tree, record_hash, stored_hash_index, tree_hash,
};

/// Entries in a bundle.
const WIDTH: u64 = 256;

/// The files of a log; one byte of a tile can be changed on the way.
struct Files<'a> {
    dir: &'a Path,
    change: Cell<Option<(u8, u64)>>,
}

/// The file of a tile: without the height, which C2SP leaves out, and cut out of the full one where the partial one is gone.
fn path_of(tile: Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1).replacen("tile/data/", "tile/entries/", 1)
}

fn read(dir: &Path, tile: Tile) -> Vec<u8> {
    fs::read(dir.join(path_of(tile))).unwrap_or_else(|_| {
        let full = Tile::new(tile.height(), tile.level(), tile.level_index(), 256, tile.is_data());
        fs::read(dir.join(path_of(full))).unwrap_or_else(|e| panic!("{}: {e}", path_of(tile)))
    })
}

impl TileReader for Files<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let one = |tile: &Tile| {
            let mut bytes = read(self.dir, *tile);
            bytes.truncate(32 * tile.width() as usize);
            if self.change.get() == Some((tile.level(), tile.level_index())) {
                bytes[7] ^= 1;
            }
            bytes
        };
        Ok(tiles.iter().map(one).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

/// The entries of a bundle, each behind its length in two bytes (C2SP tlog-tiles, "Log Entries").
fn entries(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut all, mut rest) = (Vec::new(), bytes);
    while let Some(([high, low], behind)) = rest.split_first_chunk::<2>() {
        let (entry, behind) = behind.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        all.push(entry);
        rest = behind;
    }
    all
}

fn verify(dir: &Path, key: &Path) -> (u64, u64) {
    let key = fs::read_to_string(key).unwrap();
    let note = Note::from_bytes(&fs::read(dir.join("checkpoint")).unwrap()).unwrap();
    let verifiers = || VerifierList::new(vec![Box::new(StandardVerifier::new(key.trim()).unwrap())]);
    let (by, _) = note.verify(&verifiers()).unwrap();
    assert_eq!(by.len(), 1, "the log's key signed its checkpoint");
    let signed = Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(key.split('+').next(), Some(signed.origin()));
    let (size, root) = (signed.size(), *signed.hash());

    let files = Files { dir, change: Cell::new(None) };
    let tree = TileHashReader::new(size, root, &files);
    assert_eq!(tree_hash(size, &tree).unwrap(), root);
    // Every entry is the one of its leaf, which their reader proves to be under the root.
    for bundle in 0..size.div_ceil(WIDTH) {
        let first = bundle * WIDTH;
        let width = (size - first).min(WIDTH);
        let mut data = Tile::new(8, 0, bundle, width as u32, false);
        data.set_is_data();
        let bytes = read(dir, data);
        let indexes: Vec<u64> = (first..first + width).map(|leaf| stored_hash_index(0, leaf)).collect();
        let leaves = tree.read_hashes(&indexes).unwrap();
        let found: Vec<Hash> = entries(&bytes).into_iter().take(width as usize).map(record_hash).collect();
        assert_eq!(found, leaves, "the entries from {first} on");
    }
    let mut proofs = 0;
    for leaf in (0..size).step_by((size / 50 + 1) as usize).chain([size - 1]) {
        let proof = prove_record(size, leaf, &tree).unwrap();
        let hash = tree.read_hashes(&[stored_hash_index(0, leaf)]).unwrap()[0];
        check_record(&proof, size, root, leaf, hash).unwrap();
        let earlier = tree_hash(leaf + 1, &tree).unwrap();
        check_tree(&prove_tree(size, leaf + 1, &tree).unwrap(), size, root, leaf + 1, earlier).unwrap();
        proofs += 2;
    }
    // And it would say so if a byte of a tile were another one.
    files.change.set(Some((0, 0)));
    assert!(tree.read_hashes(&[stored_hash_index(0, 0)]).is_err(), "a changed tile is read as if it were not");
    (size, proofs)
}

/// Reads and verifies a whole log by its key.
pub fn read_all(dir: &Path, key: &Path) {
    let (size, proofs) = verify(dir, key);
    println!("tlog_tiles: the log of {size} entries is read by others and holds, with {proofs} proofs of it");
}
