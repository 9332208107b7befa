//! What time does: agents whose time is over expire, and revocations, keys and requests that are past their use are forgotten.

use std::sync::Arc;
use std::time::Duration;

use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;

use super::transition::{self, Step};
use super::{Call, Desk};
use crate::domain::lifecycle::Transition;
use crate::error::of_tx;
use crate::store::{object, request};

/// How often the sweep looks.
const LOOK: Duration = Duration::from_millis(500);
/// Objects in one transaction.
const AT_ONCE: u64 = 200;
/// Every so many looks, old requests are forgotten and agents are counted.
const HOUSEKEEPING: u64 = 20;

/// Sweeps for as long as the process lives.
pub(crate) async fn sweep_forever(desk: Arc<Desk>) {
    for look in 0u64.. {
        if let Err(fault) = sweep(&desk).await {
            tracing::warn!(%fault, "what is over could not be swept; it is tried again");
        }
        if look.is_multiple_of(HOUSEKEEPING)
            && let Err(fault) = tidy(&desk).await
        {
            tracing::warn!(%fault, "old requests could not be forgotten; it is tried again");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Ends everything whose time is over; how many objects.
pub(crate) async fn sweep(desk: &Arc<Desk>) -> Result<usize, Fault> {
    let mut swept = 0;
    loop {
        let now = desk.clock.now();
        let due = desk.db.read("sweep_due", move |tx| Box::pin(object::due(tx, now.micros(), AT_ONCE))).await;
        let ids: Vec<String> = due.map_err(of_tx)?.into_iter().map(|row| row.id).collect();
        if ids.is_empty() {
            return Ok(swept);
        }
        swept += ids.len();
        end(desk, ids).await?;
    }
}

async fn end(desk: &Arc<Desk>, ids: Vec<String>) -> Result<(), Fault> {
    let (call, ids) = (Call::own(desk, "its time is over"), Arc::new(ids));
    desk.write("sweep", Standard::Stopping, call, move |writing| {
        let ids = Arc::clone(&ids);
        Box::pin(async move {
            for id in ids.iter() {
                let Some(row) = object::by_id(writing.tx, id).await? else { continue };
                // Somebody may have given it more time, or ended it, since it was seen.
                if row.ends_at.is_none_or(|at| at > writing.now.micros()) {
                    continue;
                }
                let current = row.declaration()?;
                if matches!(current.object, Some(Object::Agent(_))) {
                    Box::pin(transition::take(writing, current, Step::Transition(Transition::Expire))).await?;
                } else {
                    writing.take_back(current, "forgotten").await?;
                }
            }
            Ok(())
        })
    })
    .await
}

async fn tidy(desk: &Arc<Desk>) -> Result<(), Fault> {
    let now = desk.clock.now();
    desk.db.tx("forget_requests", move |tx| Box::pin(request::forget(tx, now))).await.map_err(of_tx)?;
    let census = desk.db.read("census", |tx| Box::pin(object::census(tx))).await.map_err(of_tx)?;
    desk.metrics.agents(&census);
    Ok(())
}
