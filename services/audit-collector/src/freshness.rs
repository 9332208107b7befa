//! How old what the index knows of operators can be: at which moment it last held everything that the log said of them then.
//!
//! The index may be far behind the log, where that grows fast. What operators may do is known all the same, as soon as the index has come
//! to the last that the registry told of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Moments that are remembered; beyond that no more are until the index has come to one of them.
const MOST: usize = 64;

/// For so long after the end of an append nobody heard of, the registry's word may still come to be in the log.
const UNHEARD: Duration = Duration::from_secs(60);

/// What moment the index is of, now and later. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Freshness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    said: Mutex<Said>,
    covered: watch::Sender<Option<Duration>>,
}

#[derive(Debug, Default)]
struct Said {
    /// Where the last that the registry said ends; `None`: that was not looked for, so as far as the log goes at the next look.
    end: Option<u64>,
    /// What it says at this moment.
    under_way: usize,
    /// An append was given up, whose outcome nobody heard, since the last look.
    is_unheard: bool,
    /// Until when one of them may still come about, by the monotonic clock.
    unheard_until: Option<Duration>,
    /// What the index has to have come to, to know what was said at some moments.
    needed: VecDeque<(Duration, u64)>,
}

/// The registry's word about operators, on its way into the log.
#[derive(Debug)]
pub(crate) struct Saying {
    of: Freshness,
    is_heard: bool,
}

impl Default for Freshness {
    fn default() -> Self {
        Self(Arc::new(Inner { said: Mutex::default(), covered: watch::Sender::new(None) }))
    }
}

impl Freshness {
    /// Before anything goes into the log that the registry says of operators.
    pub(crate) fn saying(&self) -> Saying {
        self.0.said.lock().under_way += 1;
        Saying { of: self.clone(), is_heard: false }
    }

    /// Notes that the log holds `size` leaves at `now`, and the index the first `through`.
    pub(crate) fn look(&self, now: Duration, size: u64, through: u64) {
        let mut said = self.0.said.lock();
        if std::mem::take(&mut said.is_unheard) {
            said.unheard_until = Some(now.saturating_add(UNHEARD));
        }
        let is_unheard = said.unheard_until.is_some_and(|until| now < until);
        if is_unheard {
            said.end = None;
        }
        let end = *said.end.get_or_insert(size);
        let needed = if said.under_way > 0 { size } else { end.min(size) };
        // Whoever knows what was said by now knows what was said before.
        while said.needed.pop_back_if(|(_, before)| *before >= needed).is_some() {}
        if said.needed.len() < MOST {
            said.needed.push_back((now, needed));
        }
        let mut covered = None;
        while let Some((at, _)) = said.needed.pop_front_if(|(_, needed)| *needed <= through) {
            covered = Some(at);
        }
        drop(said);
        if covered.is_some() {
            self.0.covered.send_replace(covered);
        }
    }

    /// The moment that the index is of; `None`: it never knew all of it since the start.
    pub(crate) fn covered(&self) -> watch::Receiver<Option<Duration>> {
        self.0.covered.subscribe()
    }
}

impl Saying {
    /// It is in the log, before the leaf `end`; `None`: nothing of it is new.
    pub(crate) fn said(mut self, end: Option<u64>) {
        let mut said = self.of.0.said.lock();
        if let (Some(end), Some(last)) = (end, &mut said.end) {
            *last = end.max(*last);
        }
        drop(said);
        self.is_heard = true;
    }
}

impl Drop for Saying {
    fn drop(&mut self) {
        let mut said = self.of.0.said.lock();
        said.under_way -= 1;
        said.is_unheard |= !self.is_heard;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn covered(fresh: &Freshness) -> Option<Duration> {
        *fresh.covered().borrow()
    }

    #[test]
    fn an_index_knows_what_was_said_once_it_has_come_to_it_however_far_the_log_goes() {
        let fresh = Freshness::default();
        // What is in the log from before is taken for the registry's word.
        fresh.look(at(1), 10, 0);
        fresh.look(at(2), 20, 9);
        assert_eq!(covered(&fresh), None);
        fresh.look(at(3), 1_000, 10);
        assert_eq!(covered(&fresh), Some(at(3)), "the rest of the log says nothing of it");
        let saying = fresh.saying();
        fresh.look(at(4), 2_000, 10);
        assert_eq!(covered(&fresh), Some(at(3)), "it may be in the log, or not");
        saying.said(Some(1_500));
        fresh.look(at(5), 3_000, 1_499);
        assert_eq!(covered(&fresh), Some(at(3)));
        fresh.look(at(6), 3_000, 1_500);
        assert_eq!(covered(&fresh), Some(at(6)), "what was looked for meanwhile needs no more than that at last");
    }

    #[test]
    fn what_nobody_heard_the_end_of_counts_as_said_wherever_it_may_be() {
        let fresh = Freshness::default();
        fresh.look(at(1), 10, 10);
        drop(fresh.saying());
        fresh.look(at(2), 50, 49);
        assert_eq!(covered(&fresh), Some(at(1)));
        // It may come to be in the log later than it was given up.
        fresh.look(at(50), 90, 89);
        assert_eq!(covered(&fresh), Some(at(2)), "that the index has come to");
        fresh.look(at(61), 100, 90);
        fresh.look(at(63), 200, 100);
        assert_eq!(covered(&fresh), Some(at(63)));
        // What was there already says nothing new.
        fresh.saying().said(None);
        fresh.look(at(64), 300, 100);
        assert_eq!(covered(&fresh), Some(at(64)));
    }

    #[test]
    fn an_index_that_does_not_come_forward_takes_no_room() {
        let fresh = Freshness::default();
        for second in 4..1_000 {
            fresh.look(at(second), 40, 29);
        }
        assert_eq!(covered(&fresh), None);
        assert!(fresh.0.said.lock().needed.len() <= MOST);
        fresh.look(at(1_000), 50, 50);
        fresh.look(at(1_001), 50, 50);
        assert_eq!(covered(&fresh), Some(at(1_001)));
    }
}
