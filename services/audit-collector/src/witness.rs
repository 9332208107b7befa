//! Witnesses are asked to cosign checkpoints, beside the log and never in its way: it grows and signs as fast without them.
//!
//! The newest checkpoint that has the quorum of the policy is kept in a file of its own, with everybody's signatures.

mod ask;
mod chosen;
mod keep;
mod round;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::{Clock, Timestamp};
use legate_merkle::{KeyChain, Note};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::log::{Log, Published};
use crate::metrics::Metrics;

pub(crate) use chosen::Chosen;
pub(crate) use keep::NotKept;
use round::Rounds;

/// The newest checkpoint that the witnesses' quorum has cosigned. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Cosigned(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    newest: watch::Sender<Option<Published>>,
    wanted: watch::Sender<Wanted>,
    standing: Mutex<Standing>,
}

/// Somebody waits for so many leaves to be covered, until then.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    size: u64,
    until: Instant,
}

/// How it stands with the quorum.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// When the newest one was cosigned, in seconds since 1970.
    cosigned_at: Option<u64>,
    /// Since when the quorum has been missing, by the monotonic clock.
    missing_since: Option<Duration>,
}

impl Cosigned {
    /// Nobody is asked.
    pub(crate) fn by_nobody() -> Self {
        Self(None)
    }

    /// Whether anybody is asked.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.0.is_some()
    }

    /// The newest one, if there is one.
    pub(crate) fn newest(&self) -> Option<Published> {
        self.0.as_ref().and_then(|inner| inner.newest.borrow().clone())
    }

    /// A checkpoint with the cosignatures that it has, where the quorum cosigned it.
    pub(crate) fn of(&self, published: Published) -> Published {
        self.newest().filter(|newest| newest.size == published.size).unwrap_or(published)
    }

    /// Waits for one that covers so many leaves, and has the witnesses asked soon.
    pub(crate) async fn covering(&self, size: u64, until: Instant) -> Option<Published> {
        let inner = self.0.as_ref()?;
        let mut newest = inner.newest.subscribe();
        inner.wanted.send_if_modified(|wanted| {
            let is_more = size > wanted.size || until > wanted.until;
            *wanted = Wanted { size: wanted.size.max(size), until: wanted.until.max(until) };
            is_more
        });
        let covers = newest.wait_for(|newest| newest.as_ref().is_some_and(|newest| newest.size >= size));
        tokio::time::timeout_at(until, covers).await.ok()?.ok()?.clone()
    }

    /// How long ago the newest one was cosigned; `None`: never.
    pub(crate) fn age(&self, now: Timestamp) -> Option<f64> {
        let at = self.0.as_ref()?.standing.lock().cosigned_at?;
        let at = Timestamp::from_secs(i64::try_from(at).ok()?);
        Some(Duration::from_secs(u64::try_from(now.secs().saturating_sub(at.secs())).unwrap_or(0)).as_secs_f64())
    }

    /// For how long the quorum has been missing.
    pub(crate) fn missing_for(&self, now: Duration) -> Duration {
        let since = self.0.as_ref().and_then(|inner| inner.standing.lock().missing_since);
        since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

/// What the witnesses are asked with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) chosen: Chosen,
    pub(crate) log: Log,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
}

/// Takes up what was cosigned before, and holds it against the log; then asks for as long as the process lives.
///
/// # Errors
/// [`NotKept`] when witnesses cosigned another log than this one, or the policy is of another.
pub(crate) async fn start(setup: Setup) -> Result<(Cosigned, tokio::task::JoinHandle<()>), NotKept> {
    let Setup { chosen, log, clock, metrics } = setup;
    chosen.fits(log.keys())?;
    let reading = log.reading(keep::open).await;
    let kept = reading.map_err(|e| NotKept::Broken(e.to_string()))??;
    // A policy that was changed may ask for more than what was kept has.
    let newest = kept.newest.and_then(|newest| {
        let note = Note::parse(newest.note.as_bytes()).ok()?;
        let found = chosen.policy.check(&note).ok()?;
        Some((newest, found.since()))
    });
    let cosigned_at = newest.as_ref().and_then(|(_, at)| *at);
    let inner = Arc::new(Inner {
        newest: watch::Sender::new(newest.map(|(newest, _)| newest)),
        wanted: watch::Sender::new(Wanted { size: 0, until: Instant::now() }),
        standing: Mutex::new(Standing { cosigned_at, missing_since: None }),
    });
    let rounds = Rounds::new(chosen, kept.sizes, log, clock, metrics, Arc::clone(&inner));
    let task = tokio::spawn(rounds.run());
    Ok((Cosigned(Some(inner)), task))
}

/// Reads a checkpoint of the log that was kept.
fn read_kept(bytes: &[u8], keys: &KeyChain) -> Result<Published, NotKept> {
    let checkpoint = keys.open(bytes).map_err(|e| NotKept::Checkpoint(e.to_string()))?;
    let note = String::from_utf8_lossy(bytes).into_owned();
    Ok(Published { size: checkpoint.size, root: checkpoint.root, note })
}

/// Where the newest cosigned checkpoint is kept, in the log's directory; readers of the log know it by this name too.
pub(crate) const FILE: &str = "checkpoint.cosigned";

fn file(dir: &Path) -> std::path::PathBuf {
    dir.join(FILE)
}

#[cfg(test)]
mod tests;
