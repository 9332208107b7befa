//! Turns: how many streams of many objects may be open, in all and of one caller, and who is next where there is none.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Streams at once; each can hold what is written together.
pub(crate) const STREAMS: usize = 8;
/// Streams of one caller at once: nobody takes all of them from the others.
pub(crate) const OF_ONE: usize = 2;
/// Whoever was turned away and comes again within this has kept its place before those who come later.
pub(crate) const KEPT: Duration = Duration::from_secs(15);
/// Callers that have a place, at most.
const IN_LINE: usize = 1_024;

/// The streams that are open, by who opened them.
#[derive(Debug, Default)]
pub(crate) struct Turns(parking_lot::Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    /// How many each caller has.
    open: BTreeMap<String, usize>,
    /// Callers without a turn that found none, who came first before the others, and until when each is remembered.
    line: VecDeque<(String, Duration)>,
}

/// Why there is no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// For anybody: so many are open, or for those who came before.
    All,
    /// For this caller.
    OfOne,
}

/// One turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    who: String,
}

impl Turns {
    /// A turn for somebody, where there is one that is not for another; `now` is of the steady clock. Whoever has none goes before whoever
    /// wants another one, and of those who have none the one who came first.
    pub(super) fn take(&self, who: &str, now: Duration) -> Result<Turn<'_>, Full> {
        let mut taken = self.0.lock();
        taken.line.retain(|(_, until)| *until > now);
        let own = taken.open.get(who).copied().unwrap_or(0);
        if own >= OF_ONE {
            return Err(Full::OfOne);
        }
        let free = STREAMS.saturating_sub(taken.open.values().sum());
        let place = taken.line.iter().position(|(waits, _)| waits == who);
        if place.unwrap_or(taken.line.len()) < free {
            if let Some(at) = place {
                taken.line.remove(at);
            }
            taken.open.insert(who.to_owned(), own + 1);
            return Ok(Turn { turns: self, who: who.to_owned() });
        }
        let until = now.saturating_add(KEPT);
        if let Some(at) = place {
            taken.line[at].1 = until;
        } else if own == 0 && taken.line.len() < IN_LINE {
            taken.line.push_back((who.to_owned(), until));
        }
        Err(Full::All)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self.turns.0.lock();
        match taken.open.get_mut(&self.who) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.open.remove(&self.who)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    proptest! {
        /// Whoever comes and goes in whatever order: no bound is passed, a turn that is free and for nobody else is given, and who has
        /// left leaves nothing behind.
        #[test]
        fn there_is_a_turn_within_both_bounds(steps in prop::collection::vec((0..12usize, any::<bool>()), 0..120)) {
            let (turns, mut held) = (Turns::default(), Vec::<(usize, Turn<'_>)>::new());
            let mut line: Vec<usize> = Vec::new();
            for (who, comes) in steps {
                if comes {
                    let own = held.iter().filter(|(of, _)| *of == who).count();
                    let before = line.iter().position(|waits| *waits == who).unwrap_or(line.len());
                    let expected = match (own < OF_ONE, held.len() + before < STREAMS) {
                        (true, true) => None,
                        (false, _) => Some(Full::OfOne),
                        (true, false) => Some(Full::All),
                    };
                    match turns.take(&who.to_string(), NOW) {
                        Ok(turn) => {
                            prop_assert_eq!(expected, None);
                            held.push((who, turn));
                            line.retain(|waits| *waits != who);
                        }
                        Err(full) => {
                            prop_assert_eq!(expected, Some(full));
                            if full == Full::All && own == 0 && !line.contains(&who) {
                                line.push(who);
                            }
                        }
                    }
                } else if let Some(at) = held.iter().position(|(of, _)| *of == who) {
                    held.remove(at);
                }
                prop_assert!(held.len() <= STREAMS);
            }
            held.clear();
            prop_assert!(turns.0.lock().open.is_empty());
        }

        /// However many others come again at once whenever a turn is free: whoever keeps asking has one before as many turns were given as
        /// there are callers.
        #[test]
        fn whoever_keeps_asking_has_a_turn(greedy in 4..20usize, leaves in prop::collection::vec(0..STREAMS, 40)) {
            let (turns, mut held) = (Turns::default(), Vec::<Turn<'_>>::new());
            for who in (0..greedy).cycle().take(3 * greedy) {
                held.extend(turns.take(&who.to_string(), NOW));
            }
            prop_assert_eq!(held.len(), STREAMS);
            let mut given = 0;
            for at in leaves {
                if let Ok(turn) = turns.take("patient", NOW) {
                    held.push(turn);
                    break;
                }
                held.remove(at % held.len());
                for who in 0..greedy {
                    if let Ok(turn) = turns.take(&who.to_string(), NOW) {
                        held.push(turn);
                        given += 1;
                    }
                }
                prop_assert!(given <= greedy, "{given} turns were given to {greedy} who came later or had one");
            }
            prop_assert!(held.iter().any(|turn| turn.who == "patient"));
        }
    }

    #[test]
    fn a_place_is_kept_by_coming_again_and_lost_by_staying_away() {
        let turns = Turns::default();
        let mut held: Vec<_> = (0..STREAMS).map(|n| turns.take(&n.to_string(), NOW).unwrap()).collect();
        let second = Duration::from_secs(1);
        for (who, at) in [("first", NOW), ("second", second), ("second", KEPT - second)] {
            assert_eq!(turns.take(who, at).unwrap_err(), Full::All);
        }
        held.pop();
        // The one turn is for who came first, neither for who came later nor for another of somebody's.
        for who in ["second", "third", "0"] {
            assert_eq!(turns.take(who, KEPT - second).unwrap_err(), Full::All, "{who}");
        }
        // Who came first has not come again.
        held.push(turns.take("second", KEPT).unwrap());
        assert_eq!(turns.take("first", KEPT).unwrap_err(), Full::All);
        let line: Vec<String> = turns.0.lock().line.iter().map(|(who, _)| who.clone()).collect();
        assert_eq!(line, ["third", "first"]);
    }
}
