//! How much agents and enforcement points may tell: so many events a second each, and new epochs only now and then.

use std::collections::BTreeMap;
use std::time::Duration;

/// Events that one may tell at once, and how fast that comes back.
const BURST: u64 = 2_000;
const EACH_SECOND: u64 = 200;

/// Epochs that one may begin at once, and how fast that comes back: each is remembered for as long as the log is.
const EPOCHS: u64 = 8;
const EPOCH_EVERY: Duration = Duration::from_secs(600);

/// Tellers that are remembered at once. Of those that are forgotten, every one may tell as much as at first.
const TELLERS: usize = 16_384;

/// Whose quota is used up, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) wait: Duration,
}

/// What each has told lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quotas(BTreeMap<String, Quota>);

#[derive(Clone, Debug)]
struct Quota {
    at: Duration,
    /// Thousandths of events that may be told.
    events: u64,
    /// Microseconds towards epochs.
    epochs: u64,
    epoch: String,
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

impl Quota {
    fn full(now: Duration) -> Self {
        Self { at: now, events: BURST * 1_000, epochs: EPOCHS * micros(EPOCH_EVERY), epoch: String::new() }
    }

    fn refill(&mut self, now: Duration) {
        let passed = micros(now.saturating_sub(self.at));
        self.at = self.at.max(now);
        self.events = self.events.saturating_add(passed / 1_000 * EACH_SECOND).min(BURST * 1_000);
        self.epochs = self.epochs.saturating_add(passed).min(EPOCHS * micros(EPOCH_EVERY));
    }

    fn is_full(&self) -> bool {
        self.events == BURST * 1_000 && self.epochs == EPOCHS * micros(EPOCH_EVERY)
    }
}

impl Quotas {
    /// Takes so many events of an epoch, which begins with them where `first_seq` is 1.
    pub(crate) fn take(
        &mut self,
        who: &str,
        epoch: &str,
        (first_seq, events): (u64, usize),
        now: Duration,
    ) -> Result<(), Spent> {
        if self.0.len() >= TELLERS && !self.0.contains_key(who) {
            self.0.retain(|_, quota| {
                quota.refill(now);
                !quota.is_full()
            });
            if self.0.len() >= TELLERS {
                return Err(Spent { wait: Duration::from_secs(10) });
            }
        }
        let quota = self.0.entry(who.to_owned()).or_insert_with(|| Quota::full(now));
        quota.refill(now);
        let begins = first_seq == 1 && quota.epoch != epoch;
        if begins && quota.epochs < micros(EPOCH_EVERY) {
            return Err(Spent { wait: Duration::from_micros(micros(EPOCH_EVERY) - quota.epochs) });
        }
        let wanted = (events as u64).saturating_mul(1_000);
        if quota.events < wanted {
            return Err(Spent { wait: Duration::from_millis((wanted - quota.events) / EACH_SECOND + 1) });
        }
        quota.events -= wanted;
        if begins {
            quota.epochs -= micros(EPOCH_EVERY);
            epoch.clone_into(&mut quota.epoch);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn one_tells_so_much_and_waits_and_leaves_others_alone() {
        let mut quotas = Quotas::default();
        let at = Duration::from_secs;
        assert_eq!(quotas.take("a", "e", (1, 1_000), at(1)), Ok(()));
        assert_eq!(quotas.take("a", "e", (1_001, 1_000), at(1)), Ok(()));
        let spent = quotas.take("a", "e", (2_001, 200), at(1)).unwrap_err();
        assert_eq!(quotas.take("b", "e", (1, 1_000), at(1)), Ok(()));
        assert_eq!(quotas.take("a", "e", (2_001, 200), at(1) + spent.wait), Ok(()));
    }

    #[test]
    fn epochs_begin_now_and_then_and_one_that_is_offered_again_is_the_same() {
        let mut quotas = Quotas::default();
        let at = Duration::from_secs(1);
        let mut begin = |n: u64, at| quotas.take("a", &format!("e{n}"), (1, 1), at);
        assert!((0..EPOCHS).all(|n| begin(n, at).is_ok() && begin(n, at).is_ok()));
        let spent = begin(99, at).unwrap_err();
        assert_eq!(spent.wait, EPOCH_EVERY);
        assert!(begin(99, at + spent.wait).is_ok());
    }

    #[test]
    fn who_is_remembered_is_bounded() {
        let mut quotas = Quotas::default();
        for n in 0..2 * TELLERS {
            let taken = quotas.take(&n.to_string(), "e", (1, 1), Duration::ZERO);
            assert_eq!(taken.is_ok(), n < TELLERS);
        }
        assert_eq!(quotas.0.len(), TELLERS);
        assert!(quotas.take("new", "e", (1, 1), Duration::from_secs(7_000)).is_ok());
    }
}
