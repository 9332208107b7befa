//! What time does: agents whose time is over expire, those that nobody is accountable for are suspended, lifecycle policies are
//! carried out, what those who left answered for passes on, reviews go on, and revocations, keys and requests that are past their use are forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_db::TxResult;
use legate_outbox::{AUDIT_UNAVAILABLE, Standard};
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind};

use super::decide_approval::{self, End};
use super::transition::{self, Step};
use super::{Call, Desk, alert_feed, lifecycle, review, succession};
use crate::domain::lifecycle::Transition;
use crate::domain::overdue::Try;
use crate::domain::standing;
use crate::error::of_tx;
use crate::store::{self, approval, object, request, review_item};

/// How often the sweep looks.
const LOOK: Duration = Duration::from_millis(500);
/// Objects that are due and looked at together.
const AT_ONCE: u64 = 200;
/// Stop orders that are counted.
const COUNTED: u64 = 10_000;
/// Every so many looks, old requests are forgotten and agents are counted.
const HOUSEKEEPING: u64 = 20;
/// So far ahead it is counted what lifecycle policies do.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

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

/// Ends everything whose time is over, passes on what those who left answer for, and goes on with reviews; how many objects were
/// written, and steps taken.
pub(crate) async fn sweep(desk: &Arc<Desk>) -> Result<usize, Fault> {
    let mut swept = 0;
    loop {
        // In turns: somebody who answered for very many agents keeps none from ending, nor the reverse.
        let passed = succession::settle_some(desk).await;
        let planned = lifecycle::replan_some(desk).await;
        let looked = lifecycle::look_some(desk).await;
        let reviewed = review::go_on(desk).await;
        let ended = end_some(desk).await?;
        let (passed, planned, looked, reviewed) = (passed?, planned?, looked?, reviewed?);
        if passed.is_none() && planned.is_none() && reviewed.is_none() && looked.at == 0 && ended == 0 {
            return Ok(swept);
        }
        swept += ended + looked.done + usize::try_from(passed.unwrap_or(0) + reviewed.unwrap_or(0)).unwrap_or(0);
    }
}

/// Ends some of what is over; how many objects were written. What cannot be ended keeps nothing behind it from ending.
async fn end_some(desk: &Arc<Desk>) -> Result<usize, Fault> {
    let (now, steady) = (desk.clock.now(), desk.clock.monotonic());
    let (room, limit) = {
        let mut overdue = desk.overdue.lock();
        overdue.forget(steady);
        (overdue.room(), AT_ONCE.saturating_add(overdue.aside() as u64))
    };
    let due = desk.db.read("sweep_due", move |tx| Box::pin(object::due(tx, now.micros(), limit))).await;
    let (mut over, mut again): (BTreeMap<Over, Vec<String>>, _) = (BTreeMap::new(), None);
    for row in due.map_err(of_tx)? {
        let way = desk.overdue.lock().way(&row.id, steady);
        match (way, row.declaration()) {
            (Try::Later, _) => {}
            (_, Err(e)) => leave_aside(desk, &row.id, &of_tx(e)),
            (Try::Together, Ok(declaration)) => {
                over.entry(Over::of(&declaration, now)).or_default().push(row.id);
            }
            (Try::Alone, Ok(declaration)) => again = Some((Over::of(&declaration, now), row.id)),
        }
    }
    let (mut written, mut failed) = (0, None);
    for (what, mut ids) in over {
        // So that what is tried by itself is by itself.
        ids.truncate(room);
        let first = ids.first().cloned().unwrap_or_default();
        match end(desk, what, ids, room).await {
            Ok(count) => written += count,
            Err(fault) if fault.reason() == AUDIT_UNAVAILABLE.name => return Err(fault),
            Err(fault) => {
                if desk.overdue.lock().went_wrong(room, &first, steady) {
                    tracing::warn!(%fault, id = first, "what is over could not be ended, and is left aside for a while");
                }
                failed = Some(fault);
            }
        }
    }
    if failed.is_none() {
        desk.overdue.lock().went_well();
    }
    if let Some((what, id)) = again {
        match end(desk, what, vec![id.clone()], 1).await {
            Ok(count) => {
                written += count;
                desk.overdue.lock().take_back(&id);
            }
            Err(fault) if fault.reason() == AUDIT_UNAVAILABLE.name => return Err(fault),
            Err(fault) => leave_aside(desk, &id, &fault),
        }
    }
    desk.metrics.overdue_aside(desk.overdue.lock().aside());
    match failed {
        Some(fault) if written == 0 => Err(fault),
        Some(fault) => {
            tracing::warn!(%fault, "some of what is over could not be ended; it is tried again");
            Ok(written)
        }
        None => Ok(written),
    }
}

