//! When something is over: by the clock on the wall, or by the one that nobody sets, whichever says so first.
//!
//! A wall clock that was put back makes no certificate live longer here, and a machine that slept finds out.

use std::time::Duration;

use legate_clock::{Clock, Timestamp};

/// One moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    wall: Timestamp,
    steady: Duration,
}

impl Moment {
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), steady: clock.monotonic() }
    }

    /// How long it is from this one to what the wall clock will call `end`.
    pub(crate) fn until(self, end: Timestamp) -> Duration {
        end.since(self.wall)
    }

    /// This one and so much more.
    pub(crate) fn after(self, time: Duration) -> Self {
        Self { wall: self.wall.plus(time), steady: self.steady.saturating_add(time) }
    }

    /// How long it still is to it, from `now`; zero: it is over.
    pub(crate) fn left(self, now: Self) -> Duration {
        self.wall.since(now.wall).min(self.steady.saturating_sub(now.steady))
    }

    pub(crate) fn is_over(self, now: Self) -> bool {
        self.left(now).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use legate_clock::TestClock;

    #[test]
    fn whichever_clock_says_so_first() {
        let hour = Duration::from_secs(3_600);
        let begin = Timestamp::from_secs(1_800_000_000);
        let clock = TestClock::at(begin);
        let now = || Moment::now(clock.as_ref());
        let end = now().after(hour);
        assert_eq!(end.left(now()), hour);
        // Put back by a day, it is not over later.
        clock.jump_to(begin.minus(hour * 24));
        assert_eq!(end.left(now()), hour);
        clock.advance(hour / 2);
        assert_eq!(end.left(now()), hour / 2);
        clock.advance(hour / 2);
        assert!(end.is_over(now()));
        // Put forward, it is over at once; put right again, it is as it was.
        let end = now().after(hour);
        let was = clock.now();
        clock.jump_to(was.plus(hour * 2));
        assert!(end.is_over(now()));
        clock.jump_to(was);
        assert_eq!(end.left(now()), hour);
    }
}
