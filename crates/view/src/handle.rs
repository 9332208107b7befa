//! The registry as last seen: a snapshot and, from the same instant, how old it may be.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use legate_clock::Clock;
use legate_planted::Bug;
use tokio::sync::watch;

use crate::Snapshot;

/// The oldest a view may ever be and still answer: the bound that Legate promises.
pub const HARD_BOUND: Duration = Duration::from_secs(5);

/// What was seen, and when it was certain. Stored as one, so that no old snapshot is ever paired with a new age.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Monotonic time at which the last answered ping was sent: the snapshot holds everything up to then.
    pub(crate) as_of: Option<Duration>,
}

/// What went on between the view and the registry since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connects: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    pub(crate) downgrades: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// A copy of the view's counters, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Streams that were opened.
    pub connects: u64,
    /// Snapshots that were taken in.
    pub snapshots: u64,
    /// Times the registry presented a lower revision than was already seen.
    pub downgrades: u64,
    /// Streams that were given up because what they carried broke the rules.
    pub refused: u64,
}

pub(crate) struct Shared {
    pub(crate) seen: ArcSwap<Seen>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) bound: Duration,
    pub(crate) revision: watch::Sender<u64>,
    pub(crate) taken_away: watch::Sender<u64>,
    pub(crate) counters: Counters,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("revision", &*self.revision.borrow())
            .field("bound", &self.bound)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(clock: Arc<dyn Clock>, bound: Duration) -> Arc<Self> {
        Arc::new(Self {
            seen: ArcSwap::from_pointee(Seen { snapshot: Arc::new(Snapshot::default()), as_of: None }),
            clock,
            bound: bound.min(HARD_BOUND),
            revision: watch::Sender::new(0),
            taken_away: watch::Sender::new(0),
            counters: Counters::default(),
        })
    }

    /// Puts a newer snapshot in place. Only the follower writes, so load and store need no lock.
    pub(crate) fn put(&self, snapshot: Snapshot, takes_away: bool) {
        let revision = snapshot.revision();
        self.seen.store(Arc::new(Seen { snapshot: Arc::new(snapshot), as_of: self.seen.load().as_of }));
        self.revision.send_replace(revision);
        if takes_away {
            self.taken_away.send_modify(|n| *n += 1);
        }
    }

    /// The snapshot in place holds everything up to `as_of`.
    pub(crate) fn certain(&self, as_of: Duration) {
        let seen = self.seen.load();
        if seen.as_of.is_none_or(|before| before < as_of) {
            self.seen.store(Arc::new(Seen { snapshot: Arc::clone(&seen.snapshot), as_of: Some(as_of) }));
        }
    }
}

/// The view is older than allowed, or has seen nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registry was last heard {} ago, allowed are {bound:?}", .age.map_or_else(|| "never".into(), |a| format!("{a:?}")))]
pub struct Stale {
    /// How old the view is; `None` when the registry was never heard.
    pub age: Option<Duration>,
    /// What was allowed.
    pub bound: Duration,
}

/// A revision did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {wanted} was asked for, the view holds {held}")]
pub struct Behind {
    /// What was waited for.
    pub wanted: u64,
    /// What the view holds.
    pub held: u64,
}

/// One look at the view: a snapshot whose age can be asked later as well, since age goes on while a caller thinks.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The registry at one revision.
    pub snapshot: Arc<Snapshot>,
    as_of: Option<Duration>,
    shared: Arc<Shared>,
}

impl Reading {
    /// How old the snapshot may be by now; `None` when the registry was never heard.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let now = self.shared.clock.monotonic();
        self.as_of.map(|as_of| now.saturating_sub(as_of))
    }

    /// The moment, on the monotonic clock, after which the snapshot is older than `bound`, or than the view's own bound; `None` when
    /// the registry was never heard. Unlike an age it does not go stale itself.
    #[must_use]
    pub fn good_until(&self, bound: Duration) -> Option<Duration> {
        self.as_of.map(|as_of| as_of.saturating_add(bound.min(self.shared.bound)))
    }

    /// The age, where it is within `bound` and the view's own bound.
    ///
    /// # Errors
    /// [`Stale`] when it is not.
    pub fn fresh(&self, bound: Duration) -> Result<Duration, Stale> {
        let bound = bound.min(self.shared.bound);
        match self.age() {
            Some(age) if age <= bound || legate_planted::is(Bug::StaleAllow) => Ok(age),
            age => Err(Stale { age, bound }),
        }
    }
}

/// The way to the view; clones share it. The follower stops with the last of them.
#[derive(Clone, Debug)]
pub struct ViewHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) _follower: Arc<Follower>,
}

/// Stops the following task when dropped.
#[derive(Debug)]
pub(crate) struct Follower(pub(crate) tokio::task::AbortHandle);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ViewHandle {
    /// A look at what is in place now.
    #[must_use]
    pub fn read(&self) -> Reading {
        let seen = self.shared.seen.load();
        Reading { snapshot: Arc::clone(&seen.snapshot), as_of: seen.as_of, shared: Arc::clone(&self.shared) }
    }

    /// The snapshot in place now, of whatever age: for what takes nothing for granted.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.seen.load().snapshot)
    }

    /// How old the view may be; `None` when the registry was never heard.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.read().age()
    }

    /// A look that is fresh enough.
    ///
    /// # Errors
    /// [`Stale`] when the view is older than `bound` or its own bound.
    pub fn fresh(&self, bound: Duration) -> Result<Reading, Stale> {
        let reading = self.read();
        reading.fresh(bound)?;
        Ok(reading)
    }

    /// The bound of staleness that the view was given, five seconds at most.
    #[must_use]
    pub fn bound(&self) -> Duration {
        self.shared.bound
    }

    /// A look that holds `revision` or a later one, waited for `patience` at most.
    ///
    /// # Errors
    /// [`Behind`] when it did not come.
    pub async fn wait_for(&self, revision: u64, patience: Duration) -> Result<Reading, Behind> {
        let reading = self.read();
        if reading.snapshot.revision() >= revision {
            return Ok(reading);
        }
        let mut news = self.shared.revision.subscribe();
        let came = tokio::time::timeout(patience, news.wait_for(|held| *held >= revision)).await;
        match came {
            Ok(Ok(_)) => Ok(self.read()),
            _ => Err(Behind { wanted: revision, held: self.current().revision() }),
        }
    }

    /// Told of every new revision that is in place.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// Told when somebody who could connect before may not be allowed to now: an agent that is not ACTIVE any more,
    /// a revoked credential, an enforcement point taken back. Live connections are to be judged again.
    #[must_use]
    pub fn taken_away(&self) -> watch::Receiver<u64> {
        self.shared.taken_away.subscribe()
    }

    /// What went on since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let c = &self.shared.counters;
        Counts {
            connects: c.connects.load(Ordering::Relaxed),
            snapshots: c.snapshots.load(Ordering::Relaxed),
            downgrades: c.downgrades.load(Ordering::Relaxed),
            refused: c.refused.load(Ordering::Relaxed),
        }
    }
}
