//! Alerts, and what lifecycle policies say beforehand, go out to one receiver, signed: each at least once, in the log's order, until it
//! is taken.
//!
//! The log is the queue: a file says up to which leaf everything was taken, so that nothing is lost when the collector or the
//! receiver is away, and nothing goes out again when the index is made again.

mod body;
mod post;
mod target;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use legate_wire::audit::AuditEvent;

use crate::flow::Desk;
use crate::flow::told::told;
use crate::ledger::Held;
use post::{NotTaken, Poster};
pub(crate) use target::Target;

/// What says up to where everything was taken.
const MARK: &str = "webhook";

/// Events of alerts that are looked up at once.
const AT_ONCE: u64 = 16;

/// The wait after a failure doubles from the first to the second.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// What was not taken for so long is left out.
const OLDEST: Duration = Duration::from_secs(72 * 3_600);

/// What the receiver refuses so often is left out, since the next ones wait behind it.
const MOST_REFUSALS: u32 = 5;

/// When nothing moves it is looked again all the same.
const ROUND: Duration = Duration::from_secs(1);

/// Sends alerts out.
#[derive(Debug)]
pub(crate) struct Webhook {
    poster: Poster,
    /// Says up to which leaf everything was taken.
    file: PathBuf,
    /// Says it in the file's place, where collectors share the log.
    rows: Option<Held>,
}

impl Webhook {
    /// To this receiver; `dir` is the log's.
    pub(crate) fn new(
        target: Target,
        dir: &Path,
        rows: Option<Held>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, legate_mtls::TlsError> {
        Ok(Self { poster: Poster::new(target, clock)?, file: dir.join(MARK), rows })
    }

    /// Sends for as long as the process lives.
    pub(crate) async fn send_forever(self, desk: Arc<Desk>) {
        let mut from = match self.taken().await {
            Ok(Some(leaf)) => leaf,
            // A receiver that is new is not told of what was.
            Ok(None) => self.keep(desk.log.size()).await,
            Err(error) => {
                tracing::error!(%error, file = %self.file.display(), "alerts are sent anew from now on");
                self.keep(desk.log.size()).await
            }
        };
        let mut through = desk.index.through();
        loop {
            for (leaf, alert) in next(&desk, from).await {
                self.send(&desk, leaf, &alert).await;
                from = self.keep(leaf + 1).await;
            }
            drop(tokio::time::timeout(ROUND, through.changed()).await);
        }
    }

    /// Ends when it was taken, or is left out.
    async fn send(&self, desk: &Desk, leaf: u64, alert: &AuditEvent) {
        let (id, body) = (&alert.event_id, body::of(leaf, alert));
        let (mut wait, mut refusals) = (WAITS.0, 0);
        loop {
            let why = match self.poster.post(id, body.clone(), desk.clock.now()).await {
                Ok(()) => return desk.metrics.webhook("delivered"),
                Err(why) => why,
            };
            refusals += u32::from(matches!(why, NotTaken::Refused(_)));
            let told = alert.time.and_then(|t| legate_clock::Timestamp::try_from(t).ok()).unwrap_or_default();
            if refusals >= MOST_REFUSALS || desk.clock.now().since(told) > OLDEST {
                tracing::error!(id, %why, "an alert is not sent: it was not taken, and is left out");
                return desk.metrics.webhook("left_out");
            }
            tracing::warn!(id, %why, "an alert was not taken, and is sent again");
            desk.metrics.webhook("failed");
            // Half of it by chance, so that what hangs together does not knock in step.
            tokio::time::sleep(wait / 2 + (wait / 2).mul_f64(rand::random::<f64>())).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    async fn taken(&self) -> io::Result<Option<u64>> {
        if let Some(held) = &self.rows {
            let kept = held.ledger().note(MARK).await.map_err(io::Error::other)?;
            let text = kept.map(|kept| String::from_utf8_lossy(&kept).into_owned());
            return text.map(|text| text.parse().map_err(io::Error::other)).transpose();
        }
        match std::fs::read_to_string(&self.file) {
            Ok(text) => text.trim().parse().map(Some).map_err(io::Error::other),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Keeps up to where everything was taken. Where that fails, some are sent again after a restart.
    async fn keep(&self, leaf: u64) -> u64 {
        if let Some(held) = &self.rows {
            if let Err(error) = held.put_note(MARK, Some(leaf.to_string().into_bytes())).await {
                tracing::warn!(%error, "up to where alerts were taken cannot be kept");
            }
            return leaf;
        }
        let write = || {
            let new = self.file.with_extension("new");
            let mut file = std::fs::File::create(&new)?;
            writeln!(file, "{leaf}")?;
            file.sync_data()?;
            std::fs::rename(&new, &self.file)
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "up to where alerts were taken cannot be kept");
        }
        leaf
    }
}

/// What becomes of alerts, as the collector tells it.
const ALERTS: &[&str] = &["alert.raised", "alert.acknowledged", "alert.resolved"];

/// What lifecycle policies will do to agents, would have done, and did not do because of a cap, as the registry tells it.
const NOTICES: &[&str] = &["agent.lifecycle_due", "agent.lifecycle_reported", "agent.lifecycle_capped"];

/// What there is to be told from a leaf on, as far as the index holds it.
async fn next(desk: &Desk, from: u64) -> Vec<(u64, AuditEvent)> {
    let voices = vec![(desk.index.me().to_owned(), ALERTS), (desk.index.registry().to_owned(), NOTICES)];
    told(desk, "alerts_to_send", voices, from, AT_ONCE).await.map(|told| told.events).unwrap_or_default()
}

#[cfg(test)]
mod tests;
