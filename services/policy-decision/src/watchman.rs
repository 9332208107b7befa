//! Looks after the service: tells its health, and keeps the gauges.

use std::sync::Arc;
use std::time::Duration;

use legate_rpc::Health;

use crate::flow::Desk;

/// How often health and gauges are brought up to date.
const ROUND: Duration = Duration::from_millis(200);

/// What is wrong with the spool, if anything.
pub(crate) fn spool_check(desk: &Desk) -> Result<(), String> {
    if desk.spool.is_broken() {
        return Err("the disk has failed; restart the service".into());
    }
    if desk.spool.is_full() {
        return Err(format!("{} bytes wait for audit-collector", desk.spool.waiting_bytes()));
    }
    Ok(())
}

/// Goes its rounds for ever.
pub(crate) async fn watch(desk: Arc<Desk>, health: Health) {
    let mut told = None;
    loop {
        let serves = desk.view.fresh(desk.view.bound()).is_ok() && spool_check(&desk).is_ok();
        if told != Some(serves) {
            health.set_serving("", serves).await;
            told = Some(serves);
        }
        gauges(&desk);
        tokio::time::sleep(ROUND).await;
    }
}

fn gauges(desk: &Desk) {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let (metrics, counts) = (&desk.metrics, desk.view.counts());
    // A registry that was never heard: older than anything.
    metrics.view_age.set(desk.view.age().map_or(f64::INFINITY, |age| age.as_secs_f64()));
    metrics.view_revision.set(signed(desk.view.current().revision()));
    metrics.view_downgrades.set(signed(counts.downgrades));
    metrics.view_refused.set(signed(counts.refused));
    metrics.unusable_namespaces.set(count(desk.library.unusable()));
    metrics.proved_tokens.set(count(desk.tokens.len()));
    metrics.spool_bytes.set(signed(desk.spool.waiting_bytes()));
    metrics.spool_is_broken.set(i64::from(desk.spool.is_broken()));
}
