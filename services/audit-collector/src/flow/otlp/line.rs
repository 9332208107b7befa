//! What each caller by OTLP appended lately: what the index does not hold yet, and the next number.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Mutex as Turn;

/// Callers at once whose lines are kept.
const CALLERS: usize = 4_096;

/// Acts of one caller that the index may be behind.
const MOST: usize = 16_384;

/// The lines of all callers.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<HashMap<String, Arc<Turn<Line>>>>);

/// One caller's line: whoever holds it appends.
#[derive(Debug)]
pub(crate) struct Line {
    /// The last number in the log, where it is known.
    pub(super) last: Option<u64>,
    /// The ids of events that the index may not hold yet, and their leaves.
    fresh: HashMap<String, u64>,
    by_leaf: BTreeMap<u64, String>,
    /// What stands before this leaf is asked of the index.
    needs: u64,
}

impl Lines {
    /// A caller's line; `size`: how many leaves the log has, and the index holds those before `through`. `None`: too many callers have
    /// something in the log that the index does not hold.
    pub(super) fn of(&self, caller: &str, size: u64, through: u64) -> Option<Arc<Turn<Line>>> {
        let mut lines = self.0.lock();
        if let Some(line) = lines.get(caller) {
            return Some(Arc::clone(line));
        }
        if lines.len() >= CALLERS {
            // One that nobody holds and that remembers nothing is as good as a new one.
            lines.retain(|_, line| {
                let is_held = Arc::strong_count(line) > 1;
                is_held || line.try_lock().is_ok_and(|mut line| line.holds_after(through))
            });
            if lines.len() >= CALLERS {
                return None;
            }
        }
        let new = Arc::new(Turn::new(Line::beginning(size)));
        lines.insert(caller.to_owned(), Arc::clone(&new));
        Some(new)
    }
}

impl Line {
    /// Nothing is known of the first `size` leaves but by the index.
    fn beginning(size: u64) -> Self {
        Self { last: None, fresh: HashMap::new(), by_leaf: BTreeMap::new(), needs: size }
    }

    /// Whether something is remembered once the index holds everything before `through`.
    fn holds_after(&mut self, through: u64) -> bool {
        self.forget_below(through);
        !self.fresh.is_empty()
    }

    /// How far the index has to be before it is asked.
    pub(super) fn needs(&self) -> u64 {
        self.needs
    }

    /// Whether no more fit before the index has taken some.
    pub(super) fn is_full(&self) -> bool {
        self.fresh.len() >= MOST
    }

    /// How far the index has to be to hold all of these.
    pub(super) fn newest(&self) -> u64 {
        self.by_leaf.last_key_value().map_or(self.needs, |(leaf, _)| leaf + 1)
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.fresh.contains_key(id)
    }

    /// The index holds everything before `through`. From there on it has to: what is forgotten here is asked of it, also
    /// where it is made again.
    pub(super) fn forget_below(&mut self, through: u64) {
        while let Some(first) = self.by_leaf.first_entry().filter(|first| *first.key() < through) {
            self.needs = self.needs.max(first.key() + 1);
            let id = first.remove();
            self.fresh.remove(&id);
        }
    }

    /// These were appended from `first` on, one after the other.
    pub(super) fn remember(&mut self, ids: Vec<String>, first: u64) {
        for (id, leaf) in ids.into_iter().zip(first..) {
            self.by_leaf.insert(leaf, id.clone());
            self.fresh.insert(id, leaf);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_the_line_forgets_the_index_has_to_hold() {
        let mut line = Line::beginning(100);
        assert_eq!((line.needs(), line.newest()), (100, 100));
        line.remember(vec!["a".into(), "b".into()], 100);
        line.remember(vec!["c".into()], 110);
        assert!(line.knows("a") && line.knows("c") && !line.knows("d"));
        assert_eq!((line.needs(), line.newest()), (100, 111));
        line.forget_below(101);
        assert!(!line.knows("a") && line.knows("b"));
        assert_eq!(line.needs(), 101);
        // An index that is made again is behind what was forgotten.
        line.forget_below(0);
        assert_eq!(line.needs(), 101);
        line.forget_below(1_000);
        assert!(!line.holds_after(0));
        assert_eq!((line.needs(), line.newest()), (111, 111));
    }

    #[test]
    fn callers_are_bounded_and_those_with_nothing_to_remember_make_room() {
        let lines = Lines::default();
        for n in 0..CALLERS {
            let line = lines.of(&n.to_string(), 0, 0).unwrap();
            line.try_lock().unwrap().remember(vec![n.to_string()], n as u64);
        }
        assert!(lines.of("new", 0, 0).is_none());
        assert!(lines.of("7", 0, 0).is_some_and(|line| line.try_lock().unwrap().knows("7")));
        assert!(lines.of("new", 0, 10).is_some());
        assert_eq!(lines.0.lock().len(), CALLERS - 9);
    }
}
