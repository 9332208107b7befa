//! What the clock does to reviews, some at a time: rounds start, their items are made, they are escalated and closed, and what was
//! decided is written.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_db::TxResult;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind, Review, ReviewState};

use super::write::How;
use super::{close, freeze, start, write};
use crate::convert;
use crate::domain::review as domain;
use crate::error::of_tx;
use crate::flow::write::Writing;
use crate::flow::{Call, Desk};
use crate::store::object;
use crate::store::review::{self, Model};

/// Campaigns and rounds that are looked at in one transaction.
const AT_ONCE: u64 = 200;
/// Comes after every id.
const AFTER_IDS: &str = "~";
/// The longest reason of a write.
const LONGEST: usize = 1_024;

/// Goes one step on with everything that is due; how many steps. `None`: nothing is due. Whoever dies in between goes on where the
/// last commit was. What fails of one round keeps no other from going on.
pub(crate) async fn go_on(desk: &Arc<Desk>) -> Result<Option<u64>, Fault> {
    let now = desk.clock.now();
    let (mut steps, mut failed) = (0, None);
    let mut note = |stepped: Result<(), Fault>| match stepped {
        Ok(()) => steps += 1,
        Err(fault) => {
            tracing::warn!(%fault, "a review could not go on; it is tried again");
            failed = Some(fault);
        }
    };
    for campaign in due(desk, now).await? {
        note(begin(desk, campaign).await);
    }
    let mut after = String::new();
    loop {
        let last = after.clone();
        let rows = desk.db.read("reviews_under_way", move |tx| {
            let after = last.clone();
            Box::pin(async move { review::under_way(tx, &after, AT_ONCE).await })
        });
        let rows = rows.await.map_err(of_tx)?;
        let Some(last) = rows.last() else { break };
        after.clone_from(&last.id);
        for row in rows {
            if let Some(step) = Step::of(&row, now).map_err(of_tx)? {
                note(step_on(desk, row, step).await);
            }
        }
    }
    match failed {
        Some(fault) => Err(fault),
        None => Ok((steps > 0).then_some(steps)),
    }
}

/// What is due in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Freeze,
    Escalate,
    Close,
    Write,
}

