//! Proofs out of the tiles, for any tree that the newest checkpoint covers.

use std::collections::HashMap;
use std::io;

use legate_batch::Attested;
use legate_merkle::{
    Frontier, Hash, RangeError, Rotation, TileId, decode_tile, leaf_hash, node_in_tile, prove_among, prove_consistency,
    prove_inclusion, root_of, verify_consistency, verify_inclusion,
};
use legate_wire::audit::AuditEvent;
use prost::Message as _;

use super::files::read_tile;
use super::open::Log;
use super::publisher::Published;

/// Why nothing is proved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotProved {
    /// The newest checkpoint does not cover it.
    #[error("the newest checkpoint covers {size} leaves")]
    Range {
        /// Its size.
        size: u64,
    },
    /// A file cannot be read, or is not what it has to be.
    #[error("the log's files: {0}")]
    Read(#[from] io::Error),
}

/// A leaf and the proof that it is in a tree.
#[derive(Clone, Debug)]
pub(crate) struct Inclusion {
    pub(crate) leaf: Vec<u8>,
    pub(crate) proof: Vec<Hash>,
    pub(crate) size: u64,
    pub(crate) root: Hash,
    pub(crate) checkpoint: String,
}

/// An emitter's signature of an event: the leaf that holds it, proved, and the way from the event to what was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) at: u64,
    /// Empty, with its proof, where the event before has them.
    pub(crate) leaf: Vec<u8>,
    pub(crate) proof: Vec<Hash>,
    pub(crate) position: u32,
    pub(crate) path: Vec<Hash>,
}

/// A leaf that says that the log's key is followed by another, proved to be in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rotated {
    pub(crate) leaf_index: u64,
    pub(crate) leaf: Vec<u8>,
    pub(crate) proof: Vec<Hash>,
}

/// Two trees and the proof that one is the beginning of the other.
#[derive(Clone, Debug)]
pub(crate) struct Consistency {
    pub(crate) proof: Vec<Hash>,
    pub(crate) first_root: Hash,
    pub(crate) second_root: Hash,
    pub(crate) second_size: u64,
}

/// The nodes under the newest checkpoint; tiles are read once.
struct Nodes<'a> {
    log: &'a Log,
    size: u64,
    tiles: HashMap<TileId, Vec<Hash>>,
}

impl<'a> Nodes<'a> {
    fn under(log: &'a Log, published: &Published) -> Self {
        Self { log, size: published.size, tiles: HashMap::new() }
    }

    /// The files are those of the newest tree; a complete subtree has the same hash in every tree it is in.
    fn node(&mut self, level: u32, index: u64) -> io::Result<Hash> {
        let (log, tiles) = (self.log, &mut self.tiles);
        let mut tile = |id: TileId| -> io::Result<Vec<Hash>> {
            if let Some(known) = tiles.get(&id) {
                return Ok(known.clone());
            }
            let bytes = read_tile(log.dir(), id)?;
            let hashes = decode_tile(&bytes, usize::from(id.width)).ok_or_else(|| damaged(id))?;
            tiles.insert(id, hashes.clone());
            Ok(hashes)
        };
        node_in_tile(self.size, level, index, &mut tile, damaged)
    }

    fn root(&mut self, size: u64) -> io::Result<Hash> {
        root_of(size, |level, index| self.node(level, index))
    }
}

fn root_of_all(hashes: &[Hash]) -> Hash {
    let mut tree = Frontier::default();
    hashes.iter().for_each(|hash| tree.push(*hash));
    tree.root()
}

fn damaged(tile: TileId) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{tile} is damaged"))
}

fn of_range(e: RangeError<io::Error>, size: u64) -> NotProved {
    match e {
        RangeError::Range => NotProved::Range { size },
        RangeError::Node(e) => NotProved::Read(e),
    }
}

/// The size that is asked for: 0 stands for the newest checkpoint's.
fn within(asked: u64, published: &Published) -> Result<u64, NotProved> {
    match asked {
        0 => Ok(published.size),
        size if size <= published.size => Ok(size),
        _ => Err(NotProved::Range { size: published.size }),
    }
}

impl Log {
    /// The root over the first `size` leaves.
    pub(crate) fn root_at(&self, size: u64) -> Result<Hash, NotProved> {
        let published = self.published().borrow().clone();
        if size > published.size {
            return Err(NotProved::Range { size: published.size });
        }
        Ok(Nodes::under(self, &published).root(size)?)
    }

    /// Proves that a leaf is in the tree of a size (RFC 6962 section 2.1.1).
    pub(crate) fn prove_inclusion(&self, index: u64, size: u64) -> Result<Inclusion, NotProved> {
        let published = self.published().borrow().clone();
        let size = within(size, &published)?;
        let mut nodes = Nodes::under(self, &published);
        let proof = prove_inclusion(index, size, |l, i| nodes.node(l, i)).map_err(|e| of_range(e, published.size))?;
        let root = nodes.root(size)?;
        let leaf = self.read(index, index + 1, 1).map_err(io::Error::other)?.pop();
        let (_, leaf) = leaf.ok_or_else(|| io::Error::other(format!("leaf {index} cannot be read")))?;
        // A proof that does not hold would accuse the log of what a disk did.
        verify_inclusion(index, size, &leaf_hash(&leaf), &proof, &root).map_err(io::Error::other)?;
        Ok(Inclusion { leaf, proof, size, root, checkpoint: published.note })
    }

