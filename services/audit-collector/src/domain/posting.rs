//! What events are found by: under each text of a field, the leaves of the events that have it.

use std::collections::BTreeMap;

use prost::bytes::Buf as _;
use prost::encoding::{decode_varint, encode_varint};

use super::entry::Link;

/// Leaves by what they are found by, in the log's order.
pub(crate) type Postings = BTreeMap<(Field, String), Vec<u64>>;

/// A field by whose texts events are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Field {
    Chain,
    Grant,
    Credential,
    Type,
    Namespace,
    Agent,
    Instance,
    Subject,
    Action,
    ResourceType,
    ResourceId,
    Trace,
    Actor,
    Emitter,
}

impl Field {
    /// As the database has it; never changes.
    pub(crate) fn number(self) -> i16 {
        match self {
            Self::Chain => 1,
            Self::Grant => 2,
            Self::Credential => 3,
            Self::Type => 10,
            Self::Namespace => 11,
            Self::Agent => 12,
            Self::Instance => 13,
            Self::Subject => 14,
            Self::Action => 15,
            Self::ResourceType => 16,
            Self::ResourceId => 17,
            Self::Trace => 18,
            Self::Actor => 19,
            Self::Emitter => 20,
        }
    }

    /// The field that has these links; persons are found in a way of their own.
    pub(crate) fn of(link: Link) -> Option<Self> {
        match link {
            Link::Chain => Some(Self::Chain),
            Link::Grant => Some(Self::Grant),
            Link::Credential => Some(Self::Credential),
            Link::Person => None,
        }
    }
}

/// Leaves from `first` on, in order, each told by how far it is from the one before.
pub(crate) fn pack(first: u64, leaves: &[u64]) -> Vec<u8> {
    let (mut packed, mut before) = (Vec::with_capacity(leaves.len() + 2), first);
    for leaf in leaves {
        encode_varint(leaf.saturating_sub(before), &mut packed);
        before = *leaf;
    }
    packed
}

/// The reverse; what is not packed so ends the list.
pub(crate) fn unpack(first: u64, mut packed: &[u8]) -> Vec<u64> {
    let (mut leaves, mut before) = (Vec::with_capacity(packed.len()), first);
    while packed.has_remaining() {
        let Some(leaf) = decode_varint(&mut packed).ok().and_then(|step| before.checked_add(step)) else { break };
        leaves.push(leaf);
        before = leaf;
    }
    leaves
}

/// What both lists hold; each in order.
pub(crate) fn common(some: &[u64], others: &[u64]) -> Vec<u64> {
    let (few, many) = if some.len() <= others.len() { (some, others) } else { (others, some) };
    let mut rest = many;
    let mut both = Vec::new();
    for leaf in few {
        rest = &rest[rest.partition_point(|one| one < leaf)..];
        match rest.first() {
            None => break,
            Some(one) if one == leaf => both.push(*leaf),
            Some(_) => {}
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::btree_set;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn list(all: &BTreeSet<u64>) -> Vec<u64> {
        all.iter().copied().collect()
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(first in 0u64..1 << 40, steps in btree_set(0u64..1 << 22, 0..200)) {
            let leaves: Vec<u64> = steps.iter().map(|step| first + step).collect();
            let packed = pack(first, &leaves);
            prop_assert_eq!(unpack(first, &packed), leaves);
            // What is cut short says less, and nothing else.
            let less = unpack(first, &packed[..packed.len() / 2]);
            prop_assert!(less.iter().all(|leaf| steps.contains(&(leaf - first))));
        }

        #[test]
        fn common_is_what_both_hold(a in btree_set(0u64..60, 0..40), b in btree_set(0u64..60, 0..40)) {
            let both: Vec<u64> = a.intersection(&b).copied().collect();
            prop_assert_eq!(common(&list(&a), &list(&b)), both);
        }
    }
}
