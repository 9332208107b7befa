//! How old what the index knows can be: at which moment it last held everything that the log had then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Moments that are remembered; beyond that no more are until the index has come to one of them.
const MOST: usize = 64;

/// What moment the index is of, now and later. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Freshness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// How large the log was at some moments, by the monotonic clock.
    sizes: Mutex<VecDeque<(Duration, u64)>>,
    covered: watch::Sender<Option<Duration>>,
}

impl Default for Freshness {
    fn default() -> Self {
        Self(Arc::new(Inner { sizes: Mutex::default(), covered: watch::Sender::new(None) }))
    }
}

impl Freshness {
    /// Notes that the log holds `size` leaves at `now`, and the index the first `through`.
    pub(crate) fn look(&self, now: Duration, size: u64, through: u64) {
        let mut sizes = self.0.sizes.lock();
        if sizes.len() < MOST {
            sizes.push_back((now, size));
        }
        let mut covered = None;
        while let Some((at, _)) = sizes.front().filter(|(_, size)| *size <= through) {
            covered = Some(*at);
            sizes.pop_front();
        }
        drop(sizes);
        if covered.is_some() {
            self.0.covered.send_replace(covered);
        }
    }

    /// The moment that the index is of; `None`: it never held all of the log since the start.
    pub(crate) fn covered(&self) -> watch::Receiver<Option<Duration>> {
        self.0.covered.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_of_the_moment_at_which_it_held_all_of_the_log() {
        let (fresh, at) = (Freshness::default(), Duration::from_secs);
        let covered = |fresh: &Freshness| *fresh.covered().borrow();
        fresh.look(at(1), 10, 0);
        fresh.look(at(2), 20, 9);
        assert_eq!(covered(&fresh), None);
        fresh.look(at(3), 30, 20);
        assert_eq!(covered(&fresh), Some(at(2)));
        for second in 4..1_000 {
            fresh.look(at(second), 40, 29);
        }
        assert_eq!(covered(&fresh), Some(at(2)));
        assert!(fresh.0.sizes.lock().len() <= MOST);
        fresh.look(at(1_000), 50, 50);
        fresh.look(at(1_001), 50, 50);
        assert_eq!(covered(&fresh), Some(at(1_001)));
    }
}
