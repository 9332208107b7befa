//! A small witness (C2SP tlog-witness): it cosigns checkpoints of the logs that it was told of, as long as these only grow.

mod book;
mod key;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use legate_clock::Clock;
use legate_merkle::{AddCheckpoint, Checkpoint, Cosigner, Refusal, VerifierKey, judge};
use parking_lot::Mutex;

pub(crate) use book::{BadBook, Book};
pub(crate) use key::{BadKey, make, open};
pub(crate) use serve::{Door, serve};

use crate::evidence::sha256;

/// Whoever cosigns.
#[derive(Debug)]
pub(crate) struct Witness {
    cosigner: Cosigner,
    /// By the origin that their checkpoints name.
    logs: BTreeMap<String, Log>,
    clock: Arc<dyn Clock>,
}

/// A log that is known. Whoever asks about it is alone with its page.
#[derive(Debug)]
struct Log {
    /// In the order in which they follow one another, one at least.
    keys: Vec<VerifierKey>,
    page: Mutex<book::Page>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The media type of the body.
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";

impl Answer {
    fn of(status: StatusCode, body: impl std::fmt::Display) -> Self {
        Self { status, kind: TEXT, body: format!("{body}\n") }
    }
}

impl Witness {
    /// A witness for these logs, by their origins, each with its keys in their order; the book holds what it cosigned before.
    ///
    /// # Errors
    /// [`BadBook`] when a page is damaged, or by another log's key.
    pub(crate) fn new(
        cosigner: Cosigner,
        logs: BTreeMap<String, Vec<VerifierKey>>,
        book: &Book,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BadBook> {
        let mut known = BTreeMap::new();
        for (origin, keys) in logs {
            let page = Mutex::new(book.page(&origin, &keys, cosigner.verifier())?);
            known.insert(origin, Log { keys, page });
        }
        Ok(Self { cosigner, logs: known, clock })
    }

    /// Answers `add-checkpoint`. It writes and syncs before it answers: not for the run time's own threads.
    pub(crate) fn add_checkpoint(&self, body: &[u8]) -> Answer {
        let bad = |why: &dyn std::fmt::Display| Answer::of(StatusCode::BAD_REQUEST, why);
        let request = match AddCheckpoint::parse(body) {
            Ok(request) => request,
            Err(e) => return bad(&e),
        };
        let new = match Checkpoint::parse_text(request.note.text()) {
            Ok(new) => new,
            Err(e) => return bad(&e),
        };
        let Some(log) = self.logs.get(&new.origin) else {
            return Answer::of(StatusCode::NOT_FOUND, "this witness does not know a log of this origin");
        };
        // What follows is one step for this log: of two requests that come at once, one sees what the other left.
        let mut page = log.page.lock();
        // Once a key signed what was cosigned, none before it does: whoever stole one that was rotated gets nothing cosigned any more.
        let from = page.key();
        let signed_by = (from..log.keys.len()).rev().find(|at| request.note.verify(&log.keys[*at]).is_ok());
        let by = signed_by.unwrap_or(from);
        let key = &log.keys[by];
        match judge(&request, &new, key, page.latest()) {
            Ok(()) => {}
            Err(Refusal::Conflict(size)) => {
                return Answer { kind: "text/x.tlog.size", ..Answer::of(StatusCode::CONFLICT, size) };
            }
            Err(e @ Refusal::Unsigned(_)) => return Answer::of(StatusCode::FORBIDDEN, e),
            Err(e @ Refusal::Backwards) => return bad(&e),
            Err(e @ Refusal::Inconsistent(_)) => {
                // Signed by the log, and no continuation: what a log that shows two histories looks like.
                tracing::error!(origin = new.origin, size = new.size, why = %e, "a log asked to have a fork cosigned");
                return Answer::of(StatusCode::UNPROCESSABLE_ENTITY, e);
            }
        }
        let now = u64::try_from(self.clock.now().secs()).unwrap_or(0);
        if now == 0 || now < page.time() {
            let what = "the clock of this witness is behind what it signed last; it cosigns when that is past";
            tracing::error!(now, last = page.time(), what);
            return Answer::of(StatusCode::SERVICE_UNAVAILABLE, what);
        }
        let line = self.cosigner.cosign(request.note.text(), now);
        let by_log = |name: &str, id: [u8; 4]| name == key.name() && id == key.id();
        let note = request.note.only(|line| by_log(&line.name, line.id)).with([line.clone()]);
        if let Err(error) = page.turn(&note.to_string(), new, now, by) {
            tracing::error!(%error, "what is cosigned cannot be kept, so nothing is cosigned any more until a restart");
            return Answer::of(StatusCode::SERVICE_UNAVAILABLE, "this witness cannot keep what it cosigns");
        }
        Answer::of(StatusCode::OK, line)
    }

    /// Answers the monitoring of a log, by the SHA-256 of its origin: the checkpoint that was cosigned last.
    pub(crate) fn checkpoint(&self, origin_hash: &str) -> Answer {
        let found = self.logs.iter().find(|(origin, _)| sha256(origin.as_bytes()) == origin_hash);
        match found.and_then(|(_, log)| log.page.lock().note().map(str::to_owned)) {
            Some(body) => Answer { status: StatusCode::OK, kind: TEXT, body },
            None => Answer::of(StatusCode::NOT_FOUND, "nothing was cosigned of such a log"),
        }
    }
}
