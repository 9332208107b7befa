//! How much each may tell: so many events a second, and agents and enforcement points new epochs only now and then.

use std::collections::BTreeMap;
use std::time::Duration;

/// How much one may tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Events at once.
    burst: u64,
    /// How fast that comes back.
    each_second: u64,
    /// Whether epochs are counted too: each is remembered for as long as the log is.
    has_epochs: bool,
}

impl Limits {
    /// Of an agent or an enforcement point.
    pub(crate) const WORKLOAD: Self = Self { burst: 2_000, each_second: 200, has_epochs: true };

    /// Receipts of an emitter: each is asked for twice, where an answer is lost.
    pub(crate) const RECEIPTS: Self = Self { burst: 4_096, each_second: 400, has_epochs: false };

    /// Of a service of ours: ten seconds' worth at once, and two of the largest requests at least.
    pub(crate) fn service(each_second: u64) -> Self {
        Self { burst: (10 * each_second).max(2_048), each_second, has_epochs: false }
    }
}

/// Epochs that one may begin at once, and how fast that comes back.
const EPOCHS: u64 = 8;
const EPOCH_EVERY: Duration = Duration::from_secs(60);

/// Tellers that are remembered at once. Of those that are forgotten, every one may tell as much as at first.
const TELLERS: usize = 16_384;

/// Whose quota is used up, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) wait: Duration,
}

/// What each has told lately.
#[derive(Clone, Debug)]
pub(crate) struct Quotas {
    limits: Limits,
    all: BTreeMap<String, Quota>,
}

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
    fn full(limits: Limits, now: Duration) -> Self {
        Self { at: now, events: limits.burst * 1_000, epochs: EPOCHS * micros(EPOCH_EVERY), epoch: String::new() }
    }

    fn refill(&mut self, limits: Limits, now: Duration) {
        let passed = micros(now.saturating_sub(self.at));
        self.at = self.at.max(now);
        let more = (passed / 1_000).saturating_mul(limits.each_second);
        self.events = self.events.saturating_add(more).min(limits.burst * 1_000);
        self.epochs = self.epochs.saturating_add(passed).min(EPOCHS * micros(EPOCH_EVERY));
    }

    fn is_full(&self, limits: Limits) -> bool {
        self.events == limits.burst * 1_000 && self.epochs == EPOCHS * micros(EPOCH_EVERY)
    }
}

impl Quotas {
    /// Nobody has told anything yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, all: BTreeMap::new() }
    }

    /// Takes so many events of an epoch, which begins with them where `first_seq` is 1.
    pub(crate) fn take(
        &mut self,
        who: &str,
        epoch: &str,
        (first_seq, events): (u64, usize),
        now: Duration,
    ) -> Result<(), Spent> {
        let limits = self.limits;
        if self.all.len() >= TELLERS && !self.all.contains_key(who) {
            self.all.retain(|_, quota| {
                quota.refill(limits, now);
                !quota.is_full(limits)
            });
            if self.all.len() >= TELLERS {
                return Err(Spent { wait: Duration::from_secs(10) });
            }
        }
        let quota = self.all.entry(who.to_owned()).or_insert_with(|| Quota::full(limits, now));
        quota.refill(limits, now);
        let begins = limits.has_epochs && first_seq == 1 && quota.epoch != epoch;
        if begins && quota.epochs < micros(EPOCH_EVERY) {
            return Err(Spent { wait: Duration::from_micros(micros(EPOCH_EVERY) - quota.epochs) });
        }
        let wanted = (events as u64).saturating_mul(1_000);
        if quota.events < wanted {
            return Err(Spent { wait: Duration::from_millis((wanted - quota.events) / limits.each_second + 1) });
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
        let mut quotas = Quotas::new(Limits::WORKLOAD);
        let at = Duration::from_secs;
        assert_eq!(quotas.take("a", "e", (1, 1_000), at(1)), Ok(()));
        assert_eq!(quotas.take("a", "e", (1_001, 1_000), at(1)), Ok(()));
        let spent = quotas.take("a", "e", (2_001, 200), at(1)).unwrap_err();
        assert_eq!(quotas.take("b", "e", (1, 1_000), at(1)), Ok(()));
        assert_eq!(quotas.take("a", "e", (2_001, 200), at(1) + spent.wait), Ok(()));
    }

    #[test]
    fn epochs_begin_now_and_then_and_one_that_is_offered_again_is_the_same() {
        let mut quotas = Quotas::new(Limits::WORKLOAD);
        let at = Duration::from_secs(1);
        let mut begin = |n: u64, at| quotas.take("a", &format!("e{n}"), (1, 1), at);
        assert!((0..EPOCHS).all(|n| begin(n, at).is_ok() && begin(n, at).is_ok()));
        let spent = begin(99, at).unwrap_err();
        assert_eq!(spent.wait, EPOCH_EVERY);
        assert!(begin(99, at + spent.wait).is_ok());
    }

    #[test]
    fn a_service_tells_as_much_as_is_configured_and_begins_epochs_as_it_likes() {
        for each_second in [100, 1_000, 50_000] {
            let mut quotas = Quotas::new(Limits::service(each_second));
            let at = Duration::from_secs;
            let burst = usize::try_from((10 * each_second).max(2_048)).unwrap();
            assert_eq!(quotas.take("a", "e", (1, burst), at(1)), Ok(()));
            let spent = quotas.take("a", "e", (1, 1_024), at(1)).unwrap_err();
            assert!(spent.wait <= Duration::from_millis(1_024_000 / each_second + 1));
            assert_eq!(quotas.take("a", "e", (1, 1_024), at(1) + spent.wait), Ok(()), "the largest request goes");
            assert!((0..50).all(|n| quotas.take("b", &n.to_string(), (1, 1), at(1)).is_ok()));
        }
    }

    #[test]
    fn who_is_remembered_is_bounded() {
        let mut quotas = Quotas::new(Limits::WORKLOAD);
        for n in 0..2 * TELLERS {
            let taken = quotas.take(&n.to_string(), "e", (1, 1), Duration::ZERO);
            assert_eq!(taken.is_ok(), n < TELLERS);
        }
        assert_eq!(quotas.all.len(), TELLERS);
        assert!(quotas.take("new", "e", (1, 1), Duration::from_secs(7_000)).is_ok());
    }
}
