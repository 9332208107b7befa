//! Turns: how many streams of many objects may be open, in all and of one caller.

use std::collections::BTreeMap;

/// Streams at once; each can hold what is written together.
pub(crate) const STREAMS: usize = 8;
/// Streams of one caller at once: nobody takes all of them from the others.
pub(crate) const OF_ONE: usize = 2;

/// The streams that are open, by who opened them.
#[derive(Debug, Default)]
pub(crate) struct Turns(parking_lot::Mutex<BTreeMap<String, usize>>);

/// Why there is no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// For anybody.
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
    /// A turn for somebody, where there is one.
    pub(super) fn take(&self, who: &str) -> Result<Turn<'_>, Full> {
        let mut open = self.0.lock();
        let own = open.get(who).copied().unwrap_or(0);
        if own >= OF_ONE {
            return Err(Full::OfOne);
        }
        if open.values().sum::<usize>() >= STREAMS {
            return Err(Full::All);
        }
        open.insert(who.to_owned(), own + 1);
        Ok(Turn { turns: self, who: who.to_owned() })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut open = self.turns.0.lock();
        match open.get_mut(&self.who) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(open.remove(&self.who)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whoever comes and goes in whatever order: there is a turn exactly as long as neither bound is reached, and who has left
        /// leaves nothing behind.
        #[test]
        fn there_is_a_turn_within_both_bounds(steps in prop::collection::vec((0..6usize, any::<bool>()), 0..80)) {
            let (turns, mut held) = (Turns::default(), Vec::<(usize, Turn<'_>)>::new());
            for (who, comes) in steps {
                if comes {
                    let own = held.iter().filter(|(of, _)| *of == who).count();
                    let expected = match (own < OF_ONE, held.len() < STREAMS) {
                        (true, true) => None,
                        (false, _) => Some(Full::OfOne),
                        (true, false) => Some(Full::All),
                    };
                    match turns.take(&who.to_string()) {
                        Ok(turn) => {
                            prop_assert_eq!(expected, None);
                            held.push((who, turn));
                        }
                        Err(full) => prop_assert_eq!(expected, Some(full)),
                    }
                } else if let Some(at) = held.iter().position(|(of, _)| *of == who) {
                    held.remove(at);
                }
            }
            held.clear();
            prop_assert!(turns.0.lock().is_empty());
        }
    }
}
