//! Says whether the service can issue: the view is fresh, the registry knows the key, and where keys are does its work.

use std::sync::Arc;
use std::time::Duration;

use legate_rpc::Health;

use crate::error::of_tx;
use crate::flow::Desk;
use crate::store::instance;

/// How often the watchman looks.
const LOOK: Duration = Duration::from_millis(200);
/// Every so many looks, live instances are counted.
const COUNT: u64 = 50;

/// What is wrong with the view, if anything.
pub(crate) fn view_check(desk: &Desk) -> Result<(), String> {
    desk.view.fresh(desk.view.bound()).map(|_| ()).map_err(|e| e.to_string())
}

/// Whether the registry knows the key that signs tokens.
pub(crate) fn key_check(desk: &Desk) -> Result<(), String> {
    if *desk.key_is_known.borrow() {
        Ok(())
    } else {
        Err("the registry has not confirmed the key that signs tokens".to_owned())
    }
}

/// Keeps the health that is told to others in step, for as long as the process lives.
pub(crate) async fn watch(desk: Arc<Desk>, health: Health) {
    let mut told = None;
    for look in 0u64.. {
        let is_ready = view_check(&desk).is_ok() && key_check(&desk).is_ok() && desk.keys.store.check().is_ok();
        if told != Some(is_ready) {
            health.set_serving("", is_ready).await;
            told = Some(is_ready);
        }
        if look.is_multiple_of(COUNT) {
            count_instances(&desk).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn count_instances(desk: &Desk) {
    let now = desk.clock.now();
    match desk.db.read("live_instances", move |tx| Box::pin(instance::living(tx, now))).await {
        Ok(count) => desk.metrics.instances(count),
        Err(e) => tracing::warn!(error = %of_tx(e), "live instances cannot be counted"),
    }
}