    /// Proves that each of these leaves is in the tree of a size, which it gives: one audit path each. A tree that is not the
    /// newest checkpoint's has no note here.
    pub(crate) fn prove_each(&self, leaves: &[u64], size: u64) -> Result<(Vec<Vec<Hash>>, Published), NotProved> {
        let mut published = self.published().borrow().clone();
        let size = within(size, &published)?;
        let mut nodes = Nodes::under(self, &published);
        if size != published.size {
            published = Published { size, root: nodes.root(size)?, note: String::new() };
        }
        let mut prove = |index: u64| {
            let proof = prove_inclusion(index, size, |l, i| nodes.node(l, i)).map_err(|e| of_range(e, size))?;
            let leaf = nodes.node(0, index)?;
            // A proof that does not hold would accuse the log of what a disk did.
            verify_inclusion(index, size, &leaf, &proof, &published.root).map_err(io::Error::other)?;
            Ok::<_, NotProved>(proof)
        };
        let proofs = leaves.iter().map(|leaf| prove(*leaf)).collect::<Result<_, _>>()?;
        Ok((proofs, published))
    }

    /// The rotations of the log's key that the tree of a size holds, in order, each proved to be in it.
    pub(crate) fn prove_rotations(&self, size: u64) -> Result<Vec<Rotated>, NotProved> {
        let places = self.keys().rotations().iter().map(Rotation::size);
        let places: Vec<u64> = places.filter(|place| *place < size).collect();
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let (proofs, _) = self.prove_each(&places, size)?;
        let with_leaf = |(leaf_index, proof)| {
            let leaf = self.read(leaf_index, leaf_index + 1, 1).map_err(io::Error::other)?.pop();
            let (_, leaf) = leaf.ok_or_else(|| io::Error::other(format!("leaf {leaf_index} cannot be read")))?;
            Ok::<_, NotProved>(Rotated { leaf_index, leaf, proof })
        };
        places.into_iter().zip(proofs).map(with_leaf).collect()
    }

    /// The signatures of some events, by the leaves that hold them, in the tree of a size: as many as have `most` bytes, one at least.
    pub(crate) fn prove_signatures(
        &self,
        events: &[(u64, Option<u64>)],
        size: u64,
        most: usize,
    ) -> Result<Vec<Option<Signed>>, NotProved> {
        let published = self.published().borrow().clone();
        let mut nodes = Nodes::under(self, &published);
        let (mut all, mut bytes) = (Vec::with_capacity(events.len()), 0);
        let mut last: Option<(u64, Option<Vec<Hash>>)> = None;
        for (event, by) in events {
            let Some(by) = *by else {
                all.push(None);
                continue;
            };
            let (mut leaf, mut proof) = (Vec::new(), Vec::new());
            if last.as_ref().is_none_or(|(at, _)| *at != by) {
                let read = self.read(by, by + 1, 1).map_err(io::Error::other)?.pop();
                leaf = read.ok_or_else(|| io::Error::other(format!("leaf {by} cannot be read")))?.1;
                if bytes + leaf.len() > most && !all.is_empty() {
                    break;
                }
                proof = prove_inclusion(by, size, |l, i| nodes.node(l, i)).map_err(|e| of_range(e, size))?;
                last = Some((by, self.batch_behind(by, &leaf, &mut nodes)?));
            }
            let batch = last.as_ref().and_then(|(_, batch)| batch.as_deref()).unwrap_or_default();
            let position = event.saturating_sub(by + 1);
            bytes += leaf.len();
            all.push(prove_among(position, batch).map(|path| {
                let position = u32::try_from(position).unwrap_or(u32::MAX);
                Signed { at: by, leaf, proof, position, path }
            }));
        }
        Ok(all)
    }

    /// The hashes of the leaves that a signature is of; `None`: they are not all there, since the process ended while they were written.
    fn batch_behind(&self, at: u64, leaf: &[u8], nodes: &mut Nodes<'_>) -> Result<Option<Vec<Hash>>, NotProved> {
        let event = AuditEvent::decode(leaf).map_err(io::Error::other)?;
        let Ok(Attested { statement, .. }) = Attested::try_from(&event) else { return Ok(None) };
        let mut hashes = Vec::new();
        for index in at + 1..=at + u64::from(statement.count) {
            // A checkpoint may end between a signature and the last leaf that it is of; on disk they are all there.
            if index < nodes.size {
                hashes.push(nodes.node(0, index)?);
                continue;
            }
            let Some((_, leaf)) = self.read(index, index + 1, 1).map_err(io::Error::other)?.pop() else {
                return Ok(None);
            };
            hashes.push(leaf_hash(&leaf));
        }
        Ok((root_of_all(&hashes) == statement.root).then_some(hashes))
    }

    /// Proves that a tree is the beginning of a later one (RFC 6962 section 2.1.2).
    pub(crate) fn prove_consistency(&self, first: u64, second: u64) -> Result<Consistency, NotProved> {
        let published = self.published().borrow().clone();
        let second = within(second, &published)?;
        let mut nodes = Nodes::under(self, &published);
        let proof =
            prove_consistency(first, second, |l, i| nodes.node(l, i)).map_err(|e| of_range(e, published.size))?;
        let (first_root, second_root) = (nodes.root(first)?, nodes.root(second)?);
        verify_consistency(first, second, &first_root, &second_root, &proof).map_err(io::Error::other)?;
        Ok(Consistency { proof, first_root, second_root, second_size: second })
    }
}
