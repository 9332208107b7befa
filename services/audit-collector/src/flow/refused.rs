//! Callers who were turned away at the door are events of the log, a flood of them a few.

use std::sync::Arc;

use legate_rpc::Refusals;

use super::Desk;
use crate::log::Own;

/// Records them for as long as the process lives.
pub(crate) async fn record_forever(desk: Arc<Desk>, refusals: Arc<Refusals>) {
    loop {
        tokio::time::sleep(legate_outbox::EVERY).await;
        for refused in refusals.take() {
            let event = legate_outbox::access_refused(&refused, desk.clock.now());
            desk.log.tell(Own::from_event("access.refused", event));
        }
    }
}
