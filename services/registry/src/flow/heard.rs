//! Up to when the audit log was heard, beside what the database says: a log in which nothing is used is not written down each second.

use std::time::Duration;

use legate_clock::Timestamp;
use parking_lot::Mutex;

/// What this process heard last.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// Everything that the log held then was heard.
    to: Option<Timestamp>,
    /// When the place in the log was last written down.
    written: Option<Timestamp>,
}

impl Heard {
    /// Everything up to this moment was heard.
    pub(crate) fn note(&self, to: Option<Timestamp>) {
        let mut last = self.0.lock();
        last.to = last.to.max(to);
    }

    /// The place in the log is written down.
    pub(crate) fn written(&self, now: Timestamp) {
        self.0.lock().written = Some(now);
    }

    /// Whether it was written down so lately.
    pub(crate) fn is_fresh(&self, now: Timestamp, within: Duration) -> bool {
        self.0.lock().written.is_some_and(|written| written <= now && now.since(written) < within)
    }

    /// Up to when everything was heard.
    pub(crate) fn to(&self) -> Option<Timestamp> {
        self.0.lock().to
    }

    /// What was heard counts no more.
    pub(crate) fn forget(&self) {
        *self.0.lock() = Last::default();
    }
}

/// Up to when everything was heard, by what this process heard and what is `written` down. Of a log in which nothing happens it heard
/// later than that; never of one that it heard anew.
pub(crate) fn beyond(to: Option<Timestamp>, written: Option<i64>) -> Option<Timestamp> {
    let written = written.map(Timestamp::from_micros);
    written.max(written.and(to))
}
