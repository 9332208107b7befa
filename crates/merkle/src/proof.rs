//! Inclusion and consistency proofs (RFC 6962 section 2.1, verified as in RFC 9162 section 2.1).

use alloc::vec::Vec;

use crate::{Frontier, Hash, empty_root, node_hash};

/// Why a proof is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The index is not below the size, or the earlier size is 0 or above the later one.
    #[error("the index or size is outside the tree")]
    Range,
    /// The proof has too few or too many hashes.
    #[error("the proof has the wrong length")]
    Length,
    /// The hashes do not lead to the root.
    #[error("the proof does not lead to the root hash")]
    Root,
}

/// Why a proof was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError<E> {
    /// The index is not below the size, or the earlier size is 0 or above the later one.
    #[error("the index or size is outside the tree")]
    Range,
    /// A node could not be had.
    #[error("{0}")]
    Node(E),
}

/// The largest power of two below `n`, for `n` of 2 or more.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The hash over leaves `lo..hi`; a range that is a complete subtree is asked for, others are put together.
fn range<E>(lo: u64, hi: u64, node: &mut impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    let count = hi - lo;
    if count.is_power_of_two() && lo.is_multiple_of(count) {
        let level = count.trailing_zeros();
        return node(level, lo >> level);
    }
    let middle = lo + split(count);
    Ok(node_hash(&range(lo, middle, node)?, &range(middle, hi, node)?))
}

/// The root of the tree of the first `size` leaves. `node(level, index)` gives the hash of the complete subtree over
/// the leaves from `index << level` to `(index + 1) << level`.
///
/// # Errors
/// What `node` fails with.
pub fn root_of<E>(size: u64, mut node: impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    if size == 0 { Ok(empty_root()) } else { range(0, size, &mut node) }
}

