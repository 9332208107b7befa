//! Who follows the registry, by which revision each said that it answers, and until when it can act by an earlier one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use legate_clock::Timestamp;

use super::standing::HEARD_BY_ALL;

/// Whoever was not heard for so long is forgotten.
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// Followers that are remembered.
const MOST: usize = 1_000;
/// Revisions of which it is kept when one follower said that it answers by them.
const KEPT: usize = 128;

/// A moment by both clocks: the one that only goes on, and the one that people read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) mono: Duration,
    pub(crate) wall: Timestamp,
}

impl Moment {
    /// What people read at another moment of the clock that only goes on.
    fn wall_at(self, mono: Duration) -> Timestamp {
        match mono.checked_sub(self.mono) {
            Some(ahead) => self.wall.plus(ahead),
            None => self.wall.minus(self.mono.saturating_sub(mono)),
        }
    }
}

/// Which follower: its service, and what it calls itself or, where it calls itself nothing, from where it follows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who {
    pub(crate) service: String,
    pub(crate) replica: String,
}

/// What is known of one.
#[derive(Clone, Debug)]
struct Known {
    address: String,
    heard: Moment,
    /// Revisions that it said it answers by, rising, and when.
    said: VecDeque<(u64, Timestamp)>,
}

/// Everybody who follows, or did of late.
#[derive(Clone, Debug)]
pub(crate) struct Roll {
    /// Before this nobody was heard here.
    began: Moment,
    known: BTreeMap<Who, Known>,
}

/// Where a follower stands to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It answers by the revision or a later one, since this moment at the latest.
    Confirmed(Timestamp),
    /// It has not said so, and can act by what it held before.
    Pending,
    /// It has not said so, and was not heard for longer than it may act.
    Stale,
}

/// What is told of a follower.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) who: Who,
    pub(crate) address: String,
    pub(crate) state: State,
    pub(crate) newest: u64,
    pub(crate) heard: Timestamp,
    /// Until when it can act by what it held before.
    pub(crate) until: Timestamp,
}

impl Roll {
    /// One that nobody is on yet.
    pub(crate) fn new(began: Moment) -> Self {
        Self { began, known: BTreeMap::new() }
    }

    /// A follower spoke. What it holds is certain as of the moment at which it asked, which was not after this one.
    pub(crate) fn heard(&mut self, who: &Who, address: &str, now: Moment) {
        if let Some(known) = self.known.get_mut(who) {
            (known.heard, known.address) = (now, address.to_owned());
            return;
        }
        self.known.retain(|_, known| now.mono.saturating_sub(known.heard.mono) < REMEMBERED);
        if self.known.len() >= MOST {
            let longest = self.known.iter().min_by_key(|(_, known)| known.heard.mono).map(|(who, _)| who.clone());
            longest.map(|who| self.known.remove(&who));
        }
        let known = Known { address: address.to_owned(), heard: now, said: VecDeque::new() };
        self.known.insert(who.clone(), known);
    }

    /// It says that it answers by `revision`.
    pub(crate) fn said(&mut self, who: &Who, revision: u64, now: Moment) {
        let Some(known) = self.known.get_mut(who) else { return };
        if known.said.back().is_none_or(|(last, _)| *last < revision) {
            if known.said.len() == KEPT {
                known.said.pop_front();
            }
            known.said.push_back((revision, now.wall));
        }
    }

    /// Where everybody stands to `revision`.
    pub(crate) fn look(&self, revision: u64, now: Moment) -> Vec<Told> {
        let told = |(who, known): (&Who, &Known)| {
            let confirmed = known.said.iter().find(|(said, _)| *said >= revision).map(|(_, at)| *at);
            let until = known.heard.mono.saturating_add(HEARD_BY_ALL);
            Told {
                who: who.clone(),
                address: known.address.clone(),
                state: match confirmed {
                    Some(at) => State::Confirmed(at),
                    None if now.mono <= until => State::Pending,
                    None => State::Stale,
                },
                newest: known.said.back().map_or(0, |(said, _)| *said),
                heard: known.heard.wall,
                until: now.wall_at(until),
            }
        };
        let is_remembered = |(_, known): &(&Who, &Known)| now.mono.saturating_sub(known.heard.mono) < REMEMBERED;
        self.known.iter().filter(is_remembered).map(told).collect()
    }

    /// Until when whoever is not on the roll can act by what it heard before the roll began.
    pub(crate) fn others_until(&self, now: Moment) -> Timestamp {
        now.wall_at(self.began.mono.saturating_add(HEARD_BY_ALL))
    }

