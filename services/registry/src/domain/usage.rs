//! What an agent used, added up: on which days, how often, and between which of them it was silent longest.

/// Days of one row: a year, and the quarter after it in which something yearly would come again.
pub(crate) const DAYS: i64 = 448;

/// Rows of one agent: what does not fit any more is counted together, and may have been anything.
pub(crate) const ROWS: usize = 2_000;

/// Where an agent has so many rows, no more resources are kept apart, so that there is room for other actions.
pub(crate) const FINE: usize = ROWS / 2;

/// Resources of one agent, action, type and way that are kept apart: of the others it is known that it was some of that type.
pub(crate) const RESOURCES: usize = 64;

/// Stands for anything in the row of what did not fit, and for any resource where which it was is not kept.
pub(crate) const REST: &str = "*";

const WORDS: usize = 7;

/// The days on which something was done, of the 448 up to the newest: a bit for each, the newest the lowest of the first word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Days {
    newest: i64,
    bits: [u64; WORDS],
}

impl Days {
    /// As they rest: the newest day since 1970, and the bits.
    pub(crate) fn of_bytes(newest: i64, bytes: &[u8]) -> Self {
        let mut days = Self { newest, bits: [0; WORDS] };
        for (word, chunk) in days.bits.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(whole);
        }
        days
    }

    /// The newest day, and the bits as bytes.
    pub(crate) fn to_bytes(self) -> (i64, Vec<u8>) {
        (self.newest, self.bits.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    fn is_empty(&self) -> bool {
        self.bits.iter().all(|word| *word == 0)
    }

    fn set(&mut self, back: i64) {
        if let Ok(back) = usize::try_from(back)
            && let Some(word) = self.bits.get_mut(back / 64)
        {
            *word |= 1 << (back % 64);
        }
    }

    /// Adds a day; one that is too long ago is forgotten.
    pub(crate) fn add(&mut self, day: i64) {
        if self.is_empty() || day > self.newest {
            let before: Vec<i64> = self.each().collect();
            *self = Self { newest: day, bits: [0; WORDS] };
            self.set(0);
            before.into_iter().for_each(|earlier| self.set(day.saturating_sub(earlier)));
            return;
        }
        self.set(self.newest.saturating_sub(day));
    }

    /// Adds the days of another.
    pub(crate) fn add_all(&mut self, other: Self) {
        other.each().for_each(|day| self.add(day));
    }

    /// The days, the newest first.
    pub(crate) fn each(&self) -> impl Iterator<Item = i64> + use<> {
        let (newest, bits) = (self.newest, self.bits);
        let is_set = move |back: &i64| {
            let back = usize::try_from(*back).unwrap_or(0);
            bits.get(back / 64).is_some_and(|word| word & (1 << (back % 64)) != 0)
        };
        (0..DAYS).filter(is_set).map(move |back| newest.saturating_sub(back))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.bits.iter().map(|word| word.count_ones()).sum()
    }

    /// The longest time between two that follow one another, in days; 0 where there are no two.
    pub(crate) fn longest_interval(&self) -> u32 {
        let all: Vec<i64> = self.each().collect();
        let longest = all.windows(2).map(|two| two[0] - two[1]).max();
        longest.and_then(|days| u32::try_from(days).ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_monthly_job_is_silent_for_a_month() {
        let mut days = Days::default();
        assert_eq!((days.count(), days.longest_interval()), (0, 0));
        for day in [100, 131, 159, 190] {
            days.add(day);
        }
        assert_eq!((days.count(), days.longest_interval()), (4, 31));
        let (newest, bytes) = days.to_bytes();
        assert_eq!((newest, bytes.len()), (190, 56));
        assert_eq!(Days::of_bytes(newest, &bytes), days);
    }

    proptest! {
        /// In whatever order they come, and across a rest in the database: the days of the last 448 up to the newest.
        #[test]
        fn days_are_those_that_came(
            days in prop::collection::vec(-10i64..2_000, 1..60),
            order in any::<prop::sample::Index>(),
        ) {
            let mut held = Days::default();
            let turned = [&days[order.index(days.len())..], &days[..order.index(days.len())]].concat();
            for day in turned {
                held.add(day);
                let (newest, bytes) = held.to_bytes();
                held = Days::of_bytes(newest, &bytes);
            }
            let newest = *days.iter().max().unwrap_or(&0);
            let expected: BTreeSet<i64> = days.into_iter().filter(|day| *day > newest - DAYS).collect();
            prop_assert_eq!(held.each().collect::<BTreeSet<_>>(), expected.clone());
            prop_assert_eq!(held.count() as usize, expected.len());
            // A later day never makes the longest silence shorter.
            let before = held.longest_interval();
            let first = *expected.first().unwrap_or(&0);
            let later = newest + 5;
            held.add(later);
            if first > later - DAYS {
                prop_assert!(held.longest_interval() >= before);
            }
        }
    }
}