/// The inclusion proof of leaf `index` in the tree of `size` leaves (RFC 6962 section 2.1.1). `node` as for [`root_of`].
///
/// # Errors
/// [`RangeError`].
pub fn prove_inclusion<E>(
    index: u64,
    size: u64,
    mut node: impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, RangeError<E>> {
    if index >= size {
        return Err(RangeError::Range);
    }
    let (mut lo, mut hi) = (0, size);
    let mut proof = Vec::new();
    while hi - lo > 1 {
        let middle = lo + split(hi - lo);
        let sibling = if index < middle {
            let right = range(middle, hi, &mut node);
            hi = middle;
            right
        } else {
            let left = range(lo, middle, &mut node);
            lo = middle;
            left
        };
        proof.push(sibling.map_err(RangeError::Node)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The inclusion proof of the leaf at `index` in the tree over these leaf hashes; `None`: it has no such leaf.
#[must_use]
pub fn prove_among(index: u64, hashes: &[Hash]) -> Option<Vec<Hash>> {
    let node = |level: u32, index: u64| {
        let at = |index: u64| usize::try_from(index << level).ok();
        let under = at(index).zip(at(index + 1)).and_then(|(from, to)| hashes.get(from..to)).ok_or(())?;
        let mut tree = Frontier::default();
        under.iter().for_each(|hash| tree.push(*hash));
        Ok::<_, ()>(tree.root())
    };
    prove_inclusion(index, hashes.len() as u64, node).ok()
}

/// The proof that the tree of `first` leaves is the beginning of that of `second` leaves (RFC 6962 section 2.1.2).
///
/// # Errors
/// [`RangeError`].
pub fn prove_consistency<E>(
    first: u64,
    second: u64,
    mut node: impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, RangeError<E>> {
    if first == 0 || first > second {
        return Err(RangeError::Range);
    }
    let (mut lo, mut hi) = (0, second);
    let mut proof = Vec::new();
    // SUBPROOF(m, D[n], b): b stays true as long as only left branches were taken.
    let mut known = true;
    while first != hi {
        let middle = lo + split(hi - lo);
        let sibling = if first <= middle {
            let right = range(middle, hi, &mut node);
            hi = middle;
            right
        } else {
            let left = range(lo, middle, &mut node);
            lo = middle;
            known = false;
            left
        };
        proof.push(sibling.map_err(RangeError::Node)?);
    }
    if !known {
        proof.push(range(lo, hi, &mut node).map_err(RangeError::Node)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that the leaf with hash `leaf` is at `index` in the tree of `size` leaves with this root
/// (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// [`ProofError`].
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if inclusion_root(index, size, leaf, proof)? == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// The root that an inclusion proof leads to.
///
/// # Errors
/// [`ProofError`] when it has not the length that it must have.
pub fn inclusion_root(index: u64, size: u64, leaf: &Hash, proof: &[Hash]) -> Result<Hash, ProofError> {
    if index >= size {
        return Err(ProofError::Range);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    Ok(hash)
}

/// Checks that the tree of `first` leaves with `first_root` is the beginning of the tree of `second` leaves with
/// `second_root` (RFC 9162 section 2.1.4.2). The proof from a tree to itself is empty; from the empty tree to a larger one
/// there is none, since it would say nothing.
///
/// # Errors
/// [`ProofError`].
pub fn verify_consistency(
    first: u64,
    second: u64,
    first_root: &Hash,
    second_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if first > second {
        return Err(ProofError::Range);
    }
    if first == second {
        if !proof.is_empty() {
            return Err(ProofError::Length);
        }
        // The empty tree has one root only.
        let known = first > 0 || *first_root == empty_root();
        return if known && first_root == second_root { Ok(()) } else { Err(ProofError::Root) };
    }
    if first == 0 {
        return Err(ProofError::Range);
    }
    consistent((0, first, second), first_root, second_root, proof)
}

/// Checks that the leaves from `start` to `end`, a subtree with `node`, are those of the tree of `size` leaves with `root`
/// (draft-ietf-plants-merkle-tree-certs-03 section 4.4).
///
/// # Errors
/// [`ProofError`]; also when there can be no subtree of those leaves.
pub fn verify_subtree_consistency(
    (start, end, size): (u64, u64, u64),
    node: &Hash,
    root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    // A subtree begins where a tree of its size, rounded up to a power of two, can.
    let whole = end.checked_sub(start).and_then(u64::checked_next_power_of_two).ok_or(ProofError::Range)?;
    if !start.is_multiple_of(whole) || end > size {
        return Err(ProofError::Range);
    }
    if start == end {
        // No leaves are among those of every tree, and their root is the empty tree's.
        return match (proof.is_empty(), *node == empty_root()) {
            (true, true) => Ok(()),
            (true, false) => Err(ProofError::Root),
            (false, _) => Err(ProofError::Length),
        };
    }
    consistent((start, end, size), node, root, proof)
}

/// The steps of RFC 9162 section 2.1.4.2, which the draft gives for any subtree: `fn`, `sn` and `tn` there are `first`, `last`
/// and `end` here.
fn consistent(
    (start, end, size): (u64, u64, u64),
    node: &Hash,
    root: &Hash,
    mut proof: &[Hash],
) -> Result<(), ProofError> {
    let (mut first, mut last, mut end) = (start, end - 1, size - 1);
    let is_at_the_end = last == end;
    while first != last && (is_at_the_end || last & 1 == 1) {
        (first, last, end) = (first >> 1, last >> 1, end >> 1);
    }
    // What is complete is itself the first hash of the path, and is left out of the proof.
    let mut new = *node;
    if first != last {
        let (start, rest) = proof.split_first().ok_or(ProofError::Length)?;
        (new, proof) = (*start, rest);
    }
    let mut old = new;
    for sibling in proof {
        if end == 0 {
            return Err(ProofError::Length);
        }
        if last & 1 == 1 || last == end {
            if first < last {
                old = node_hash(sibling, &old);
            }
            new = node_hash(sibling, &new);
            while last & 1 == 0 && last != 0 {
                (first, last, end) = (first >> 1, last >> 1, end >> 1);
            }
        } else {
            new = node_hash(&new, sibling);
        }
        (first, last, end) = (first >> 1, last >> 1, end >> 1);
    }
    if end != 0 {
        return Err(ProofError::Length);
    }
    if old == *node && new == *root { Ok(()) } else { Err(ProofError::Root) }
}
