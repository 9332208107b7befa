//! How far each emitter's events are in the log, and what of an offer is new.

use std::collections::HashMap;

/// One life of an emitter's store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Producer {
    pub(crate) spiffe_id: String,
    pub(crate) epoch: String,
}

/// The last number of each producer; 0 for one that is not known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers(HashMap<Producer, u64>);

/// Events before those offered are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The number that is next.
    pub(crate) expected: u64,
}

impl Producers {
    /// The last number in the log.
    pub(crate) fn last(&self, producer: &Producer) -> u64 {
        self.0.get(producer).copied().unwrap_or(0)
    }

    /// The log has everything up to `seq`.
    pub(crate) fn advance(&mut self, producer: Producer, seq: u64) {
        let last = self.0.entry(producer).or_insert(0);
        *last = (*last).max(seq);
    }
}

/// How many of `count` events from `first_seq` on are in the log already, when `last` is the last that is.
pub(crate) fn known(last: u64, first_seq: u64, count: usize) -> Result<usize, Gap> {
    let expected = last.saturating_add(1);
    let Some(known) = expected.checked_sub(first_seq) else {
        return Err(Gap { expected });
    };
    Ok(usize::try_from(known).unwrap_or(usize::MAX).min(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However an emitter repeats itself, the log gets each number once and in order.
        #[test]
        fn each_number_once_and_in_order(offers in prop::collection::vec((1u64..40, 1usize..10), 0..60)) {
            let mut log: Vec<u64> = Vec::new();
            for (first, count) in offers {
                let last = log.last().copied().unwrap_or(0);
                match known(last, first, count) {
                    Err(gap) => {
                        prop_assert!(first > last + 1);
                        prop_assert_eq!(gap.expected, last + 1);
                    }
                    Ok(skip) => log.extend((first..first + count as u64).skip(skip)),
                }
            }
            prop_assert!(log.iter().zip(1..).all(|(a, b)| *a == b));
        }
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow() {
        assert_eq!(known(u64::MAX, u64::MAX, 1), Ok(0));
        assert_eq!(known(0, u64::MAX, 1), Err(Gap { expected: 1 }));
    }
}
