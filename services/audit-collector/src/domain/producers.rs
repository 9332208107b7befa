//! How far each emitter's events are in the log, and what of an offer is new.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use prost::Message as _;

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

/// Events of one producer whose ids are remembered: two of the largest requests.
const LATELY: usize = 2_048;

/// Ids that are remembered of all of them, about.
const MOST: usize = 1 << 18;

/// Of an event, what tells it from another one: the id that its emitter gave it once, which stays when it is offered again.
#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    event_id: String,
}

/// Which events the newest numbers of producers are, as far as that is remembered: since this start, and of those who told something
/// lately. What is offered again under such a number has to be the same event.
#[derive(Debug, Default)]
pub(crate) struct Lately {
    young: HashMap<Producer, Tail>,
    /// Those that nobody asked about since `young` was begun; they go when it is full.
    old: HashMap<Producer, Tail>,
    count: usize,
    keyed: RandomState,
}

/// Marks of a producer's newest events.
#[derive(Debug, Default)]
struct Tail {
    /// The number of the first.
    first: u64,
    marks: VecDeque<u64>,
}

impl Lately {
    /// The marks of events, in their order. What is no event has the mark of one without an id.
    pub(crate) fn marks<T: AsRef<[u8]>>(&self, events: &[T]) -> Vec<u64> {
        let id = |event: &T| Named::decode(event.as_ref()).map(|named| named.event_id).unwrap_or_default();
        events.iter().map(|event| self.keyed.hash_one(id(event))).collect()
    }

    /// The first number under which another event is remembered than the one with this mark.
    pub(crate) fn other(&self, producer: &Producer, first_seq: u64, marks: &[u64]) -> Option<u64> {
        let tail = self.young.get(producer).or_else(|| self.old.get(producer))?;
        (first_seq..).zip(marks).find_map(|(seq, mark)| {
            let at = usize::try_from(seq.checked_sub(tail.first)?).ok()?;
            (tail.marks.get(at)? != mark).then_some(seq)
        })
    }

    /// Remembers events from this number on; what was remembered under it and behind it did not come into the log.
    pub(crate) fn note(&mut self, producer: &Producer, first_seq: u64, marks: &[u64]) {
        let young = self.young.remove(producer);
        let counted = young.as_ref().map_or(0, |tail| tail.marks.len());
        let mut tail = young.or_else(|| self.old.remove(producer)).unwrap_or_default();
        let kept = first_seq.checked_sub(tail.first).and_then(|kept| usize::try_from(kept).ok());
        match kept.filter(|kept| *kept <= tail.marks.len()) {
            Some(kept) => tail.marks.truncate(kept),
            None => tail = Tail { first: first_seq, marks: VecDeque::new() },
        }
        tail.marks.extend(marks);
        let over = tail.marks.len().saturating_sub(LATELY);
        tail.marks.drain(..over);
        tail.first += over as u64;
        self.count += tail.marks.len().saturating_sub(counted);
        self.young.insert(producer.clone(), tail);
        if self.count > MOST / 2 {
            self.old = std::mem::take(&mut self.young);
            self.count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn producer(name: u64) -> Producer {
        Producer { spiffe_id: format!("spiffe://example.org/legate/{name}"), epoch: "e".into() }
    }

    proptest! {
        /// Whatever came into the log and whatever was given up, another event under a number that is remembered is seen, and the
        /// same one never taken for another.
        #[test]
        fn what_is_remembered_is_what_came_last(
            notes in prop::collection::vec((1u64..60, 1usize..20), 1..40),
            asked in 1u64..60,
        ) {
            let (mut lately, me) = (Lately::default(), producer(1));
            let mut log: HashMap<u64, u64> = HashMap::new();
            let mut end = 0;
            for (round, (first, count)) in notes.into_iter().enumerate() {
                // No gaps: what is noted begins where the log ends, or goes back to what was given up.
                let first = first.min(end + 1);
                let marks: Vec<u64> = (0..count as u64).map(|n| round as u64 * 1_000 + n).collect();
                lately.note(&me, first, &marks);
                end = first + count as u64 - 1;
                log.extend((first..).zip(marks));
            }
            for seq in 1..=end {
                prop_assert_eq!(lately.other(&me, seq, &[log[&seq]]), None);
                prop_assert_eq!(lately.other(&me, seq, &[u64::MAX]), Some(seq));
            }
            prop_assert_eq!(lately.other(&me, end + asked, &[u64::MAX]), None);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_of_the_newest() {
        let mut lately = Lately::default();
        let me = producer(0);
        for from in (0..3 * LATELY as u64).step_by(1_024) {
            let marks: Vec<u64> = (from + 1..=from + 1_024).collect();
            lately.note(&me, from + 1, &marks);
        }
        let last = 3 * LATELY as u64;
        assert_eq!(lately.other(&me, last - 5, &[last - 5, 0]), Some(last - 4));
        assert_eq!(lately.other(&me, 1, &[0]), None, "it is forgotten");
        for other in 1..(MOST + 10_000) as u64 {
            lately.note(&producer(other), 1, &[other]);
            if other % 1_000 == 0 {
                lately.note(&me, last + 1, &[last + 1]);
            }
        }
        assert!(lately.young.len() + lately.old.len() <= MOST + 2);
        assert_eq!(lately.other(&me, last + 1, &[0]), Some(last + 1), "who goes on telling is remembered");
        assert_eq!(lately.other(&producer(1), 1, &[0]), None);
    }

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
