//! Faults on demand: the two ways a commit can go wrong for its caller, planned by transaction name.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What happens to the next transaction of a name. The caller sees `Unavailable` in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The body ran, and the process died before the commit.
    NotPersisted,
    /// The commit succeeded, and the process or the line died before the answer.
    PersistedButReplyLost,
}

/// The planned faults of one database, and the names that were seen; costs one atomic read when none is planned.
#[derive(Debug, Default)]
pub struct Faults {
    planned: AtomicUsize,
    plan: Mutex<HashMap<&'static str, Vec<Fault>>>,
    recording: AtomicUsize,
    seen: Mutex<BTreeSet<&'static str>>,
}

impl Faults {
    /// Lets `fault` befall the next transaction called `name`, once; several are taken in order.
    pub fn plan(&self, name: &'static str, fault: Fault) {
        if let Ok(mut plan) = self.plan.lock() {
            plan.entry(name).or_default().insert(0, fault);
            self.planned.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// How many planned faults have not happened yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.planned.load(Ordering::SeqCst)
    }

    /// From now on, remembers the names of transactions.
    pub fn record_names(&self) {
        self.recording.store(1, Ordering::SeqCst);
    }

    /// The names of transactions since [`Faults::record_names`], sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let seen = self.seen.lock().map(|s| s.iter().copied().collect());
        seen.unwrap_or_default()
    }

    pub(crate) fn take(&self, name: &'static str) -> Option<Fault> {
        if self.recording.load(Ordering::Relaxed) != 0
            && let Ok(mut seen) = self.seen.lock()
        {
            seen.insert(name);
        }
        if self.planned.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let fault = self.plan.lock().ok()?.get_mut(name)?.pop()?;
        self.planned.fetch_sub(1, Ordering::SeqCst);
        Some(fault)
    }
}
