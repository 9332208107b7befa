//! Tiles (C2SP tlog-tiles): rows of 256 hashes, their names, and which ones a growing tree needs.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::{Hash, node_hash};

/// How many levels of the tree a tile stands for.
pub const TILE_HEIGHT: u32 = 8;

/// How many hashes, or entries, a full tile has.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// The entries themselves.
    Entries,
    /// Hashes of the nodes at tree level 8 * L, for L of 0 to 7.
    Hashes(u8),
}

/// The name of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// What it holds.
    pub kind: TileKind,
    /// Its place in its row.
    pub index: u64,
    /// How many hashes or entries: 1 to 256; below 256 it is partial.
    pub width: u16,
}

/// A path that names no tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile")]
pub struct PathError;

impl TileId {
    /// Whether it has all 256 hashes or entries and so never changes.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.width as u64 == TILE_WIDTH
    }

    /// Reads a path such as `tile/0/x001/x234/067.p/8`.
    ///
    /// # Errors
    /// [`PathError`] for anything that [`TileId`]'s `Display` would not have written.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        let rest = path.strip_prefix("tile/").ok_or(PathError)?;
        let (kind, rest) = rest.split_once('/').ok_or(PathError)?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            digit => TileKind::Hashes(digit.parse().ok().filter(|l| *l < 8).ok_or(PathError)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().map_err(|_| PathError)?),
            None => (rest, 256),
        };
        let mut index: u64 = 0;
        for part in number.split('/') {
            let digits = part.strip_prefix('x').unwrap_or(part);
            let three: u64 = digits.parse().map_err(|_| PathError)?;
            index = index.checked_mul(1_000).and_then(|i| i.checked_add(three)).ok_or(PathError)?;
        }
        let id = Self { kind, index, width };
        // One name for each tile: leading zeros, signs, a wrong `x` and widths out of range do not come back.
        if width == 0 || width > 256 || alloc::format!("{id}") != path {
            return Err(PathError);
        }
        Ok(id)
    }
}

/// The path, relative to the log.
impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => f.write_str("tile/entries/")?,
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        let mut parts = Vec::new();
        let mut rest = self.index;
        loop {
            parts.push(rest % 1_000);
            rest /= 1_000;
            if rest == 0 {
                break;
            }
        }
        for part in parts[1..].iter().rev() {
            write!(f, "x{part:03}/")?;
        }
        write!(f, "{:03}", parts[0])?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// The tiles and bundles that the tree of `new` leaves has and that of `old` leaves has not, entries and lower levels
/// first. Writing them in this order and the checkpoint last makes every checkpoint complete.
#[must_use]
pub fn new_tiles(old: u64, new: u64) -> Vec<TileId> {
    let mut tiles = Vec::new();
    let mut row = |kind, old: u64, new: u64| {
        let mut index = old / TILE_WIDTH;
        while index * TILE_WIDTH < new && old < new {
            let width = (new - index * TILE_WIDTH).min(TILE_WIDTH);
            tiles.push(TileId { kind, index, width: u16::try_from(width).unwrap_or(256) });
            index += 1;
        }
    };
    row(TileKind::Entries, old, new);
    for level in 0..8u8 {
        let shift = u32::from(level) * TILE_HEIGHT;
        row(TileKind::Hashes(level), old >> shift, new >> shift);
    }
    tiles
}

/// Puts hashes into a tile.
#[must_use]
pub fn encode_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

/// Takes exactly `width` hashes out of a tile.
#[must_use]
pub fn decode_tile(bytes: &[u8], width: usize) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && hashes.len() == width).then(|| hashes.to_vec())
}

/// Where the node at tree level `level` and `index` is found: the tile's level and index, and the row of hashes in it
/// that the node stands over. All of them lie in one tile.
fn place(level: u32, index: u64) -> (u8, u64, usize, usize) {
    let within = level % TILE_HEIGHT;
    let first = index << within;
    let start = usize::try_from(first % TILE_WIDTH).unwrap_or(0);
    (u8::try_from(level / TILE_HEIGHT).unwrap_or(u8::MAX), first / TILE_WIDTH, start, 1 << within)
}

/// The hash of the node at tree level `level` and `index` of a tree of `size` leaves, out of the tile that holds it.
/// Gives [`crate::root_of`] and the proofs their nodes: `tile` reads a tile.
///
/// # Errors
/// What `tile` fails with, also when what it gives has not the tile's width: then with what `short` makes.
pub fn node_in_tile<E>(
    size: u64,
    level: u32,
    index: u64,
    tile: &mut impl FnMut(TileId) -> Result<Vec<Hash>, E>,
    short: impl FnOnce(TileId) -> E,
) -> Result<Hash, E> {
    let (tile_level, tile_index, start, count) = place(level, index);
    let row = size >> (u32::from(tile_level) * TILE_HEIGHT);
    let width = row.saturating_sub(tile_index * TILE_WIDTH).min(TILE_WIDTH);
    let id =
        TileId { kind: TileKind::Hashes(tile_level), index: tile_index, width: u16::try_from(width).unwrap_or(256) };
    let hashes = tile(id)?;
    let Some(row) = hashes.get(start..start + count) else {
        return Err(short(id));
    };
    Ok(fold(row))
}

/// The root over a complete row.
pub(crate) fn fold(row: &[Hash]) -> Hash {
    match row {
        [] => crate::empty_root(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            node_hash(&fold(left), &fold(right))
        }
    }
}

/// For [`fmt::Display`] into a path.
impl From<TileId> for String {
    fn from(id: TileId) -> Self {
        alloc::format!("{id}")
    }
}
