//! Offline verification: every entry against its tile, every tile against the one above, all against the root.

use alloc::vec::Vec;

use crate::tile::fold;
use crate::{
    BundleError, Checkpoint, Frontier, Hash, TILE_WIDTH, TileId, TileKind, decode_bundle, decode_tile, leaf_hash,
    new_tiles,
};

/// What a log is held against.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    /// The newest checkpoint, its signature checked.
    pub checkpoint: &'a Checkpoint,
    /// Earlier checkpoints: what the auditor kept, what witnesses cosigned. Their signatures are checked.
    pub saved: &'a [&'a Checkpoint],
}

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkReport {
    /// Entries, all of them.
    pub entries: u64,
    /// The root over them, equal to the checkpoint's.
    pub root: Hash,
    /// The size of the largest saved checkpoint; the log continues all of them.
    pub continues: Option<u64>,
}

/// The first thing that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError<E> {
    /// The log is shorter than it was: its tail was cut, or it was set back to an older copy.
    #[error("the log has {size} entries and had {saved}: its tail was cut or it was set back")]
    Shorter {
        /// The checkpoint's size.
        size: u64,
        /// The saved checkpoint's size.
        saved: u64,
    },
    /// A file could not be had. Of entries: all from `first_entry` on that the checkpoint counts are doubtful.
    #[error("{tile} cannot be read: {why}")]
    Missing {
        /// The tile or bundle.
        tile: TileId,
        /// The first entry under it.
        first_entry: u64,
        /// What the reader said.
        why: E,
    },
    /// A bundle is not one.
    #[error("{tile}: {why}; entry {index} is the first that cannot be read")]
    Bundle {
        /// The bundle.
        tile: TileId,
        /// The first entry that cannot be read.
        index: u64,
        /// What is wrong.
        why: BundleError,
    },
    /// A tile has not the size it must have.
    #[error("{tile} has not {} hashes", tile.width)]
    Tile {
        /// The tile.
        tile: TileId,
    },
    /// An entry is not what its hash says.
    #[error("entry {index} is not the one that was logged")]
    Entry {
        /// The entry.
        index: u64,
        /// Its bytes, as found.
        found: Vec<u8>,
        /// Where its hash would be right, if it is the hash of another entry of the same bundle.
        belongs_at: Option<u64>,
    },
    /// A hash is not that of the tile below it.
    #[error("hash {position} of {tile} is not that of the tile below it (entries {first_entry} to {last_entry})")]
    Node {
        /// The upper tile.
        tile: TileId,
        /// Which hash of it.
        position: u64,
        /// The first entry under it.
        first_entry: u64,
        /// The last entry under it.
        last_entry: u64,
    },
    /// The entries do not make the root that was signed.
    #[error("the entries do not make the root that the checkpoint of size {size} signs")]
    Root {
        /// The checkpoint's size.
        size: u64,
    },
    /// The log is not a continuation of the saved one: it was rewritten before the saved checkpoint's size.
    #[error("the first {saved} entries are not those of the saved checkpoint: the log was rewritten or forked")]
    Fork {
        /// The saved checkpoint's size.
        saved: u64,
    },
}

/// Verifies a log. `read` gives the bytes of a tile or bundle by its name.
///
/// # Errors
/// [`WalkError`]: the first thing that is wrong, lowest entry first.
pub fn walk<E>(task: Walk<'_>, mut read: impl FnMut(TileId) -> Result<Vec<u8>, E>) -> Result<WalkReport, WalkError<E>> {
    let size = task.checkpoint.size;
    let continues = task.saved.iter().map(|saved| saved.size).max();
    if let Some(saved) = continues.filter(|saved| *saved > size) {
        return Err(WalkError::Shorter { size, saved });
    }
    let mut tree = Frontier::new();
    // Lowest first, so that of two forks the earlier is the one named.
    let mut forks: Vec<u64> = Vec::new();
    let mut hold = |tree: &Frontier| {
        let here = task.saved.iter().filter(|saved| saved.size == tree.size());
        forks.extend(here.filter(|saved| saved.root != tree.root()).map(|saved| saved.size));
    };
    hold(&tree);
    let all = new_tiles(0, size);
    for bundle in all.iter().filter(|t| t.kind == TileKind::Entries) {
        let row = TileId { kind: TileKind::Hashes(0), ..*bundle };
        let hashes = read_tile(row, &mut read)?;
        for hash in entries(*bundle, &hashes, &mut read)? {
            tree.push(hash);
            hold(&tree);
        }
    }
    for tile in all.iter().filter(|t| matches!(t.kind, TileKind::Hashes(level) if level > 0)) {
        upper(*tile, &mut read)?;
    }
    let root = tree.root();
    if root != task.checkpoint.root {
        return Err(WalkError::Root { size });
    }
    if let Some(saved) = forks.first() {
        return Err(WalkError::Fork { saved: *saved });
    }
    Ok(WalkReport { entries: size, root, continues })
}

