//! A row: the leaves of one group, and the roots of the tree before and after them.

use legate_merkle::Hash;
use sea_orm::QueryResult;

use super::{NotDone, column, number};

/// Leaves that were committed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The place of the first leaf.
    pub(crate) first: u64,
    /// The epoch of the lease that it was committed in; set by the commit.
    pub(crate) epoch: u64,
    /// The root over the leaves before it.
    pub(crate) previous_root: Hash,
    /// The root over those and its own.
    pub(crate) root: Hash,
    /// One at least.
    pub(crate) leaves: Vec<Vec<u8>>,
    /// The sealed names that leaves commit to.
    pub(crate) names: Vec<Vec<u8>>,
}

impl Batch {
    pub(super) fn read(row: &QueryResult) -> Result<Self, NotDone> {
        let first = number(row, "first_index")?;
        let bad =
            |what: &str| NotDone::Damaged(format!("the row of event {first} has {what} that were not written so"));
        let hash = |name: &str| column::<Vec<u8>>(row, name)?.try_into().map_err(|_| bad("roots"));
        let leaves = unpacked(&column::<Vec<u8>>(row, "leaves")?).ok_or_else(|| bad("leaves"))?;
        let names = unpacked(&column::<Vec<u8>>(row, "names")?).ok_or_else(|| bad("names"))?;
        if leaves.is_empty() || leaves.len() as u64 != number(row, "count")? {
            return Err(bad("leaves"));
        }
        let (previous_root, root) = (hash("previous_root")?, hash("root")?);
        Ok(Self { first, epoch: number(row, "epoch")?, previous_root, root, leaves, names })
    }

    /// The size of the tree after it.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.leaves.len() as u64
    }
}

/// Each with its length before it (32 bits, little endian).
pub(crate) fn packed(all: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(all.iter().map(|one| one.len() + 4).sum());
    for one in all {
        bytes.extend(u32::try_from(one.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(one);
    }
    bytes
}

/// The way back; `None`: it was not packed so.
pub(crate) fn unpacked(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (one, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        all.push(one.to_vec());
        bytes = rest;
    }
    Some(all)
}
