//! Saying that processes ended: tried again until it is heard, or what they held has ended by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use legate_clock::Clock;
use tokio::sync::{Semaphore, mpsc};

use crate::Meter;
use crate::issuer::{Issuer, NotIssued, Svid};
use crate::moment::Moment;

/// So many wait at most; of more, nobody is told, and their SVIDs end at their time.
const WAITING: usize = 16_384;
/// Told at once.
const AT_ONCE: usize = 8;
/// The wait after a failure doubles from the first to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Takes instances whose processes ended.
#[derive(Debug)]
pub(super) struct Ender {
    queue: mpsc::Sender<Ended>,
    waiting: Arc<AtomicUsize>,
    meter: Meter,
}

#[derive(Debug)]
struct Ended {
    instance_id: String,
    ends: Moment,
}

impl Ender {
    /// Needs a tokio runtime. It ends when this is dropped and everything was told.
    pub(super) fn start(issuer: Issuer, clock: Arc<dyn Clock>, meter: Meter) -> Self {
        let (queue, mut ended) = mpsc::channel::<Ended>(WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        let (count, told) = (Arc::clone(&waiting), meter.clone());
        tokio::spawn(async move {
            let turns = Arc::new(Semaphore::new(AT_ONCE));
            while let Some(one) = ended.recv().await {
                let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
                let (issuer, clock, count, told) =
                    (issuer.clone(), Arc::clone(&clock), Arc::clone(&count), told.clone());
                tokio::spawn(async move {
                    tell(&issuer, clock.as_ref(), &one).await;
                    told.ends_waiting(count.fetch_sub(1, Ordering::Relaxed) - 1);
                    drop(turn);
                });
            }
        });
        Self { queue, waiting, meter }
    }

    /// The process that held this has ended, or may hold it no more.
    pub(super) fn end(&self, svid: &Svid) {
        let ended = Ended { instance_id: svid.instance_id.clone(), ends: svid.ends };
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        match self.queue.try_send(ended) {
            Ok(()) => self.meter.ends_waiting(waiting),
            Err(_) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(instance = svid.instance_id, "too many ends wait; its SVIDs end at their time");
            }
        }
    }
}

async fn tell(issuer: &Issuer, clock: &dyn Clock, ended: &Ended) {
    let mut wait = WAITS.0;
    while !ended.ends.is_over(Moment::now(clock)) {
        match issuer.end(&ended.instance_id).await {
            Ok(()) => return tracing::info!(instance = ended.instance_id, "the process ended, and its SVIDs with it"),
            Err(NotIssued::Refused(told)) => {
                // It was taken down before, most likely.
                return tracing::info!(instance = ended.instance_id, reason = told.reason, "the end was not taken");
            }
            Err(NotIssued::Unreached(why)) => {
                tracing::debug!(instance = ended.instance_id, why, "the end is told later");
                tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
                wait = (wait * 2).min(WAITS.1);
            }
        }
    }
}
