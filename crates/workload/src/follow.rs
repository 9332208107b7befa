//! Following credential-issuer: one stream, taken in and opened again after every failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use legate_clock::{Clock, Timestamp};
use legate_ids::TrustDomain;
use legate_rpc::{Client, Code, Told};
use legate_wire::credential::workload_service_client::WorkloadServiceClient;
use legate_wire::credential::{WatchNodeRequest, WatchNodeResponse};
use tokio::sync::watch;
use tonic::Status;

use crate::Meter;
use crate::knowledge::{BadState, Knowledge};

/// A stream on which nothing was heard for so long is given up: there is a heartbeat at least once a second.
const SILENCE: Duration = Duration::from_secs(5);
/// The wait after a failure doubles from the first to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// An issuer's clock that is so far behind what it said before was set.
const CLOCK_SET: Duration = Duration::from_secs(60);
/// For so long nobody is believed who knows less than was known here: replicas of credential-issuer that lag tell nothing once they are 5 s behind. Whoever
/// still knows less after that is of a registry that was restored from a copy, and there is no other.
const RESTORED: Duration = Duration::from_secs(15);
/// The largest state.
const LARGEST: usize = 16 << 20;

/// What is known.
#[derive(Clone, Debug, Default)]
pub(crate) enum News {
    /// Nothing was heard yet.
    #[default]
    Nothing,
    /// The last state.
    Known(Arc<Knowledge>),
    /// credential-issuer does not serve this node: why.
    Refused(Arc<Told>),
}

/// What is known, and when it was last confirmed.
#[derive(Clone, Debug)]
pub(crate) struct Ear {
    news: watch::Receiver<News>,
    heard: Arc<Heard>,
}

#[derive(Debug)]
struct Heard {
    clock: Arc<dyn Clock>,
    /// The monotonic reading, in microseconds, at which `as_of_time` last went on; 0: never.
    at: AtomicU64,
}

impl Heard {
    fn now(&self) -> u64 {
        // 0 means never.
        u64::try_from(self.clock.monotonic().as_micros()).unwrap_or(u64::MAX).max(1)
    }
}

impl Ear {
    /// What is known now.
    pub(crate) fn news(&self) -> News {
        self.news.borrow().clone()
    }

    /// To wait for what is known next.
    pub(crate) fn subscribe(&self) -> watch::Receiver<News> {
        self.news.clone()
    }

    /// How long ago what is known was last known to be current; `None`: never.
    pub(crate) fn unheard(&self) -> Option<Duration> {
        let at = self.heard.at.load(Ordering::Relaxed);
        (at != 0).then(|| Duration::from_micros(self.heard.now().saturating_sub(at)))
    }
}

/// The highest revision that was told, and when last: what is known does not go back to what it was before a stop.
#[derive(Clone, Copy, Debug, Default)]
struct Highest {
    revision: u64,
    /// By the clock that nobody sets.
    at: Duration,
}

impl Highest {
    /// Whether what was told at that revision counts.
    fn takes(&mut self, revision: u64, now: Duration) -> bool {
        let is_behind = revision < self.revision;
        if is_behind && now.saturating_sub(self.at) < RESTORED {
            return false;
        }
        if is_behind {
            tracing::error!(
                was = self.revision,
                revision,
                "the registry was restored, it seems: it is believed as it is now"
            );
        }
        *self = Self { revision, at: now };
        true
    }
}

/// Follows, until the task that this is in is dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    client: Client,
    domain: TrustDomain,
    told: watch::Sender<News>,
    heard: Arc<Heard>,
    /// The last time of knowing that was told: our clock and the issuer's need not agree, so that only whether it goes on counts.
    as_of: Timestamp,
    highest: Highest,
    meter: Meter,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("credential-issuer closed the stream")]
    Closed,
    #[error("credential-issuer said nothing for 5 s")]
    Silent,
    #[error("{0}")]
    Failed(Box<Status>),
    #[error("credential-issuer knows revision {told} of the registry, and {held} was known here")]
    Behind { told: u64, held: u64 },
    #[error(transparent)]
    Bad(#[from] BadState),
}

impl Follower {
    pub(crate) fn new(client: Client, domain: TrustDomain, clock: Arc<dyn Clock>, meter: Meter) -> (Self, Ear) {
        let (told, news) = watch::channel(News::Nothing);
        let heard = Arc::new(Heard { clock, at: AtomicU64::new(0) });
        let ear = Ear { news, heard: Arc::clone(&heard) };
        let as_of = Timestamp::from_micros(i64::MIN);
        (Self { client, domain, told, heard, as_of, highest: Highest::default(), meter }, ear)
    }

