//! The registry is told of our keys and of every revocation, again and again until it confirms.

use std::sync::Arc;
use std::time::Duration;

use legate_rpc::Fault;
use legate_wire::registry::PublishRevocationRequest;
use prost::Message as _;

use super::Desk;
use super::keyring::One;
use crate::convert;
use crate::domain::keyring::KeyUse;
use crate::error::of_tx;
use crate::store::{pending, signing_key};

/// Revocations read at a time.
const BATCH: u64 = 64;
/// The first wait after a failure; doubles.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait after a failure: a revocation must not wait long for a registry that came back.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often to look without being woken: another replica may have left something.
const LOOK: Duration = Duration::from_secs(10);
/// How long the registry may take for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells the registry for as long as the process lives.
pub(crate) async fn publish_forever(desk: Arc<Desk>) {
    let (mut wait, mut is_told) = (FIRST_WAIT, false);
    loop {
        if !is_told {
            is_told = again(&desk).await;
        }
        // No token is signed before; what is taken back does not wait for it.
        let is_done = if is_told {
            round(&desk).await
        } else {
            revocations(&desk).await;
            false
        };
        if is_done {
            wait = FIRST_WAIT;
            let _woken_or_not = tokio::time::timeout(LOOK, desk.news.notified()).await;
        } else {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// Tells of the keys that an earlier run told of: it may have had another name, as whose keys they stand, and the registry may
/// have been set back since. Whether all are confirmed.
async fn again(desk: &Desk) -> bool {
    let is_of_tokens = |one: &One| one.row.purpose().is_ok_and(|purpose| !purpose.is_ca());
    let was_told = |one: &One| one.row.told != 0 && one.state.is_published() && is_of_tokens(one);
    // What takes a key away waits for none of them.
    let is_taken_back = |one: &One| !one.state.is_published() && one.row.is_news().unwrap_or(false);
    let mut those = desk.keys.all();
    those.retain(|one| was_told(one) || is_taken_back(one));
    those.sort_by_key(|one| one.state.is_published());
    let mut all = true;
    for one in those {
        all &= key(desk, &one).await;
    }
    all
}

/// One round; whether everything is confirmed.
pub(crate) async fn round(desk: &Desk) -> bool {
    let keys = keys(desk).await;
    let revocations = revocations(desk).await;
    keys && revocations
}

/// Tells how keys of tokens stand, where the registry has not confirmed that; whether everything is confirmed. What takes one away
/// first.
pub(crate) async fn keys(desk: &Desk) -> bool {
    let is_news = |one: &One| one.row.is_news().unwrap_or(false);
    let mut news: Vec<One> = desk.keys.all().into_iter().filter(is_news).collect();
    news.sort_by_key(|one| one.state.is_published());
    let mut all = true;
    let any = !news.is_empty();
    for one in news {
        all &= key(desk, &one).await;
    }
    if any && let Err(error) = desk.keys.load().await {
        tracing::error!(%error, "keys cannot be read; those that are known stay");
        return false;
    }
    let is_known = desk.keys.active(KeyUse::AccessTokens).is_ok_and(|one| one.row.told != 0);
    desk.key_is_known.send_replace(is_known);
    all && is_known
}

async fn key(desk: &Desk, one: &One) -> bool {
    let (kid, state) = (one.row.kid.clone(), one.row.state);
    let request = match convert::key_publication(&one.row, &desk.issuer) {
        Ok(Some(request)) => request,
        Ok(None) => return true,
        Err(fault) => {
            tracing::error!(%fault, kid, "a key cannot be told of");
            return false;
        }
    };
    match tokio::time::timeout(PATIENCE, desk.publisher.key(request)).await {
        Ok(Ok(revision)) => {
            tracing::info!(revision, kid, state = one.state.word(), "the registry knows how a key stands");
            desk.metrics.published();
            let now = desk.clock.now();
            let told = desk.db.tx("key_published", move |tx| {
                let kid = kid.clone();
                Box::pin(async move { signing_key::told(tx, &kid, state, now).await })
            });
            match told.await.map_err(of_tx) {
                Ok(()) => true,
                Err(fault) => {
                    tracing::warn!(%fault, "that the registry knows a key could not be noted; it is told again");
                    false
                }
            }
        }
        Ok(Err(status)) => {
            tracing::warn!(%status, kid, "the registry does not take a key; it is told again");
            false
        }
        Err(_) => false,
    }
}

async fn revocations(desk: &Desk) -> bool {
    let rows = match desk.db.read("pending_revocations", |tx| Box::pin(pending::oldest(tx, BATCH))).await {
        Ok(rows) => rows,
        Err(e) => {
            tracing::error!(error = %of_tx(e), "pending revocations cannot be read");
            return false;
        }
    };
    let mut left = rows.len();
    desk.metrics.pending(left);
    let is_full = u64::try_from(left).is_ok_and(|n| n == BATCH);
    for row in rows {
        if one(desk, &row).await {
            left -= 1;
            desk.metrics.pending(left);
        }
    }
    if is_full {
        // There may be more, at once.
        desk.news.notify_one();
    }
    left == 0
}

async fn one(desk: &Desk, row: &pending::Model) -> bool {
    let request = match PublishRevocationRequest::decode(row.request.as_slice()) {
        Ok(request) => request,
        Err(error) => {
            tracing::error!(%error, credential = row.credential_id, "a pending revocation cannot be read");
            return false;
        }
    };
    match tokio::time::timeout(PATIENCE, desk.publisher.revocation(request)).await {
        Ok(Ok(revision)) => {
            tracing::info!(revision, credential = row.credential_id, "the registry knows a revocation");
            confirmed(desk, &row.credential_id).await.is_ok()
        }
        Ok(Err(status)) => {
            tracing::warn!(%status, credential = row.credential_id, "the registry does not take a revocation; it is told again");
            false
        }
        Err(_) => false,
    }
}

/// The registry has confirmed a revocation: it need not be told again.
pub(super) async fn confirmed(desk: &Desk, credential_id: &str) -> Result<(), Fault> {
    let id = credential_id.to_owned();
    desk.metrics.published();
    desk.db
        .tx("revocation_published", move |tx| {
            let id = id.clone();
            Box::pin(async move { pending::done(tx, &id).await })
        })
        .await
        .map_err(of_tx)
}