/// Leaves something aside for a while that cannot be ended.
fn leave_aside(desk: &Desk, id: &str, fault: &Fault) {
    tracing::warn!(%fault, id, "what is over could not be ended, and is left aside for a while");
    desk.overdue.lock().leave_aside(id, desk.clock.monotonic());
}

/// What is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Over {
    /// The time of an object.
    Time,
    /// The grace of an agent for which nobody who is here is accountable.
    Grace,
}

impl Over {
    fn of(declaration: &Declaration, now: Timestamp) -> Self {
        let Some(Object::Agent(agent)) = &declaration.object else { return Self::Time };
        let ends = agent.spec.as_ref().and_then(|spec| spec.expire_time);
        let is_over = ends.and_then(|at| Timestamp::try_from(at).ok()).is_some_and(|at| at <= now);
        if is_over { Self::Time } else { Self::Grace }
    }

    fn why(self) -> &'static str {
        match self {
            Self::Time => "its time is over",
            Self::Grace => "every sponsor of it has left, and the grace for naming another is over",
        }
    }
}

/// Ends what is over, in their order, as far as there is room for what is written; how many objects were.
async fn end(desk: &Arc<Desk>, what: Over, ids: Vec<String>, room: usize) -> Result<usize, Fault> {
    let (call, ids) = (Call::own(desk, what.why()), Arc::new(ids));
    let written: u64 = desk
        .write("sweep", Standard::Stopping, call, move |writing| {
            let ids = Arc::clone(&ids);
            Box::pin(async move {
                for id in ids.iter() {
                    if writing.written() >= room {
                        break;
                    }
                    let Some(row) = object::by_id(writing.tx, id).await? else { continue };
                    // Somebody may have given it more time, or ended it, since it was seen.
                    if row.ends_at.is_none_or(|at| at > writing.now.micros()) {
                        continue;
                    }
                    let current = row.declaration()?;
                    if Over::of(&current, writing.now) != what {
                        continue;
                    }
                    match (&current.object, what) {
                        // What it made stops with it, and nothing of that is written.
                        (Some(Object::Agent(_)), Over::Time) => {
                            Box::pin(transition::take(writing, current, Step::Transition(Transition::Expire))).await?;
                        }
                        (Some(Object::Agent(_)), Over::Grace) => {
                            Box::pin(transition::take(writing, current, Step::Transition(Transition::Suspend))).await?;
                        }
                        (Some(Object::Approval(_)), _) => {
                            Box::pin(decide_approval::end(writing, current, End::Over)).await?;
                        }
                        _ => {
                            writing.take_back(current, "forgotten").await?;
                        }
                    }
                }
                Ok(writing.written() as u64)
            })
        })
        .await?;
    Ok(usize::try_from(written).unwrap_or(usize::MAX))
}

async fn tidy(desk: &Arc<Desk>) -> Result<(), Fault> {
    let now = desk.clock.now();
    desk.db.tx("forget_requests", move |tx| Box::pin(request::forget(tx, now))).await.map_err(of_tx)?;
    let census = desk.db.read("census", |tx| Box::pin(object::census(tx))).await.map_err(of_tx)?;
    desk.metrics.agents(&census);
    let orphans = desk.db.read("orphans", |tx| Box::pin(object::orphans(tx))).await.map_err(of_tx)?;
    let open = desk.db.read("open_approvals", |tx| Box::pin(approval::census(tx))).await.map_err(of_tx)?;
    desk.metrics.approvals_open(open);
    let micros = now.micros();
    let open = desk.db.read("open_reviews", move |tx| Box::pin(review_item::census(tx, micros))).await;
    desk.metrics.review_items(open.map_err(of_tx)?);
    let unverified =
        desk.db.read("unverified_reviews", |tx| Box::pin(store::review::unverified(tx))).await.map_err(of_tx)?;
    desk.metrics.reviews_unverified(unverified);
    let orders = desk.db.read("stop_orders", |tx| Box::pin(object::in_force(tx, Kind::StopOrder, COUNTED))).await;
    let orders = orders.map_err(of_tx)?.iter().map(|row| row.declaration()).collect::<TxResult<Vec<_>, Fault>>();
    desk.metrics.stops(orders.map_err(of_tx)?.iter().filter(|order| standing::is_suspended(order)).count());
    let oldest = orphans.1.map(|at| now.since(Timestamp::from_micros(at)));
    desk.metrics.orphans(orphans.0, oldest.unwrap_or_default());
    let week = now.plus(WEEK).micros();
    let due = desk.db.read("lifecycle_due_soon", move |tx| Box::pin(store::lifecycle::due_until(tx, week)));
    desk.metrics.lifecycle_due(due.await.map_err(of_tx)?);
    alert_feed::forget(desk, now).await?;
    Ok(())
}
