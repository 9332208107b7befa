//! Looks after the service: tells its health, and keeps the gauges.

use std::sync::Arc;
use std::time::Duration;

use legate_rpc::Health;
use parking_lot::Mutex;

use crate::flow::{Desk, tick};
use crate::metrics::Metrics;

/// How often health and gauges are brought up to date.
const ROUND: Duration = Duration::from_millis(200);

/// An index that makes no step for so long, though the log is ahead of it, is in trouble.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long the index has made no step.
#[derive(Clone, Debug, Default)]
pub(crate) struct IndexWatch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    through: u64,
    /// By the monotonic clock.
    since: Duration,
    behind_for: Duration,
}

impl IndexWatch {
    fn look(&self, through: u64, size: u64, now: Duration) -> Duration {
        let mut seen = self.0.lock();
        if through != seen.through || through >= size {
            (seen.through, seen.since) = (through, now);
        }
        seen.behind_for = now.saturating_sub(seen.since);
        seen.behind_for
    }

    /// What is wrong with the index, if anything.
    pub(crate) fn check(&self, desk: &Desk) -> Result<(), String> {
        let behind_for = self.0.lock().behind_for;
        match desk.index.trouble() {
            Some(trouble) => Err(trouble),
            None if behind_for > PATIENCE => Err(format!("no step for {} s", behind_for.as_secs())),
            None => Ok(()),
        }
    }
}

/// What is wrong with the log, if anything.
pub(crate) fn log_check(desk: &Desk) -> Result<(), String> {
    match (desk.log.why_stopped(), desk.log.why_away()) {
        (Some(why), _) => Err(format!("stopped until a restart: {why}")),
        (None, Some(why)) => Err(format!("the commit log cannot be written: {why}")),
        (None, None) => Ok(()),
    }
}

/// What is wrong with the disk, if anything.
pub(crate) fn disk_check(desk: &Desk) -> Result<(), String> {
    match desk.log.why_unpublished() {
        _ if desk.log.is_full() => Err("full: events are refused until there is room".into()),
        Some(why) => Err(why),
        None => Ok(()),
    }
}

/// Goes its rounds for ever.
pub(crate) async fn watch(desk: Arc<Desk>, index: IndexWatch, metrics: Metrics, health: Health) {
    let (mut told, mut ticked) = (None, tick::Ticked::default());
    loop {
        let serves = log_check(&desk).is_ok();
        if told != Some(serves) {
            health.set_serving("", serves).await;
            told = Some(serves);
        }
        gauges(&desk, &index, &metrics);
        tick::tick(&desk, &mut ticked);
        tokio::time::sleep(ROUND).await;
    }
}

fn gauges(desk: &Desk, index: &IndexWatch, metrics: &Metrics) {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (size, through) = (desk.log.size(), *desk.index.through().borrow());
    metrics.size.set(count(size));
    metrics.waiting.set(i64::try_from(desk.log.waiting_bytes()).unwrap_or(i64::MAX));
    metrics.is_stopped.set(i64::from(desk.log.why_stopped().is_some()));
    metrics.is_full.set(i64::from(desk.log.is_full()));
    metrics.is_away.set(i64::from(desk.log.why_away().is_some()));
    metrics.is_unpublished.set(i64::from(desk.log.why_unpublished().is_some()));
    metrics.indexed.set(count(through));
    metrics.index_lag.set(count(size.saturating_sub(through)));
    let now = desk.clock.monotonic();
    metrics.index_behind_for.set(index.look(through, size, now).as_secs_f64());
    desk.fresh.look(now, size, through);
    let covered = desk.fresh.covered().borrow().filter(|_| *desk.index.knows_roles().borrow());
    metrics.roles_age.set(covered.map_or(-1.0, |at| now.saturating_sub(at).as_secs_f64()));
    let cosigned = desk.cosigned.newest().map_or(0, |newest| newest.size);
    metrics.cosigned.set(count(cosigned));
    metrics.cosigned_age.set(desk.cosigned.age(desk.clock.now()).unwrap_or(-1.0));
    metrics.quorum_missing.set(desk.cosigned.missing_for(now).as_secs_f64());
    metrics.tails.set(i64::try_from(desk.tails.count() + desk.feeds.count()).unwrap_or(i64::MAX));
}
