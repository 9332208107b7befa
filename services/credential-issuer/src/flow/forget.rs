//! What nobody could show any more is forgotten: names of assertions and proofs, tokens that would have ended by now, requests
//! that are over or were answered; and what ended so long ago that nobody asks about it: credentials, running copies, enrolment
//! tokens.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;

use super::Desk;
use super::attest::AGAIN_UNTIL;
use crate::error::of_tx;
use crate::store::{backchannel, ended, node_request, once, revoked_token, used_token};

/// How often.
const EVERY: Duration = Duration::from_secs(60);
/// A token of an issuer outside is kept for so long after it ended: a clock that is set back must not make it good again.
const LONG_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How many transactions delete rows of one kind each time.
const ROUNDS: u32 = 50;

/// Forgets for as long as the process lives. What ended is kept for so long; `None`: for ever.
pub(crate) async fn forget_forever(desk: Arc<Desk>, keep_ended: Option<Duration>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(fault) = forget(&desk).await {
            tracing::warn!(%fault, "what is over could not be forgotten; it is tried again");
        }
        let Some(keep) = keep_ended else { continue };
        if let Err(fault) = forget_ended(&desk, keep).await {
            tracing::warn!(%fault, "what ended long ago could not be deleted; it is tried again");
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

/// Deletes rows of one kind; how many.
type Deleting = for<'a> fn(&'a Tx, Timestamp) -> BoxFuture<'a, TxResult<u64, Fault>>;

/// What is deleted: its name in metrics, the transaction, and how. A running copy goes after its last certificate.
const ENDED: [(&str, &str, Deleting); 4] = [
    ("credential", "forget_credentials", |tx, before| Box::pin(ended::credentials(tx, before))),
    ("instance", "forget_instances", |tx, before| Box::pin(ended::instances(tx, before))),
    ("enrolment", "forget_enrolments", |tx, before| Box::pin(ended::enrolments(tx, before))),
    ("status_list", "forget_status_lists", |tx, before| Box::pin(ended::status_lists(tx, before))),
];

/// Deletes what ended longer ago than `keep`, in small transactions.
pub(crate) async fn forget_ended(desk: &Desk, keep: Duration) -> Result<(), Fault> {
    let before = desk.clock.now().minus(keep);
    for (kind, name, delete) in ENDED {
        for _ in 0..ROUNDS {
            let gone = desk.db.tx(name, move |tx| delete(tx, before)).await.map_err(of_tx)?;
            desk.metrics.forgotten(kind, gone);
            if gone < ended::AT_ONCE {
                break;
            }
        }
    }
    Ok(())
}
