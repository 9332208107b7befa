//! Reads that were added up are told when their while is over, and all that are left when the collector stops.
//!
//! What is over is laid out, and leaves there as it goes into the log's queue: whoever breaks off in between loses none.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Desk;
use super::reads::{Sum, event, hide};
use crate::log::Own;

/// How often it is looked what is over.
const EVERY: Duration = Duration::from_secs(1);

/// Sums that are told at once.
const TOGETHER: usize = 256;

/// At the end so long is taken for all of them; what the log did not take by then is counted as not recorded.
const LAST: Duration = Duration::from_secs(3);

/// Between two tries at the end.
const PAUSE: Duration = Duration::from_millis(20);

/// Sums that are told for as long as the collector leads.
#[derive(Debug)]
pub(crate) struct Telling {
    desk: Arc<Desk>,
    task: JoinHandle<()>,
    end: CancellationToken,
}

impl Telling {
    /// Begins.
    pub(crate) fn begin(desk: Arc<Desk>) -> Self {
        let end = CancellationToken::new();
        let task = tokio::spawn(tell_until(Arc::clone(&desk), end.clone()));
        Self { desk, task, end }
    }

    /// Tells what is left, and ends, in a bounded time.
    pub(crate) async fn end(mut self) {
        let until = Instant::now() + LAST;
        self.end.cancel();
        if timeout_at(until, &mut self.task).await.is_err() {
            // What it was about to tell is in the log's queue.
            self.task.abort();
        }
        tell_rest(&self.desk, until).await;
    }
}

async fn tell_until(desk: Arc<Desk>, end: CancellationToken) {
    while end.run_until_cancelled(sleep(EVERY)).await.is_some() {
        tell_over(&desk).await;
    }
}

/// Tells what is over. What cannot be told now is told later.
async fn tell_over(desk: &Desk) {
    if desk.log.recording().is_err() {
        return;
    }
    desk.reads.lay_out(desk.clock.monotonic(), false);
    loop {
        let some = desk.reads.next(TOGETHER);
        if some.is_empty() {
            return;
        }
        let left = tell(desk, some).await;
        if !left.is_empty() {
            desk.reads.give_back(left);
            return;
        }
    }
}

/// Tells all that is left, until then at most.
async fn tell_rest(desk: &Desk, until: Instant) {
    desk.reads.lay_out(desk.clock.monotonic(), true);
    loop {
        let some = desk.reads.next(TOGETHER);
        if some.is_empty() {
            return;
        }
        if desk.log.recording().is_err() || Instant::now() >= until {
            lost(desk, &some);
        } else if let Ok(left) = timeout_at(until, tell(desk, some)).await
            && !left.is_empty()
        {
            desk.reads.give_back(left);
            sleep(PAUSE).await;
        }
    }
}

/// Tells these together; those that the log did not take.
async fn tell(desk: &Desk, sums: Vec<Sum>) -> Vec<Sum> {
    let telling = sums.into_iter().map(|sum| async move {
        let mut read = sum.read.clone();
        hide(desk, &mut read.asked);
        let kind = read.kind;
        let mut event = event(&sum.caller, read, sum.shown);
        event.details.insert("times".to_owned(), sum.times.to_string());
        desk.log.record(Own::from_event(kind, event)).await.is_err().then_some(sum)
    });
    join_all(telling).await.into_iter().flatten().collect()
}

/// They are not recorded, which is counted.
fn lost(desk: &Desk, sums: &[Sum]) {
    for sum in sums {
        let (caller, times) = (&sum.caller, sum.times);
        tracing::warn!(caller, times, "reads of the log that were added up cannot be recorded");
        desk.metrics.unrecorded(sum.read.kind);
    }
}
