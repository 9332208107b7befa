//! Round after round every witness is asked at once; the quorum is told as soon as it is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use legate_merkle::Note;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::ask::{Outcome, PATIENCE, ask};
use super::chosen::Chosen;
use super::keep::{Sizes, keep_newest, keep_sizes};
use super::{Inner, Wanted};
use crate::log::{Log, Own, Published};
use crate::metrics::Metrics;

/// When somebody waits, witnesses are asked this often at most.
const GAP: Duration = Duration::from_secs(1);

/// A log that does not grow is cosigned again after this, so that it shows that nothing was added.
const REFRESH: Duration = Duration::from_secs(600);

/// Once the quorum is there, the others are waited for so long.
const GRACE: Duration = Duration::from_secs(1);

/// The task's own things.
#[derive(Debug)]
pub(super) struct Rounds {
    chosen: Chosen,
    sizes: Sizes,
    log: Log,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    shared: Arc<Inner>,
    /// How each witness answered last, so that only news are told.
    last: HashMap<String, &'static str>,
    /// That the quorum is missing was told.
    is_told: bool,
    /// When the last round began, and when the last that had the quorum did.
    began: Option<Instant>,
    succeeded: Option<Instant>,
}

impl Rounds {
    pub(super) fn new(
        chosen: Chosen,
        sizes: Sizes,
        log: Log,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        shared: Arc<Inner>,
    ) -> Self {
        let (last, is_told, began, succeeded) = (HashMap::new(), false, None, None);
        Self { chosen, sizes, log, clock, metrics, shared, last, is_told, began, succeeded }
    }

    /// Works until it is dropped, or the log is gone.
    pub(super) async fn run(mut self) {
        let mut published = self.log.published();
        let mut wanted = self.shared.wanted.subscribe();
        loop {
            let newest = published.borrow_and_update().clone();
            let asked = *wanted.borrow_and_update();
            if self.is_due(newest.size, asked).is_some_and(|due| due <= Instant::now()) {
                self.round(newest).await;
                continue;
            }
            let due = self.is_due(newest.size, asked);
            let waiting = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            if !self.is_news(waiting, &mut published, &mut wanted).await {
                return;
            }
        }
    }

    /// Waits for the time or for news; false: the log has ended.
    async fn is_news(
        &self,
        waiting: impl Future<Output = ()>,
        published: &mut watch::Receiver<Published>,
        wanted: &mut watch::Receiver<Wanted>,
    ) -> bool {
        tokio::select! {
            () = waiting => true,
            changed = published.changed() => changed.is_ok(),
            changed = wanted.changed() => changed.is_ok(),
        }
    }

    /// When the next round is due; `None`: when there is something to cosign.
    fn is_due(&self, size: u64, wanted: Wanted) -> Option<Instant> {
        let covered = self.shared.newest.borrow().as_ref().map_or(0, |newest| newest.size);
        let Some(began) = self.began else {
            return (size > 0).then(Instant::now);
        };
        if size > covered {
            let is_waited_for = wanted.size > covered && Instant::now() < wanted.until;
            return Some(began + if is_waited_for { GAP.min(self.chosen.every) } else { self.chosen.every });
        }
        let again = self.succeeded.map_or(began, |succeeded| succeeded + REFRESH);
        (size > 0).then(|| again.max(began + self.chosen.every))
    }

    /// Asks every witness about a checkpoint.
    async fn round(&mut self, newest: Published) {
        let began = Instant::now();
        self.began = Some(began);
        let Ok(mut note) = Note::parse(newest.note.as_bytes()) else { return };
        let mut asking = JoinSet::new();
        for (at, witness) in self.chosen.witnesses.iter().enumerate() {
            let known = self.sizes.get(&witness.key.to_string()).copied().unwrap_or(0);
            let (outward, log, clock) = (self.chosen.outward.clone(), self.log.clone(), Arc::clone(&self.clock));
            let (witness, newest) = (Arc::clone(witness), newest.clone());
            asking.spawn(async move { (at, ask(outward, log, witness, known, newest, clock).await) });
        }
        // Each of them has its own patience; a little more is for their answers to be taken.
        let (mut until, mut is_enough) = (began + PATIENCE + GRACE, false);
        while let Ok(Some(answered)) = timeout_at(until, asking.join_next()).await {
            let Ok((at, outcome)) = answered.inspect_err(|error| tracing::error!(%error, "a witness was not asked"))
            else {
                continue;
            };
            self.take_note(at, &outcome, newest.size);
            let Outcome::Cosigned(lines) = outcome else { continue };
            note = note.with(lines);
            let was_enough = is_enough;
            is_enough = self.publish(&note, &newest).await;
            if is_enough && !was_enough {
                until = until.min(Instant::now() + GRACE);
            }
        }
        if let Err(error) = self.keep().await {
            tracing::warn!(%error, "how far witnesses went cannot be kept");
        }
        self.stand(is_enough, began);
    }

