//! The bound on events that wait for the disk: in all, and for each emitter.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// How many bytes wait, and whose.
#[derive(Debug)]
pub(crate) struct Waiting {
    most: usize,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    bytes: usize,
    by_emitter: HashMap<String, usize>,
}

/// A share of the bound, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    waiting: Arc<Waiting>,
    emitter: String,
    bytes: usize,
}

impl Waiting {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, now: Mutex::default() })
    }

    /// A place for `bytes` of an emitter, where there is one. No emitter has more than half, so that one that floods the
    /// log does not keep the others out.
    pub(super) fn enter(self: &Arc<Self>, emitter: &str, bytes: usize) -> Option<Place> {
        let mut now = self.now.lock();
        let its = now.by_emitter.get(emitter).copied().unwrap_or(0);
        if now.bytes + bytes > self.most || its + bytes > self.most / 2 {
            return None;
        }
        now.bytes += bytes;
        *now.by_emitter.entry(emitter.to_owned()).or_insert(0) += bytes;
        drop(now);
        Some(Place { waiting: Arc::clone(self), emitter: emitter.to_owned(), bytes })
    }

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.now.lock().bytes
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut now = self.waiting.now.lock();
        now.bytes = now.bytes.saturating_sub(self.bytes);
        let left = now.by_emitter.get(&self.emitter).map_or(0, |its| its.saturating_sub(self.bytes));
        if left == 0 {
            now.by_emitter.remove(&self.emitter);
        } else if let Some(its) = now.by_emitter.get_mut(&self.emitter) {
            *its = left;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn one_emitter_leaves_room_for_others_and_everything_comes_back() {
        let waiting = Waiting::new(100);
        let flood: Vec<Place> = std::iter::from_fn(|| waiting.enter("a", 10)).collect();
        assert_eq!(flood.len(), 5);
        let other = waiting.enter("b", 50).unwrap();
        assert!(waiting.enter("c", 1).is_none());
        drop(other);
        assert!(waiting.enter("c", 1).is_some());
        drop(flood);
        assert_eq!(waiting.bytes(), 0);
        assert!(waiting.now.lock().by_emitter.is_empty());
    }
}