impl Step {
    fn of(row: &Model, now: Timestamp) -> TxResult<Option<Self>, Fault> {
        Ok(match row.state() {
            ReviewState::Freezing => Some(Self::Freeze),
            ReviewState::Closing => Some(Self::Write),
            ReviewState::Open if Timestamp::from_micros(row.closes_at) <= now => Some(Self::Close),
            ReviewState::Open if Timestamp::from_micros(row.due_at) <= now => {
                let review = row.review()?;
                let is_due = review.escalate_time.is_none() && review.spec.as_ref().is_some_and(domain::escalates);
                is_due.then_some(Self::Escalate)
            }
            ReviewState::Open | ReviewState::Closed | ReviewState::Unspecified => None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Freeze => "freeze_review",
            Self::Escalate => "escalate_review",
            Self::Close => "close_review_by_clock",
            Self::Write => "write_review",
        }
    }

    /// What takes away may use the outbox's reserve.
    fn standard(self) -> Standard {
        match self {
            Self::Close | Self::Write => Standard::Stopping,
            Self::Freeze | Self::Escalate => Standard::Ordinary,
        }
    }

    fn why(self, review: &Review) -> String {
        let which = format!("review {} of {}/{}", review.id, review.namespace, review.campaign);
        let mut why = match self {
            Self::Freeze => which,
            Self::Escalate => format!("{which} is due"),
            Self::Close => format!("the grace of {which} is over"),
            Self::Write => format!("{which}, closed by {}: {}", review.closed_by, review.close_reason),
        };
        why.truncate(why.floor_char_boundary(LONGEST));
        why
    }
}

async fn step_on(desk: &Arc<Desk>, row: Model, step: Step) -> Result<(), Fault> {
    let review = row.review().map_err(of_tx)?;
    let call = Call::own(desk, &step.why(&review));
    let mut how = How::Together;
    loop {
        let (id, tried) = (Arc::new(row.id.clone()), Arc::new(how.clone()));
        let done = desk.write(step.name(), step.standard(), call.clone(), move |writing| {
            let (id, how) = (Arc::clone(&id), Arc::clone(&tried));
            Box::pin(async move { Box::pin(take(writing, &id, step, &how)).await })
        });
        // What is refused together is tried alone, and what is refused alone is told as failed; of anything else it is tried again.
        how = match (done.await, how) {
            (Err(Fault::Refused(_)), How::Together) if step == Step::Write => How::Alone,
            (Err(fault @ Fault::Refused(_)), How::Alone) if step == Step::Write => {
                How::Failed(format!("{}: {fault}", fault.reason()))
            }
            (done, _) => return done,
        };
    }
}

async fn take(writing: &mut Writing<'_>, id: &str, step: Step, how: &How) -> TxResult<(), Fault> {
    // Somebody may have closed it since it was seen, or its namespace may be gone.
    let Some(mut row) = review::by_id(writing.tx, id).await? else { return Ok(()) };
    if Step::of(&row, writing.now)? != Some(step) {
        return Ok(());
    }
    match step {
        Step::Freeze => freeze::some(writing, row).await,
        Step::Close => close::shut(writing, row).await.map(drop),
        Step::Write => write::some(writing, row, how).await,
        Step::Escalate => {
            let mut body = row.review()?;
            body.escalate_time = Some(writing.now.into());
            let to = body.spec.as_ref().map(domain::escalation).unwrap_or_default();
            let said = vec![("escalated_to", to.into_iter().collect::<Vec<_>>().join(" "))];
            writing.record(convert::review_event(writing.by, "escalated", &body, said, writing.now));
            review::update(writing.tx, &mut row, &body).await
        }
    }
}

/// A campaign, and the moment for which a round of it is due.
type Due = (Declaration, Timestamp);

/// The campaigns of which a round is due to start.
async fn due(desk: &Arc<Desk>, now: Timestamp) -> Result<Vec<Due>, Fault> {
    let (mut found, mut after) = (Vec::new(), [String::new(), String::new()]);
    loop {
        let place = after.clone();
        let some = desk.db.read("campaigns_due", move |tx| {
            let [namespace, name] = place.clone();
            Box::pin(async move {
                let rows = object::after(tx, Kind::ReviewCampaign, "", [&namespace, &name, AFTER_IDS], AT_ONCE).await?;
                let last = rows.last().map(|row| [row.namespace.clone(), row.name.clone()]);
                let mut found = Vec::new();
                for row in rows {
                    let campaign = row.declaration()?;
                    // Nearly always there is nothing to do, and what was before is not asked for.
                    if slot(&campaign, None, now).is_none() {
                        continue;
                    }
                    let last = review::last_slot(tx, &row.id).await?;
                    let Some(slot) = slot(&campaign, last, now) else { continue };
                    let latest = review::latest(tx, &row.id).await?;
                    if latest.is_none_or(|latest| latest.state() == ReviewState::Closed) {
                        found.push((campaign, slot));
                    }
                }
                Ok((found, last))
            })
        });
        let (some, last) = some.await.map_err(of_tx)?;
        found.extend(some);
        match last {
            Some(last) => after = last,
            None => return Ok(found),
        }
    }
}

fn slot(campaign: &Declaration, last: Option<i64>, now: Timestamp) -> Option<Timestamp> {
    let Some(Object::ReviewCampaign(of)) = &campaign.object else { return None };
    let declared = of.metadata.as_ref().and_then(|m| m.create_time).and_then(|at| Timestamp::try_from(at).ok());
    domain::due_slot(of.spec.as_ref()?, declared.unwrap_or(now), last, now)
}

async fn begin(desk: &Arc<Desk>, (campaign, due): Due) -> Result<(), Fault> {
    let call = Call::own(desk, "a round of the campaign is due");
    let id = Arc::new(campaign.metadata().map(|m| m.id.clone()).unwrap_or_default());
    desk.write("start_review_by_clock", Standard::Ordinary, call, move |writing| {
        let id = Arc::clone(&id);
        Box::pin(async move {
            // Somebody may have changed it, taken it back, or started a round, since it was seen.
            let row = object::by_id(writing.tx, &id).await?.filter(|row| row.holds_name);
            let Some(row) = row else { return Ok(()) };
            let campaign = row.declaration()?;
            let last = review::last_slot(writing.tx, &id).await?;
            if slot(&campaign, last, writing.now) != Some(due) {
                return Ok(());
            }
            start::begin(writing, &campaign, Some(due)).await.map(drop)
        })
    })
    .await
}