    /// Whether nobody can act by what came before `revision` any more.
    pub(crate) fn is_contained(&self, revision: u64, now: Moment) -> bool {
        let others = now.mono > self.began.mono.saturating_add(HEARD_BY_ALL);
        others && self.look(revision, now).iter().all(|one| one.state != State::Pending)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Moment {
        let mono = Duration::from_millis(millis);
        Moment { mono, wall: Timestamp::from_secs(1_900_000_000).plus(mono) }
    }

    fn who(n: u64) -> Who {
        Who { service: "policy-decision".into(), replica: format!("{n}") }
    }

    fn states(roll: &Roll, revision: u64, millis: u64) -> Vec<State> {
        roll.look(revision, at(millis)).into_iter().map(|told| told.state).collect()
    }

    #[test]
    fn a_follower_confirms_or_can_act_until_it_is_too_long_without_news() {
        let mut roll = Roll::new(at(0));
        assert!(!roll.is_contained(1, at(5_000)), "who heard something just before the start can still act");
        assert!(roll.is_contained(1, at(5_001)));
        assert_eq!(roll.others_until(at(60_000)), at(5_000).wall);
        for n in [1, 2] {
            roll.heard(&who(n), "10.0.0.1:5", at(10_000));
            roll.said(&who(n), 7, at(10_000));
        }
        roll.heard(&who(1), "10.0.0.1:6", at(10_300));
        roll.said(&who(1), 8, at(10_300));
        assert_eq!(states(&roll, 8, 15_000), [State::Confirmed(at(10_300).wall), State::Pending]);
        assert!(!roll.is_contained(8, at(15_000)));
        assert_eq!(states(&roll, 8, 15_001), [State::Confirmed(at(10_300).wall), State::Stale]);
        assert!(roll.is_contained(8, at(15_001)));
        let told = roll.look(8, at(20_000)).pop().unwrap();
        assert_eq!((told.newest, told.heard, told.until), (7, at(10_000).wall, at(15_000).wall));
        // It is heard again, without saying more: it can act again only by what it hears now, and has not confirmed that.
        roll.heard(&who(2), "10.0.0.1:5", at(30_000));
        assert_eq!(states(&roll, 8, 30_001)[1], State::Pending);
        roll.said(&who(2), 9, at(30_100));
        assert_eq!(states(&roll, 8, 30_200)[1], State::Confirmed(at(30_100).wall));
    }

    #[test]
    fn whoever_was_not_heard_for_an_hour_is_forgotten_and_the_roll_is_bounded() {
        let mut roll = Roll::new(at(0));
        roll.heard(&who(0), "a", at(0));
        assert_eq!(states(&roll, 1, 3_599_999).len(), 1);
        assert_eq!(states(&roll, 1, 3_600_000).len(), 0);
        for n in 1..=1_500 {
            roll.heard(&who(n), "a", at(n));
        }
        assert_eq!(roll.known.len(), MOST);
        assert!(roll.known.contains_key(&who(1_500)) && !roll.known.contains_key(&who(500)));
        for revision in 1..=1_000 {
            roll.said(&who(1_500), revision, at(revision));
        }
        assert!(roll.known[&who(1_500)].said.len() <= KEPT);
    }

    proptest! {
        /// Whatever is heard and said, in whatever order: nobody counts as confirmed who did not say so of that revision or a
        /// later one, and nobody as unable to act who was heard within the bound and did not.
        #[test]
        fn nobody_is_told_to_be_contained_who_may_not_be(
            words in prop::collection::vec((0u64..4, prop::option::of(1u64..20), 0u64..4_000), 0..40),
            (revision, later) in (1u64..20, 0u64..12_000),
        ) {
            let mut roll = Roll::new(at(0));
            let (mut now, mut heard, mut newest) = (0, BTreeMap::new(), BTreeMap::new());
            for (n, said, passed) in words {
                now += passed;
                roll.heard(&who(n), "a", at(now));
                heard.insert(n, now);
                if let Some(said) = said {
                    roll.said(&who(n), said, at(now));
                    let known = newest.entry(n).or_insert(0);
                    *known = said.max(*known);
                }
            }
            now += later;
            let told = roll.look(revision, at(now));
            prop_assert_eq!(told.len(), heard.len());
            for (one, (n, heard)) in told.iter().zip(&heard) {
                let confirmed = newest.get(n).is_some_and(|said| *said >= revision);
                prop_assert_eq!(matches!(one.state, State::Confirmed(_)), confirmed);
                prop_assert_eq!(one.state == State::Pending, !confirmed && now <= heard + 5_000);
            }
            let may_act = told.iter().any(|one| one.state == State::Pending) || now <= 5_000;
            prop_assert_eq!(roll.is_contained(revision, at(now)), !may_act);
        }
    }
}
