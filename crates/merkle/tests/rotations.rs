//! The keys of a log: chains that hold, and every way in which one does not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_merkle::{
    Checkpoint, CheckpointError, Hash, KeyChain, Note, Rotation, RotationError, SeedSigner, Signer as _, leaf_hash,
};
use proptest::prelude::*;

const ORIGIN: &str = "example.org/audit-log";

fn key(n: u8) -> SeedSigner {
    SeedSigner::new(ORIGIN, &[n; 32]).unwrap()
}

fn root(size: u64) -> Hash {
    leaf_hash(&size.to_be_bytes())
}

fn rotation(from: u8, to: u8, size: u64) -> Rotation {
    Rotation::sign(size, root(size), &key(from), &key(to)).unwrap()
}

/// The checkpoint of so many leaves, signed by a key.
fn signed(by: u8, size: u64) -> Vec<u8> {
    Checkpoint::new(ORIGIN, size, root(size)).sign(&key(by)).unwrap().to_string().into_bytes()
}

#[test]
fn a_rotation_reads_as_it_was_written_and_as_nothing_else() {
    let rotation = rotation(1, 2, 77);
    let text = rotation.to_string();
    assert_eq!(Rotation::open(text.as_bytes()).unwrap(), rotation);
    assert_eq!((rotation.size(), *rotation.root()), (77, root(77)));
    assert!(text.starts_with("legate.log-key-rotation/v1\nfrom example.org/audit-log+"), "{text}");
    // What a key signed as a rotation is no checkpoint, and the reverse.
    assert!(matches!(KeyChain::new(key(1).verifier().clone()).open(text.as_bytes()), Err(CheckpointError::Form(_))));
    assert!(matches!(Rotation::open(&signed(1, 77)), Err(RotationError::Form(_))));
}

#[test]
fn a_rotation_that_only_one_of_the_keys_signed_or_that_was_changed_is_refused() {
    let whole = rotation(1, 2, 77).to_string();
    let note = Note::parse(whole.as_bytes()).unwrap();
    for (kept, missing) in [(1, "follows"), (2, "ends")] {
        let id = key(kept).verifier().id();
        let half = note.clone().only(|line| line.id == id).to_string();
        let refused = Rotation::open(half.as_bytes()).unwrap_err();
        assert!(matches!(refused, RotationError::Unsigned { which, .. } if which.contains(missing)), "{refused}");
    }
    for (was, is) in [("size 77", "size 78"), ("size 77", "size 077"), ("\nroot ", "\nroot A"), ("/v1\n", "/v2\n")] {
        assert!(Rotation::open(whole.replacen(was, is, 1).as_bytes()).is_err(), "{is}");
    }
    // Another key in the place of the one that follows, with the signatures of those before.
    let other = whole.replacen(&key(2).verifier().to_string(), &key(3).verifier().to_string(), 1);
    assert!(Rotation::open(other.as_bytes()).is_err());
    assert!(Rotation::sign(5, root(5), &key(1), &key(1)).is_err(), "a key does not follow on itself");
    let elsewhere = SeedSigner::new("example.org/other-log", &[2; 32]).unwrap();
    assert!(Rotation::sign(5, root(5), &key(1), &elsewhere).is_err(), "nor on that of another log");
}

#[test]
fn each_size_has_one_key_and_no_other_signs_trees_of_it() {
    let chain = KeyChain::of([rotation(1, 2, 10), rotation(2, 3, 11), rotation(3, 4, 50)]).unwrap().unwrap();
    for (size, by) in [(0, 1), (10, 1), (11, 2), (12, 3), (50, 3), (51, 4), (1 << 40, 4)] {
        assert_eq!(chain.in_force(size), key(by).verifier(), "{size}");
        assert_eq!(chain.open(&signed(by, size)).unwrap().size, size);
        for other in (1..6).filter(|other| *other != by) {
            let refused = chain.open(&signed(other, size)).unwrap_err();
            assert!(matches!(refused, CheckpointError::NotInForce { .. }), "{size} by {other}: {refused}");
        }
    }
    assert_eq!(chain.keys().cloned().collect::<Vec<_>>(), [1, 2, 3, 4].map(|n| key(n).verifier().clone()));
    assert!(chain.has(key(3).verifier()) && !chain.has(key(5).verifier()));
}

#[test]
fn what_does_not_follow_makes_no_chain() {
    let begun = KeyChain::of([rotation(1, 2, 10)]).unwrap().unwrap();
    let refused = |next: Rotation| begun.clone().push(next).unwrap_err();
    assert!(matches!(refused(rotation(1, 3, 20)), RotationError::NotNext { .. }), "the first key ended");
    assert!(matches!(refused(rotation(3, 4, 20)), RotationError::NotNext { .. }), "nobody announced it");
    assert!(matches!(refused(rotation(2, 3, 10)), RotationError::Order(10)));
    assert!(matches!(refused(rotation(2, 3, 9)), RotationError::Order(9)));
    assert!(matches!(refused(rotation(2, 1, 20)), RotationError::Again(_)), "no key comes back");
    let other = |n| SeedSigner::new("example.org/other-log", &[n; 32]).unwrap();
    let of_other = Rotation::sign(20, root(20), &other(2), &other(3)).unwrap();
    assert!(matches!(refused(of_other), RotationError::OtherLog { .. }));
    assert_eq!(KeyChain::of([]).unwrap(), None);
}

proptest! {
    #[test]
    fn a_chain_reads_as_it_was_written_and_with_any_byte_changed_it_is_refused_or_the_same(
        steps in prop::collection::vec(1u64..1_000, 1..6),
        at in any::<prop::sample::Index>(),
        bit in 0u8..7,
    ) {
        let mut chain: Option<KeyChain> = None;
        let mut size = 0;
        for (n, step) in (1u8..).zip(&steps) {
            size += step;
            let next = rotation(n, n + 1, size);
            match &mut chain {
                None => chain = KeyChain::of([next]).unwrap(),
                Some(chain) => chain.push(next).unwrap(),
            }
        }
        let chain = chain.unwrap();
        let text = chain.to_string();
        prop_assert_eq!(&KeyChain::parse(text.as_bytes()).unwrap(), &chain);
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(read) = KeyChain::parse(&bytes) {
            let told = |chain: &KeyChain| chain.rotations().iter().map(|r| (r.size(), *r.root())).collect::<Vec<_>>();
            prop_assert_eq!(read.keys().collect::<Vec<_>>(), chain.keys().collect::<Vec<_>>());
            prop_assert_eq!(told(&read), told(&chain));
        }
    }
}
