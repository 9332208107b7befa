//! How many streams of questions are open: bounded for each caller, and for all of them together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use legate_rpc::{Fault, OVERLOADED};
use parking_lot::Mutex;

/// Streams of all callers: what waits on one of them takes some 2 MiB at most.
const MOST: usize = 1_024;
/// Streams of one caller.
const MOST_OF_ONE: usize = 64;
/// When somebody who has too many may try again.
const AGAIN: Duration = Duration::from_secs(1);

/// Who has how many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<String, usize>>>);

/// A stream's place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    streams: Streams,
    caller: String,
}

impl Streams {
    /// A place for one more stream of the caller.
    ///
    /// # Errors
    /// `OVERLOADED` when it has 64, or all together 1,024.
    pub(crate) fn open(&self, caller: &str) -> Result<Place, Fault> {
        let mut open = self.0.lock();
        let of_one = open.get(caller).copied().unwrap_or(0);
        let full = |whose: &str, most| {
            Fault::unavailable(&OVERLOADED, format!("{whose} {most} streams of questions open already"), AGAIN)
        };
        if of_one >= MOST_OF_ONE {
            return Err(full("the caller has", MOST_OF_ONE));
        }
        if open.values().sum::<usize>() >= MOST {
            return Err(full("there are", MOST));
        }
        open.insert(caller.to_owned(), of_one + 1);
        Ok(Place { streams: self.clone(), caller: caller.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock();
        match open.get_mut(&self.caller) {
            Some(many) if *many > 1 => *many -= 1,
            _ => drop(open.remove(&self.caller)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn nobody_takes_all_places_and_who_leaves_is_forgotten() {
        let streams = Streams::default();
        let mut held: Vec<_> = (0..MOST_OF_ONE).map(|_| streams.open("eve").unwrap()).collect();
        assert_eq!(streams.open("eve").unwrap_err().reason(), "OVERLOADED");
        held.pop();
        held.push(streams.open("eve").unwrap());
        let others = (1..MOST / MOST_OF_ONE).flat_map(|n| (0..MOST_OF_ONE).map(move |_| format!("caller-{n}")));
        held.extend(others.map(|caller| streams.open(&caller).unwrap()));
        assert_eq!(streams.open("ada").unwrap_err().reason(), "OVERLOADED");
        held.clear();
        assert!(streams.0.lock().is_empty());
    }
}