/// How many entries one hash of a row stands over.
fn span(level: u8) -> u64 {
    1u64.checked_shl(u32::from(level) * crate::TILE_HEIGHT).unwrap_or(u64::MAX)
}

fn first_entry(tile: TileId) -> u64 {
    let each = match tile.kind {
        TileKind::Entries => 1,
        TileKind::Hashes(level) => span(level),
    };
    (tile.index * TILE_WIDTH).saturating_mul(each)
}

fn read_bytes<E>(tile: TileId, read: &mut impl FnMut(TileId) -> Result<Vec<u8>, E>) -> Result<Vec<u8>, WalkError<E>> {
    read(tile).map_err(|why| WalkError::Missing { tile, first_entry: first_entry(tile), why })
}

fn read_tile<E>(tile: TileId, read: &mut impl FnMut(TileId) -> Result<Vec<u8>, E>) -> Result<Vec<Hash>, WalkError<E>> {
    let bytes = read_bytes(tile, read)?;
    decode_tile(&bytes, usize::from(tile.width)).ok_or(WalkError::Tile { tile })
}

/// The hashes of a bundle's entries, each compared with the tile's.
fn entries<E>(
    bundle: TileId,
    hashes: &[Hash],
    read: &mut impl FnMut(TileId) -> Result<Vec<u8>, E>,
) -> Result<Vec<Hash>, WalkError<E>> {
    let first = first_entry(bundle);
    let bytes = read_bytes(bundle, read)?;
    // A bundle that breaks off is still compared up to there, so that the first bad entry is the one named.
    let decoded = decode_bundle(&bytes, usize::from(bundle.width));
    let readable = match &decoded {
        Ok(_) | Err(BundleError::Trailing(_)) => usize::from(bundle.width),
        Err(BundleError::Cut(i) | BundleError::TooLong(i)) => *i,
    };
    let mut rest = bytes.as_slice();
    let mut out = Vec::with_capacity(hashes.len());
    for (index, wanted) in (first..).zip(hashes).take(readable) {
        let Some((len, tail)) = rest.split_first_chunk::<2>() else { break };
        let Some((entry, tail)) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len))) else { break };
        rest = tail;
        let hash = leaf_hash(entry);
        if hash != *wanted {
            let belongs_at = hashes.iter().position(|h| *h == hash).map(|at| first + at as u64);
            return Err(WalkError::Entry { index, found: entry.to_vec(), belongs_at });
        }
        out.push(hash);
    }
    match decoded {
        Ok(_) => Ok(out),
        Err(why) => Err(WalkError::Bundle { tile: bundle, index: first + readable as u64, why }),
    }
}

/// Compares each hash of an upper tile with the full tile below it.
fn upper<E>(tile: TileId, read: &mut impl FnMut(TileId) -> Result<Vec<u8>, E>) -> Result<(), WalkError<E>> {
    let TileKind::Hashes(level) = tile.kind else { return Ok(()) };
    let hashes = read_tile(tile, read)?;
    for (position, hash) in (0u64..).zip(&hashes) {
        let index = tile.index * TILE_WIDTH + position;
        let below = TileId { kind: TileKind::Hashes(level - 1), index, width: 256 };
        if fold(&read_tile(below, read)?) != *hash {
            let first_entry = index.saturating_mul(span(level));
            let last_entry = first_entry.saturating_add(span(level) - 1);
            return Err(WalkError::Node { tile, position, first_entry, last_entry });
        }
    }
    Ok(())
}
