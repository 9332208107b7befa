//! The loop that carries events from a source to a sink: in order, in batches, until acknowledged.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use legate_clock::Clock;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::heartbeat::Pulse;
use crate::{Batch, Sink, Source};

/// How much at a time, and how long to wait.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Events in one batch: 1 to 1,024, default 512.
    pub max_events: usize,
    /// Bytes in one batch: below the message bound of 4 MiB, default 1 MiB.
    pub max_bytes: usize,
    /// How long the sink may take for one batch. Default 5 s.
    pub timeout: Duration,
    /// The least time from the beginning of one batch to that of the next, where no more waits than went with the first: under
    /// load a batch has so many events that its own sync and acknowledgement are worth it. Default 20 ms.
    pub gap: Duration,
    /// The first wait after a failure; doubles. Default 50 ms.
    pub first_wait: Duration,
    /// The longest wait after a failure. Default 5 s.
    pub longest_wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            max_events: 512,
            max_bytes: 1 << 20,
            timeout: Duration::from_secs(5),
            gap: Duration::from_millis(20),
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(5),
        }
    }
}

/// What is counted of a shipper.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    backlog: Gauge,
    oldest: Gauge<f64, AtomicU64>,
    shipped: Counter,
    failures: Counter,
    renumbered: Counter,
}

impl Metrics {
    /// Adds the counters to a registry, as `legate_outbox_...`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("outbox_backlog", "Audit events that wait for audit-collector", self.backlog.clone());
        registry.register_with_unit(
            "outbox_oldest",
            "Age of the oldest audit event that waits",
            Unit::Seconds,
            self.oldest.clone(),
        );
        registry.register("outbox_shipped", "Audit events that audit-collector acknowledged", self.shipped.clone());
        registry.register(
            "outbox_renumbered",
            "Times that what waits was put into a new epoch, since audit-collector has other events under its numbers",
            self.renumbered.clone(),
        );
        registry.register("outbox_failures", "Batches that audit-collector did not take", self.failures.clone());
    }

    /// How many events wait, as last seen.
    #[must_use]
    pub fn backlog(&self) -> i64 {
        self.backlog.get()
    }

    /// How old the oldest waiting event is, as last seen.
    #[must_use]
    pub fn oldest(&self) -> Duration {
        Duration::try_from_secs_f64(self.oldest.get()).unwrap_or_default()
    }
}

/// A running loop; it ends when this is dropped.
#[derive(Debug)]
pub struct Shipper {
    task: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Shipper {
    /// Ships what waits, for `grace` at most, and ends. What is not shipped waits for the next start.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            tracing::warn!("audit events are left for the next start");
        }
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts the loop from `source` to `sink`.
pub fn ship<S: Source, K: Sink>(source: S, sink: K, pace: Pace, clock: Arc<dyn Clock>, metrics: Metrics) -> Shipper {
    let (stop, stopped) = watch::channel(false);
    let pulse = Pulse::begun(clock.monotonic());
    let run = Run { source, sink, pace, clock, metrics, stopped, pulse, has_left: false };
    Shipper { task: tokio::spawn(run.forever()), stop }
}

struct Run<S, K> {
    source: S,
    sink: K,
    pace: Pace,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    stopped: watch::Receiver<bool>,
    pulse: Pulse,
    has_left: bool,
}

/// How one round ended.
enum Round {
    /// Whether there was more than went.
    Shipped(bool),
    Nothing,
    Failed(Option<Duration>),
}

impl<S: Source, K: Sink> Run<S, K> {
    async fn forever(mut self) {
        let mut wait = self.pace.first_wait;
        loop {
            let begun = Instant::now();
            self.leave().await;
            match self.round().await {
                Round::Shipped(is_more) => {
                    wait = self.pace.first_wait;
                    self.beat().await;
                    if !is_more && !*self.stopped.borrow() {
                        tokio::select! {
                            () = tokio::time::sleep_until(begun + self.pace.gap) => {}
                            _ = self.stopped.changed() => {}
                        }
                    }
                }
                Round::Nothing => {
                    if self.has_left {
                        return;
                    }
                    self.beat().await;
                    tokio::select! {
                        () = self.source.changed() => {}
                        _ = self.stopped.changed() => {}
                    }
                }
                Round::Failed(asked) => {
                    self.metrics.failures.inc();
                    // Half of it by chance, so that services do not knock in step.
                    let half = wait / 2;
                    let chance = half.mul_f64(rand::random::<f64>());
                    // Who asks for no time at all gets some all the same.
                    let pause = asked.unwrap_or_default().max(half + chance).min(self.pace.longest_wait);
                    let is_new = !self.has_left;
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        _ = self.stopped.changed(), if is_new => {}
                    }
                    wait = (wait * 2).min(self.pace.longest_wait);
                }
            }
        }
    }

