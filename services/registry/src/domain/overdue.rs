//! What is over and is to be ended: how much of it is written together, and what is left aside because it could not be.
//!
//! Nothing stands in the way of what comes behind it. Where a write fails less is tried, down to one object by itself; what fails
//! then is left aside for a while, and tried by itself when that is over.

use std::collections::BTreeMap;
use std::time::Duration;

/// Objects that are written together.
pub(crate) const MOST: usize = 200;
/// What is tried after a failure, as a part of what was.
const LESS: usize = 4;
/// How many more are tried after a success.
const MORE: usize = 16;
/// How long something is left aside at first; each time it fails again, twice as long.
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(3_600);

/// How the registry gets on with ending what is over. Times are a steady clock's.
#[derive(Debug)]
pub(crate) struct Overdue {
    room: usize,
    aside: BTreeMap<String, Aside>,
}

#[derive(Clone, Copy, Debug)]
struct Aside {
    until: Duration,
    wait: Duration,
}

/// What is to be done about an object that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Try {
    /// With others.
    Together,
    /// By itself, since it failed before.
    Alone,
    /// Nothing yet.
    Later,
}

impl Default for Overdue {
    fn default() -> Self {
        Self { room: MOST, aside: BTreeMap::new() }
    }
}

impl Overdue {
    /// How many objects may be written together.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// How many are left aside.
    pub(crate) fn aside(&self) -> usize {
        self.aside.len()
    }

    /// How an object is tried at `now`.
    pub(crate) fn way(&self, id: &str, now: Duration) -> Try {
        match self.aside.get(id) {
            None => Try::Together,
            Some(aside) if aside.until <= now => Try::Alone,
            Some(_) => Try::Later,
        }
    }

    /// What was tried together was written.
    pub(crate) fn went_well(&mut self) {
        self.room = (self.room + MORE).min(MOST);
    }

    /// What was tried together, where there was room for `tried` and `first` came first, was not; whether that one was alone, and is
    /// left aside.
    pub(crate) fn went_wrong(&mut self, tried: usize, first: &str, now: Duration) -> bool {
        let is_alone = tried == 1;
        if is_alone {
            self.leave_aside(first, now);
        }
        self.room = self.room.min((tried / LESS).max(1));
        is_alone
    }

    /// It cannot be ended now.
    pub(crate) fn leave_aside(&mut self, id: &str, now: Duration) {
        let wait = self.aside.get(id).map_or(FIRST, |aside| (aside.wait * 2).min(LONGEST));
        self.aside.insert(id.to_owned(), Aside { until: now + wait, wait });
    }

    /// It was ended after all.
    pub(crate) fn take_back(&mut self, id: &str) {
        self.aside.remove(id);
    }

    /// Forgets what is no longer due at all, or it would have been tried since.
    pub(crate) fn forget(&mut self, now: Duration) {
        self.aside.retain(|_, aside| aside.until + LONGEST > now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn what_fails_by_itself_is_left_aside_ever_longer() {
        let mut overdue = Overdue::default();
        let tries = (0..10).take_while(|_| !overdue.went_wrong(overdue.room(), "a", NOW)).count();
        assert_eq!((tries, overdue.room(), overdue.aside()), (4, 1, 1));
        assert_eq!((overdue.way("a", NOW), overdue.way("b", NOW)), (Try::Later, Try::Together));
        assert_eq!(overdue.way("a", NOW + FIRST), Try::Alone);
        overdue.leave_aside("a", NOW + FIRST);
        assert_eq!(overdue.way("a", NOW + FIRST * 2), Try::Later);
        assert_eq!(overdue.way("a", NOW + FIRST * 3), Try::Alone);
        for _ in 0..40 {
            overdue.leave_aside("a", NOW);
        }
        assert_eq!(overdue.way("a", NOW + LONGEST), Try::Alone);
        overdue.take_back("a");
        assert_eq!(overdue.way("a", NOW), Try::Together);
    }

    #[test]
    fn whoever_is_gone_is_forgotten() {
        let mut overdue = Overdue::default();
        overdue.leave_aside("a", NOW);
        overdue.forget(NOW + FIRST);
        assert_eq!(overdue.aside(), 1);
        overdue.forget(NOW + FIRST + LONGEST);
        assert_eq!(overdue.aside(), 0);
    }

    proptest! {
        /// Whatever the database takes, something is written within a few tries, and what is tried stays within its bounds.
        #[test]
        fn there_is_always_a_way_on(takes in 1..=MOST, start in 1..=MOST) {
            let mut overdue = Overdue { room: start, aside: BTreeMap::new() };
            let mut failures = 0;
            while overdue.room() > takes {
                prop_assert!(!overdue.went_wrong(overdue.room(), "a", NOW));
                failures += 1;
            }
            prop_assert!(failures <= 4, "{} tries", failures);
            for _ in 0..100 {
                prop_assert!((1..=MOST).contains(&overdue.room()));
                overdue.went_well();
            }
            prop_assert_eq!(overdue.room(), MOST);
        }
    }
}