    /// Counts an answer, and tells where it is news.
    fn take_note(&mut self, at: usize, outcome: &Outcome, size: u64) {
        let Some(witness) = self.chosen.witnesses.get(at) else { return };
        let (name, word) = (witness.key.name(), outcome.word());
        self.metrics.witness(name, word);
        if let Outcome::Cosigned(_) = outcome {
            self.sizes.insert(witness.key.to_string(), size);
        }
        if self.last.insert(name.to_owned(), word) == Some(word) {
            return;
        }
        match outcome.why() {
            None => tracing::info!(witness = name, size, "a witness cosigns"),
            Some(why) if matches!(outcome, Outcome::Disagrees(_)) => {
                tracing::error!(witness = name, why, "a witness says that the log is not the one it knows");
                let own = Own::new("log.witness_disagrees").failed("AUDIT_NOT_COSIGNED");
                self.log.tell(own.with("witness", name).with("why", why).with("tree_size", size));
            }
            Some(why) => tracing::warn!(witness = name, why, "a witness does not cosign"),
        }
    }

    /// Makes the checkpoint known once the quorum is there; whether it is.
    async fn publish(&self, note: &Note, newest: &Published) -> bool {
        let Ok(found) = self.chosen.policy.check(note) else { return false };
        let cosigned = Published { note: note.to_string(), ..newest.clone() };
        let text = cosigned.note.clone();
        let written = self.log.reading(move |log| keep_newest(log.dir(), &text)).await;
        if let Err(error) = written.map_err(std::io::Error::other).and_then(|written| written) {
            tracing::error!(%error, "the cosigned checkpoint cannot be written");
            return false;
        }
        self.shared.standing.lock().cosigned_at = found.since();
        self.shared.newest.send_replace(Some(cosigned));
        true
    }

    async fn keep(&self) -> std::io::Result<()> {
        let sizes = self.sizes.clone();
        let written = self.log.reading(move |log| keep_sizes(log.dir(), &sizes)).await;
        written.map_err(std::io::Error::other)?
    }

    /// Notes how it stands with the quorum, and tells when it has been missing for too long, and when it is back.
    fn stand(&mut self, is_enough: bool, began: Instant) {
        let now = self.clock.monotonic();
        let since = {
            let mut standing = self.shared.standing.lock();
            standing.missing_since = if is_enough { None } else { standing.missing_since.or(Some(now)) };
            standing.missing_since
        };
        let covered = self.shared.newest.borrow().as_ref().map_or(0, |newest| newest.size);
        match since {
            None => {
                self.succeeded = Some(began);
                if std::mem::take(&mut self.is_told) {
                    tracing::info!("witnesses cosign checkpoints again");
                    self.log.tell(Own::new("log.quorum_recovered").with("cosigned_size", covered));
                }
            }
            Some(since) if !self.is_told && now.saturating_sub(since) >= self.chosen.patience => {
                self.is_told = true;
                let missing_s = now.saturating_sub(since).as_secs();
                tracing::error!(
                    missing_s,
                    covered,
                    "too few witnesses cosign; the log goes on, signed by itself alone"
                );
                let own = Own::new("log.quorum_missing").failed("AUDIT_NOT_COSIGNED");
                self.log.tell(own.with("missing_s", missing_s).with("cosigned_size", covered));
            }
            Some(_) => {}
        }
    }
}
