//! How many streams of news there may be: of one node, and of all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use legate_rpc::{Fault, OVERLOADED};
use parking_lot::Mutex;

/// Streams of one node: the one that it reads, and those that it left and that have not ended yet.
const MOST_OF_ONE: usize = 4;
/// Streams of all nodes.
const MOST: usize = 4_096;

/// The streams that are open, by who reads them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Arc<Mutex<HashMap<String, usize>>>);

/// A stream's place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    node: String,
}

impl Places {
    /// A place for one more stream of the node.
    ///
    /// # Errors
    /// `OVERLOADED` when it has 4, or all together 4,096.
    pub(crate) fn open(&self, node: &str) -> Result<Place, Fault> {
        let mut open = self.0.lock();
        let of_one = open.get(node).copied().unwrap_or(0);
        let full = |whose: &str, most| {
            let again = Duration::from_secs(1);
            Fault::unavailable(&OVERLOADED, format!("{whose} {most} streams of news open already"), again)
        };
        if of_one >= MOST_OF_ONE {
            return Err(full("the node has", MOST_OF_ONE));
        }
        if open.values().sum::<usize>() >= MOST {
            return Err(full("there are", MOST));
        }
        open.insert(node.to_owned(), of_one + 1);
        Ok(Place { places: self.clone(), node: node.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.0.lock();
        match open.get_mut(&self.node) {
            Some(many) if *many > 1 => *many -= 1,
            _ => drop(open.remove(&self.node)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn nobody_takes_all_places_and_who_leaves_is_forgotten() {
        let places = Places::default();
        let mut held: Vec<_> = (0..MOST_OF_ONE).map(|_| places.open("vm-1").unwrap()).collect();
        assert_eq!(places.open("vm-1").unwrap_err().reason(), "OVERLOADED");
        held.pop();
        held.push(places.open("vm-1").unwrap());
        let others = (1..MOST / MOST_OF_ONE).flat_map(|n| (0..MOST_OF_ONE).map(move |_| format!("vm-0{n}")));
        held.extend(others.map(|node| places.open(&node).unwrap()));
        assert_eq!(places.open("vm-2").unwrap_err().reason(), "OVERLOADED");
        held.clear();
        assert!(places.0.lock().is_empty());
    }
}
