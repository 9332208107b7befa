//! What nobody could show any more is forgotten: names of assertions and proofs, tokens that would have ended by now,
//! requests by CIBA that are over, tokens of issuers outside that were used, and requests of nodes that were answered.

use std::sync::Arc;
use std::time::Duration;

use legate_rpc::Fault;

use super::Desk;
use super::attest::AGAIN_UNTIL;
use crate::error::of_tx;
use crate::store::{backchannel, node_request, once, revoked_token, used_token};

/// How often.
const EVERY: Duration = Duration::from_secs(60);
/// A token of an issuer outside is kept for so long after it ended: a clock that is set back must not make it good again.
const LONG_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Forgets for as long as the process lives.
pub(crate) async fn forget_forever(desk: Arc<Desk>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(fault) = forget(&desk).await {
            tracing::warn!(%fault, "what is over could not be forgotten; it is tried again");
        }
    }
}

pub(crate) async fn forget(desk: &Desk) -> Result<(), Fault> {
    let now = desk.clock.now();
    let forgotten = desk.db.tx("forget", move |tx| {
        Box::pin(async move {
            once::forget(tx, now).await?;
            revoked_token::forget(tx, now).await?;
            backchannel::forget(tx, now).await?;
            used_token::forget(tx, now.minus(LONG_AFTER)).await?;
            node_request::forget(tx, now.minus(AGAIN_UNTIL)).await?;
            Ok(())
        })
    });
    forgotten.await.map_err(of_tx)
}
