//! What the log's tasks share: the journal and the directory, and how the log is.

use std::fs::File;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use legate_journal::{Journal, JournalError, Options};

use super::files::Files;
use crate::domain::event::LARGEST;

/// Kept free for the events that a full disk still has to hold: the group in hand, and our own words about it.
pub(super) const RESERVE: u64 = 7 << 20;

/// The journal and the directory, for as long as anybody uses them.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) journal: Journal,
    pub(super) files: Files,
    pub(super) segment_bytes: u64,
    /// Keeps other collectors out; goes last.
    pub(super) _lock: File,
}

/// Leaves with their places.
pub(super) type Leaves = Vec<(u64, Vec<u8>)>;

impl Shelf {
    pub(super) fn options(segment_bytes: u64, at_least: u64) -> Options {
        Options { segment_bytes, record_bytes: LARGEST, reserve_bytes: RESERVE, at_least, ..Options::default() }
    }

    /// Leaves from `from` on, `until` not included: some of them, at least one if there is any.
    pub(super) fn read(&self, from: u64, until: u64, most_bytes: usize) -> Result<Leaves, JournalError> {
        let most = usize::try_from(until.saturating_sub(from)).unwrap_or(usize::MAX).min(8_192);
        let mut leaves = self.journal.read(from, most, most_bytes)?;
        leaves.retain(|(index, _)| *index < until);
        Ok(leaves)
    }

    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(self.files.dir())?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// How the log is.
#[derive(Debug, Default)]
pub(super) struct State {
    stopped: OnceLock<String>,
    full: AtomicBool,
    unpublished: parking_lot::Mutex<Option<String>>,
    fenced: AtomicBool,
    away: parking_lot::Mutex<Option<String>>,
}

impl State {
    /// The first reason stays.
    pub(super) fn stop(&self, why: String) {
        let _earlier = self.stopped.set(why);
    }

    pub(super) fn why_stopped(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Release);
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Notes why no checkpoint comes, or that they come again; whether that is news.
    pub(super) fn note_publishing(&self, trouble: Option<String>) -> bool {
        let mut noted = self.unpublished.lock();
        let is_news = *noted != trouble;
        *noted = trouble;
        is_news
    }

    /// Notes that another collector has taken the lead.
    pub(super) fn note_fenced(&self) {
        self.fenced.store(true, Ordering::Release);
    }

    pub(super) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// Notes why the commit log does not answer, or that it answers again.
    pub(super) fn note_away(&self, why: Option<String>) {
        *self.away.lock() = why;
    }

    pub(super) fn why_away(&self) -> Option<String> {
        self.away.lock().clone()
    }

    pub(super) fn why_unpublished(&self) -> Option<String> {
        self.unpublished.lock().clone()
    }
}
