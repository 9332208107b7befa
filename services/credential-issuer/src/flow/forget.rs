//! Tokens of issuers outside that were used are forgotten, long after they have ended.

use std::sync::Arc;
use std::time::Duration;

use super::Desk;
use crate::error::of_tx;
use crate::store::used_token;

/// How often.
const EVERY: Duration = Duration::from_secs(3600);
/// A token is kept for so long after it ended: a clock that is set back must not make it good again.
const LONG_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Forgets for as long as the process lives.
pub(crate) async fn forget_forever(desk: Arc<Desk>) {
    loop {
        let before = desk.clock.now().minus(LONG_AFTER);
        let forgotten = desk.db.tx("forget_used_tokens", move |tx| Box::pin(used_token::forget(tx, before))).await;
        if let Err(fault) = forgotten.map_err(of_tx) {
            tracing::warn!(%fault, "used identity tokens could not be forgotten; they are kept until the next try");
        }
        tokio::time::sleep(EVERY).await;
    }
}
