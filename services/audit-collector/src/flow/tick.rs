//! The log's own time goes on while something waits for it.
//!
//! What the rules find hangs on leaves alone, so that it is found again whenever the index is made again. So time is leaves as well:
//! the collector's own events, and where there are none, one that says no more than what time it is.

use std::time::Duration;

use legate_clock::Timestamp;

use super::Desk;
use crate::log::Own;
use crate::store::detect::Looked;

/// How often it is told what time it is, while something waits.
const WAITING: Duration = Duration::from_secs(5);

/// How often it is told while services are listened to, so that the silence of all of them is found.
const LISTENING: Duration = Duration::from_secs(60);

/// How often otherwise, where others told something meanwhile.
const QUIET: Duration = Duration::from_secs(600);

/// When it was told last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ticked {
    at: Option<Timestamp>,
    /// The log's size then.
    size: u64,
    was_waiting: bool,
}

impl Ticked {
    /// Whether it is told now.
    fn is_due(&mut self, now: Timestamp, size: u64, through: u64, looked: Looked) -> bool {
        let Looked { is_waiting, is_listening, .. } = looked;
        let Some(at) = self.at else {
            (self.at, self.size) = (Some(now), size);
            return false;
        };
        let begins = is_waiting && !self.was_waiting;
        self.was_waiting = is_waiting;
        // While the index stands still, more time is of no use to it.
        let is_followed = through > self.size || self.size == 0;
        let passed = now.since(at);
        let is_due = begins
            || (is_waiting && is_followed && passed >= WAITING)
            || (is_listening && is_followed && passed >= LISTENING)
            || (size > self.size + 1 && passed >= QUIET);
        if is_due {
            (self.at, self.size) = (Some(now), size);
        }
        is_due
    }
}

/// Tells what time it is, where that is due.
pub(crate) fn tick(desk: &Desk, ticked: &mut Ticked) {
    let (looked, _) = *desk.index.looked().borrow();
    let through = *desk.index.through().borrow();
    if ticked.is_due(desk.clock.now(), desk.log.size(), through, looked) {
        desk.log.tell(Own::new("log.ticked"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_while_something_waits_and_seldom_else() {
        let at = Timestamp::from_secs;
        let (idle, waiting) = (Looked::default(), Looked { is_waiting: true, ..Looked::default() });
        let mut ticked = Ticked::default();
        assert!(!ticked.is_due(at(0), 10, 10, idle));
        assert!(!ticked.is_due(at(60), 20, 20, idle));
        assert!(ticked.is_due(at(61), 20, 20, waiting), "at once when something begins to wait");
        assert!(!ticked.is_due(at(63), 21, 21, waiting));
        assert!(ticked.is_due(at(66), 21, 21, waiting));
        assert!(!ticked.is_due(at(90), 22, 21, waiting), "not while the index stands still");
        assert!(ticked.is_due(at(91), 22, 22, waiting));
        assert!(!ticked.is_due(at(2_000), 23, 23, idle), "nobody told anything");
        assert!(ticked.is_due(at(2_000), 30, 30, idle));
        let listening = Looked { is_listening: true, ..Looked::default() };
        assert!(!ticked.is_due(at(2_059), 31, 31, listening));
        assert!(ticked.is_due(at(2_060), 31, 31, listening), "though nobody tells anything");
        assert!(!ticked.is_due(at(3_000), 32, 31, listening), "not while the index stands still");
    }
}