    /// Tells that we live, where that is due. While the collector is away nothing is: what waits says so already.
    async fn beat(&mut self) {
        if !*self.stopped.borrow()
            && self.pulse.is_due(self.clock.monotonic())
            && let Err(error) = self.source.beat().await
        {
            tracing::warn!(%error, "no heartbeat can be recorded");
        }
    }

    /// Tells that we leave, as soon as we are stopped and before the rest is shipped: whatever becomes of that, it is recorded.
    async fn leave(&mut self) {
        if !*self.stopped.borrow() || std::mem::replace(&mut self.has_left, true) {
            return;
        }
        if let Err(error) = self.source.leave().await {
            tracing::warn!(%error, "that we leave cannot be recorded");
        }
    }

    async fn round(&self) -> Round {
        let batch = match self.source.next_batch(self.pace.max_events, self.pace.max_bytes).await {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                self.metrics.backlog.set(0);
                self.metrics.oldest.set(0.0);
                return Round::Nothing;
            }
            Err(e) => {
                tracing::error!(error = %e, "waiting audit events cannot be read");
                return Round::Failed(None);
            }
        };
        self.metrics.backlog.set(i64::try_from(batch.waiting).unwrap_or(i64::MAX));
        self.metrics.oldest.set(self.clock.now().since(batch.oldest).as_secs_f64());
        self.deliver(&batch).await
    }

    async fn deliver(&self, batch: &Batch) -> Round {
        let answer = tokio::time::timeout(self.pace.timeout, self.sink.append(batch)).await;
        let acked = match answer {
            Ok(Ok(acked)) => acked,
            Ok(Err(e)) => {
                if e.is_refusal {
                    tracing::error!(
                        reason = e.reason,
                        first_seq = batch.first_seq,
                        "audit-collector refuses events: {}",
                        e.message
                    );
                } else {
                    tracing::warn!(reason = e.reason, "audit-collector does not take events: {}", e.message);
                }
                if e.reason == legate_batch::EVENTS_DIFFER {
                    match self.source.differs(&batch.epoch).await {
                        Ok(()) => drop(self.metrics.renumbered.inc()),
                        Err(e) => tracing::error!(error = %e, "what waits cannot be numbered anew"),
                    }
                }
                return Round::Failed(e.retry_after);
            }
            Err(_) => {
                tracing::warn!("audit-collector did not answer in time");
                return Round::Failed(None);
            }
        };
        if acked < batch.first_seq {
            tracing::error!(acked, first_seq = batch.first_seq, "audit-collector acknowledged nothing of a batch");
            return Round::Failed(None);
        }
        if let Err(e) = self.source.acked(&batch.epoch, acked).await {
            // They are offered again, which the collector notices.
            tracing::error!(error = %e, "an acknowledgement cannot be stored");
            return Round::Failed(None);
        }
        let shipped = acked.min(batch.last_seq()) + 1 - batch.first_seq;
        self.metrics.shipped.inc_by(shipped);
        Round::Shipped(batch.waiting > shipped)
    }
}