    /// Never returns.
    pub(crate) async fn run(mut self) {
        let mut wait = WAITS.0;
        loop {
            let was_heard = self.heard.at.load(Ordering::Relaxed);
            let ended = self.stream().await;
            if self.heard.at.load(Ordering::Relaxed) != was_heard {
                wait = WAITS.0;
            }
            match refusal(&ended) {
                Some(told) => {
                    tracing::error!(
                        reason = told.reason,
                        why = told.message,
                        "credential-issuer does not serve this node"
                    );
                    self.told.send_if_modified(|news| {
                        let is_new = !matches!(news, News::Refused(known) if **known == told);
                        if is_new {
                            *news = News::Refused(Arc::new(told));
                        }
                        is_new
                    });
                }
                None => tracing::warn!(why = %ended, "the stream from credential-issuer ended"),
            }
            self.meter.stream_ended();
            // Drawn with jitter: a thousand nodes lost one issuer at the same moment.
            tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    async fn stream(&mut self) -> Ended {
        let mut client = WorkloadServiceClient::new(self.client.clone()).max_decoding_message_size(LARGEST);
        let opened = tokio::time::timeout(SILENCE, client.watch_node(WatchNodeRequest {})).await;
        let mut stream = match opened {
            Err(_) => return Ended::Silent,
            Ok(Err(status)) => return Ended::Failed(Box::new(status)),
            Ok(Ok(answer)) => answer.into_inner(),
        };
        loop {
            match tokio::time::timeout(SILENCE, stream.message()).await {
                Err(_) => return Ended::Silent,
                Ok(Err(status)) => return Ended::Failed(Box::new(status)),
                Ok(Ok(None)) => return Ended::Closed,
                Ok(Ok(Some(told))) => {
                    if let Err(ended) = self.take_in(told) {
                        return ended;
                    }
                }
            }
        }
    }

    fn take_in(&mut self, told: WatchNodeResponse) -> Result<(), Ended> {
        if !self.highest.takes(told.revision, self.heard.clock.monotonic()) {
            return Err(Ended::Behind { told: told.revision, held: self.highest.revision });
        }
        if let Some(state) = told.state {
            let known = Knowledge::read(told.revision, state, &self.domain)?;
            tracing::debug!(revision = known.revision, policies = known.entitlements.len(), "heard");
            self.meter.known(known.revision, known.entitlements.len());
            self.told.send_replace(News::Known(Arc::new(known)));
        }
        if let Some(as_of) = told.as_of_time.and_then(|at| Timestamp::try_from(at).ok())
            // A heartbeat of an issuer that does not hear from the registry itself confirms nothing. One that lies far back is of a
            // clock that was put right.
            && (as_of > self.as_of || as_of.plus(CLOCK_SET) < self.as_of)
            && matches!(*self.told.borrow(), News::Known(_))
        {
            self.as_of = as_of;
            self.heard.at.store(self.heard.now(), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What was said where the node is not served: then nothing is served any more. An issuer that is not there, or does not know yet,
/// says nothing of the kind.
fn refusal(ended: &Ended) -> Option<Told> {
    let Ended::Failed(status) = ended else { return None };
    let told = Told::from_status(status);
    let is_deliberate = matches!(told.code, Code::PermissionDenied | Code::Unauthenticated) && !told.reason.is_empty();
    is_deliberate.then_some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_does_not_go_back_unless_there_is_nothing_else() {
        let secs = Duration::from_secs;
        let mut highest = Highest::default();
        assert!(highest.takes(7, secs(100)) && highest.takes(9, secs(101)) && highest.takes(9, secs(110)));
        // A replica that lags: it does not make who is suspended usable again.
        assert!(!highest.takes(8, secs(111)) && !highest.takes(8, secs(124)));
        // Another that does not, between.
        assert!(highest.takes(9, secs(124)));
        assert!(!highest.takes(8, secs(138)));
        // Nobody knows more for longer than a replica may lag.
        assert!(highest.takes(8, secs(139)));
        assert!(!highest.takes(7, secs(140)), "and that is what counts from now on");
        assert!(highest.takes(10, secs(140)));
    }
}
