//! A status list as draft-ietf-oauth-status-list-21 section 4 has it, of one bit each, and the order in which its places are given.

use aws_lc_rs::digest::{Context, SHA256};
use base64ct::{Base64UrlUnpadded, Encoding as _};

/// Places in a list.
pub(crate) const PLACES: u32 = 1 << 16;

/// One bit for each place: 1 says INVALID, 0 VALID (section 7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatusList(Vec<u8>);

impl StatusList {
    /// All of them VALID: so nobody sees which were given.
    pub(crate) fn new(places: u32) -> Self {
        Self(vec![0; places.div_ceil(8) as usize])
    }

    /// Says INVALID of a place; one beyond the end is not there.
    pub(crate) fn set(&mut self, place: u32) {
        // The lowest bit of a byte is its first place.
        if let Some(byte) = self.0.get_mut((place / 8) as usize) {
            *byte |= 1 << (place % 8);
        }
    }

    /// `lst`: compressed by ZLIB (RFC 1950) at its best, in base64url.
    pub(crate) fn lst(&self) -> String {
        Base64UrlUnpadded::encode_string(&miniz_oxide::deflate::compress_to_vec_zlib(&self.0, 9))
    }
}

/// The place that is given as the `nth` of a list: each exactly once, in an order that only `key` tells, so that neighbours tell nothing.
pub(crate) fn place(key: &[u8], nth: u16) -> u16 {
    // A Feistel network: whatever the rounds do, it is a permutation.
    let [mut left, mut right] = nth.to_be_bytes();
    for round in 0..6_u8 {
        let mut hash = Context::new(&SHA256);
        hash.update(key);
        hash.update(&[round, right]);
        let mixed = hash.finish().as_ref().first().copied().unwrap_or_default();
        (left, right) = (right, left ^ mixed);
    }
    u16::from_be_bytes([left, right])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn read(lst: &str, limit: usize) -> StatusList {
        let packed = Base64UrlUnpadded::decode_vec(lst).unwrap();
        StatusList(miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&packed, limit).unwrap())
    }

    fn of(places: u32, invalid: &[u32]) -> StatusList {
        let mut list = StatusList::new(places);
        invalid.iter().for_each(|place| list.set(*place));
        list
    }

    /// Test vectors: draft-ietf-oauth-status-list-21, section 4.2 (1 bit) and the appendix "Test vectors for Status List encoding",
    /// "1-bit Status List". They were packed by another implementation of ZLIB than ours.
    const SHORT: &str = "eNrbuRgAAhcBXQ";
    const LONG: &str = concat!(
        "eNrt3AENwCAMAEGogklACtKQPg9LugC9k_ACvreiogEAAKkeCQAAAAAAAAAAAAAAAAAAAIBylgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAXG9IAAAAAAAAAPwsJAAAAAAAAAAAAAAAvhsSAAAAAAAAAAAA7KpLAAAAAAAAAAAAAAAAAAAAAJsLCQAAAAAAAAAAADje",
        "lAAAAAAAAAAAKjDMAQAAAACAZC8L2AEb",
    );

    #[test]
    fn it_is_read_and_written_as_the_vectors_of_the_draft() {
        let short = of(16, &[0, 3, 4, 5, 7, 8, 9, 13, 15]);
        assert_eq!(short.0, [0xb9, 0xa3]);
        assert_eq!(read(SHORT, 2), short);
        assert_eq!(short.lst(), SHORT);
        let invalid = [0, 1993, 25460, 159495, 495669, 554353, 645645, 723232, 854545, 934534, 1000345];
        let long = of(1 << 20, &invalid);
        assert_eq!(read(LONG, 1 << 17), long);
        assert_eq!(read(&long.lst(), 1 << 17), long);
    }

    #[test]
    fn a_full_list_is_small_whatever_it_says() {
        let none = StatusList::new(PLACES).lst();
        assert!(none.len() < 64, "{}", none.len());
        // Each place by chance, from a generator that always says the same: the worst case for a packer.
        let mut state = 1_u64;
        let mut any = StatusList::new(PLACES);
        for place in 0..PLACES {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if state >> 63 == 1 {
                any.set(place);
            }
        }
        assert!(any.lst().len() < 11_000, "{}", any.lst().len());
    }

    #[test]
    fn each_place_of_a_list_is_given_once() {
        for key in [[0; 32], [7; 32]] {
            let mut given = vec![false; PLACES as usize];
            for nth in 0..=u16::MAX {
                let at = usize::from(place(&key, nth));
                assert!(!given[at], "{at} is given twice");
                given[at] = true;
            }
        }
        let apart = (0..100).filter(|nth| place(&[7; 32], *nth).abs_diff(place(&[7; 32], nth + 1)) > 256).count();
        assert!(apart > 90, "those that are given one after the other lie together: {apart}");
    }

    proptest! {
        #[test]
        fn what_is_set_is_read_and_nothing_else(invalid in prop::collection::btree_set(0..PLACES, 0..200)) {
            let invalid: Vec<u32> = invalid.into_iter().collect();
            let found = read(&of(PLACES, &invalid).lst(), 1 << 13);
            let is_set = |place: &u32| found.0[(*place / 8) as usize] >> (place % 8) & 1 == 1;
            prop_assert_eq!((0..PLACES).filter(is_set).collect::<Vec<_>>(), invalid);
        }
    }
}
