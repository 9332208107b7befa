//! What time does to the past: what nobody can ask for any more, since it is older than the history that is kept, is forgotten.
//!
//! First the horizon moves, with its audit event; from then on nobody reads what is before it. Then, a few writes at a time, each
//! write up to the horizon has those of the same object before it forgotten: the last of them is how the object was at the
//! horizon, and stays. An object that was taken back before the horizon goes as a whole; a retired agent is not taken back, and
//! stays for ever. Whoever is stopped in between goes on where it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use legate_db::{Tx, TxResult};
use legate_outbox::Standard;
use legate_rpc::Fault;

use super::{Desk, hands};
use crate::convert;
use crate::error::of_tx;
use crate::store::change::{self, Written};
use crate::store::usage::grant;
use crate::store::{approved, declarer, head, object, revision, signed, unsigned};

/// Writes that are looked at in one transaction; each has no more than these and one before it to forget.
const AT_ONCE: u64 = 200;

/// How often the horizon moves.
const LOOK: Duration = Duration::from_secs(3_600);

/// Compacts for as long as the process lives; beside the sweep, which must not wait for a long history.
pub(crate) async fn compact_forever(desk: Arc<Desk>) {
    loop {
        match compact(&desk).await {
            Ok(0) => {}
            Ok(versions) => {
                tracing::info!(versions, "versions that are older than the history that is kept are forgotten")
            }
            Err(fault) => tracing::warn!(%fault, "the history could not be compacted; it is tried again in an hour"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Forgets what is older than is to be kept; how many versions of objects.
#[tracing::instrument(skip_all)]
pub(crate) async fn compact(desk: &Arc<Desk>) -> Result<u64, Fault> {
    if let Some(keeps) = desk.keeps {
        move_horizon(desk, keeps).await?;
    }
    let read = desk.db.read("compaction_head", |tx| Box::pin(head::read_whole(tx))).await.map_err(of_tx)?;
    desk.metrics.oldest(unsigned(read.oldest));
    let oldest = read.oldest;
    let (mut after, mut gone) = ((read.swept, i32::MAX), 0);
    while after < (oldest, i32::MAX) {
        let (next, some) = desk
            .db
            .tx("compact", move |tx| Box::pin(async move { sweep_some(tx, after, oldest).await }))
            .await
            .map_err(of_tx)?;
        desk.metrics.compacted(some);
        (after, gone) = (next, gone + some);
    }
    Ok(gone)
}

/// The oldest revision that is kept becomes the one that was the newest so long ago.
async fn move_horizon(desk: &Arc<Desk>, keeps: Duration) -> Result<(), Fault> {
    let (now, own, outbox) = (desk.clock.now(), desk.own.to_string(), desk.outbox.clone());
    let moved = desk.db.tx("move_horizon", move |tx| {
        let (own, outbox) = (own.clone(), outbox.clone());
        Box::pin(async move {
            let head = head::lock(tx).await?;
            let Some(oldest) = revision::at(tx, now.minus(keeps).micros()).await? else { return Ok(()) };
            if signed(oldest) <= head.oldest {
                return Ok(());
            }
            head::keep_from(tx, oldest).await?;
            let event = convert::compacted(&own, unsigned(head.oldest), oldest, keeps, now);
            outbox.record(tx, Standard::Patient, event).await?;
            Ok(())
        })
    });
    moved.await.map_err(of_tx)
}

/// Forgets what some writes up to the horizon superseded; the last of these writes, and how many versions are gone.
async fn sweep_some(tx: &Tx, after: change::Place, oldest: i64) -> TxResult<(change::Place, u64), Fault> {
    let some = change::written(tx, after, oldest, AT_ONCE).await?;
    let is_all = (some.len() as u64) < AT_ONCE;
    let reached = some.last().filter(|_| !is_all).map_or((oldest, i32::MAX), |write| write.place);
    let mut newest: BTreeMap<String, Written> = BTreeMap::new();
    for write in some {
        newest.insert(write.object_id.clone(), write);
    }
    let mut gone = 0;
    for write in newest.into_values() {
        // What the horizon's own revision tells is told whole.
        let is_forgotten = write.revoked && write.place.0 < oldest;
        if is_forgotten {
            object::forget(tx, &write.object_id).await?;
            grant::forget(tx, &write.object_id).await?;
            approved::forget(tx, &write.object_id).await?;
            declarer::forget(tx, &write.object_id).await?;
        } else if !write.revoked {
            let declarers = hands::declarers(tx, &write.object_id, write.place.0).await?;
            declarer::add(tx, &write.object_id, declarers.by).await?;
        }
        gone += change::forget_before(tx, &write, is_forgotten).await?;
    }
    // The revision that was reached may have more to it; the horizon's own is looked at again with the next horizon.
    let done = if is_all { oldest } else { reached.0 } - 1;
    revision::forget(tx, done).await?;
    head::swept_to(tx, done).await?;
    Ok((reached, gone))
}
