//! Turns at something that takes time: so many of each at once and so many of all, so that whoever takes long keeps its own
//! waiting and nobody else.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who waits behind whom.
#[derive(Clone, Debug)]
pub(crate) struct Turns<K: Eq + Hash + Clone> {
    all: Arc<Semaphore>,
    of_one: usize,
    lines: Arc<Mutex<HashMap<K, Arc<Semaphore>>>>,
}

/// A turn, over when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<K: Eq + Hash + Clone> {
    // In this order: its line is forgotten once nobody stands in it.
    _all: Option<OwnedSemaphorePermit>,
    _own: Option<OwnedSemaphorePermit>,
    _line: Line<K>,
}

/// A place in the line of one.
#[derive(Debug)]
struct Line<K: Eq + Hash + Clone> {
    who: K,
    turns: Option<Arc<Semaphore>>,
    lines: Arc<Mutex<HashMap<K, Arc<Semaphore>>>>,
}

impl<K: Eq + Hash + Clone> Drop for Line<K> {
    fn drop(&mut self) {
        let mut lines = self.lines.lock();
        drop(self.turns.take());
        if lines.get(&self.who).is_some_and(|turns| Arc::strong_count(turns) == 1) {
            lines.remove(&self.who);
        }
    }
}

impl<K: Eq + Hash + Clone> Turns<K> {
    pub(crate) fn new(all: usize, of_one: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), of_one, lines: Arc::default() }
    }

    /// Waits for a turn: first behind its own, then behind everybody, among whom its own are few.
    pub(crate) async fn next(&self, who: K) -> Turn<K> {
        let turns =
            Arc::clone(self.lines.lock().entry(who.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.of_one))));
        let line = Line { who, turns: Some(Arc::clone(&turns)), lines: Arc::clone(&self.lines) };
        // Nobody closes them.
        let own = turns.acquire_owned().await.ok();
        let all = Arc::clone(&self.all).acquire_owned().await.ok();
        Turn { _all: all, _own: own, _line: line }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_that_takes_long_keeps_its_own_waiting_and_nobody_else() {
        let turns = Turns::new(3, 2);
        let mut held = vec![turns.next(1).await, turns.next(1).await];
        // Many more of it wait, and take no place among all.
        let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(turns.next(1))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none());
        }
        drop(turns.next(2).now_or_never().unwrap());
        // Whose turn is over is followed by the next of its own.
        held.pop();
        let first = (&mut waiting[0]).now_or_never().unwrap();
        assert!((&mut waiting[1]).now_or_never().is_none());
        drop((first, waiting, held));
        assert!(turns.lines.lock().is_empty(), "nobody is remembered");
        assert_eq!(turns.all.available_permits(), 3);
    }

    #[tokio::test]
    async fn all_together_have_so_many() {
        let turns = Turns::new(2, 2);
        let held = [turns.next(1).await, turns.next(2).await];
        let mut third = Box::pin(turns.next(3));
        assert!((&mut third).now_or_never().is_none());
        drop(held);
        assert!((&mut third).now_or_never().is_some());
    }
}
