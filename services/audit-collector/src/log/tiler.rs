//! Turns leaves into bundles and tiles, a row at a time.

use std::collections::VecDeque;
use std::io;

use legate_merkle::{Frontier, Hash, TILE_WIDTH, TileId, TileKind, encode_bundle, encode_tile, leaf_hash, node_hash};

use super::files::{Files, Found, Put};

/// How many rows of tiles a tree of 2^64 leaves has.
const ROWS: usize = 8;

/// The tree and the ends of its rows, in memory; everything before is in files.
#[derive(Debug)]
pub(super) struct Tiler {
    files: Files,
    tree: Frontier,
    /// The last, partial tile of each row.
    rows: [Vec<Hash>; ROWS],
    /// The last, partial bundle.
    entries: Vec<Vec<u8>>,
    /// Full tiles that are not written yet.
    pending: VecDeque<(TileId, Vec<u8>)>,
    /// Full tiles that are other than the files, which are not touched yet.
    doubtful: Vec<(TileId, Vec<u8>)>,
    doubtful_bytes: usize,
    /// Full tiles of which a part was never written, by their names alone: there may be many, and they can be made again.
    torn: Vec<TileId>,
    /// Full tiles whose partial forms can go once a checkpoint covers them.
    filled: Vec<TileId>,
    /// Files that were there and wrong.
    replaced: Vec<TileId>,
}

impl Tiler {
    pub(super) fn new(files: Files) -> Self {
        Self {
            files,
            tree: Frontier::new(),
            rows: Default::default(),
            entries: Vec::new(),
            pending: VecDeque::new(),
            doubtful: Vec::new(),
            doubtful_bytes: 0,
            torn: Vec::new(),
            filled: Vec::new(),
            replaced: Vec::new(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.tree.size()
    }

    pub(super) fn root(&self) -> Hash {
        self.tree.root()
    }

    /// Tiles that were replaced since this was last asked, in the order they were found.
    pub(super) fn take_replaced(&mut self) -> Vec<TileId> {
        std::mem::take(&mut self.replaced)
    }

    /// Takes the next leaf; nothing is written yet.
    pub(super) fn push(&mut self, leaf: Vec<u8>) -> io::Result<()> {
        let hash = leaf_hash(&leaf);
        self.push_hashed(leaf, hash)
    }

    /// Takes the next leaf, whose hash is known already.
    pub(super) fn push_hashed(&mut self, leaf: Vec<u8>, leaf_hash: Hash) -> io::Result<()> {
        self.entries.push(leaf);
        if self.entries.len() as u64 == TILE_WIDTH {
            let bundle = encode_bundle(&self.entries).map_err(io::Error::other)?;
            let index = self.tree.size() / TILE_WIDTH;
            self.pending.push_back((TileId { kind: TileKind::Entries, index, width: 256 }, bundle));
            self.entries.clear();
        }
        let mut hash = leaf_hash;
        let mut count = self.tree.size();
        for (level, row) in (0u8..).zip(&mut self.rows) {
            row.push(hash);
            if (row.len() as u64) < TILE_WIDTH {
                break;
            }
            let tile = TileId { kind: TileKind::Hashes(level), index: count / TILE_WIDTH, width: 256 };
            self.pending.push_back((tile, encode_tile(row)));
            hash = fold(row);
            row.clear();
            count /= TILE_WIDTH;
        }
        self.tree.push(leaf_hash);
        Ok(())
    }

    /// Holds the tiles that became full against those that are there. Missing ones are written; those that are different
    /// stay as they are until somebody has decided which is right: [`Tiler::write_full`] writes them.
    pub(super) fn hold_against_files(&mut self) -> io::Result<()> {
        for (tile, bytes) in std::mem::take(&mut self.pending) {
            match self.files.look(tile, &bytes)? {
                Found::Same => {}
                Found::Missing => {
                    self.files.put(tile, &bytes)?;
                    self.filled.push(tile);
                }
                Found::Torn => self.torn.push(tile),
                Found::Different => {
                    self.doubtful_bytes += bytes.len();
                    self.doubtful.push((tile, bytes));
                }
            }
        }
        Ok(())
    }

    /// How many bytes of tiles are different from the files.
    pub(super) fn doubtful_bytes(&self) -> usize {
        self.doubtful_bytes
    }

    /// The tree was verified: files that are different are to be written again.
    pub(super) fn trust_the_tree(&mut self) {
        self.pending.extend(self.doubtful.drain(..));
        self.doubtful_bytes = 0;
    }

    /// Tiles of which a part was never written, since this was last asked; those that others are made of come first.
    pub(super) fn take_torn(&mut self) -> Vec<TileId> {
        std::mem::take(&mut self.torn)
    }

    /// Writes a full tile that was made again.
    pub(super) fn mend(&mut self, tile: TileId, bytes: &[u8]) -> io::Result<()> {
        if self.files.put(tile, bytes)? == Put::Replaced {
            self.replaced.push(tile);
        }
        self.filled.push(tile);
        Ok(())
    }

    /// Writes the tiles that became full. After an error, call it again.
    pub(super) fn write_full(&mut self) -> io::Result<()> {
        while let Some((tile, bytes)) = self.pending.front() {
            if self.files.put(*tile, bytes)? == Put::Replaced {
                self.replaced.push(*tile);
            }
            self.filled.push(*tile);
            self.pending.pop_front();
        }
        Ok(())
    }

    /// Writes everything, the partial ends of the rows too.
    pub(super) fn write_all(&mut self) -> io::Result<()> {
        self.write_full()?;
        let width = |len: usize| u16::try_from(len).unwrap_or(256);
        let mut ends = Vec::new();
        if !self.entries.is_empty() {
            let bundle = encode_bundle(&self.entries).map_err(io::Error::other)?;
            let index = self.tree.size() / TILE_WIDTH;
            ends.push((TileId { kind: TileKind::Entries, index, width: width(self.entries.len()) }, bundle));
        }
        for (level, row) in (0u8..).zip(&self.rows).filter(|(_, row)| !row.is_empty()) {
            let index = (self.tree.size() >> (8 * u32::from(level))) / TILE_WIDTH;
            ends.push((TileId { kind: TileKind::Hashes(level), index, width: width(row.len()) }, encode_tile(row)));
        }
        for (tile, bytes) in ends {
            if self.files.put(tile, &bytes)? == Put::Replaced {
                self.replaced.push(tile);
            }
        }
        Ok(())
    }

    /// Removes what a checkpoint over all of it no longer needs.
    pub(super) fn drop_partials(&mut self) {
        for tile in self.filled.drain(..) {
            if let Err(error) = self.files.drop_partials(tile) {
                tracing::warn!(%error, %tile, "old partial tiles cannot be removed");
            }
        }
    }
}

/// The root over a full row.
pub(super) fn fold(row: &[Hash]) -> Hash {
    match row {
        [] => legate_merkle::empty_root(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            node_hash(&fold(left), &fold(right))
        }
    }
}
