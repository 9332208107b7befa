//! A round closes: what nobody decided about is revoked, and what was decided is written by the sweep, some at a time.

use std::sync::Arc;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::TxResult;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::{CloseReviewRequest, CloseReviewResponse, Review, ReviewProgress, ReviewState};

use super::write::TOLD;
use super::{check_etag, compare, find, not_in_state, review_id, seen, write};
use crate::convert;
use crate::domain::check;
use crate::error::{REVIEW_ITEM_CHANGED, REVIEW_UNDECIDED, SOLE_REVIEWER};
use crate::flow::write::Writing;
use crate::flow::{Call, Desk};
use crate::store::review::{self, Model};
use crate::store::{refuse, review_item};

/// Closes a round, or says what that would change.
#[tracing::instrument(skip_all)]
pub(crate) async fn close(desk: &Arc<Desk>, call: Call, ask: CloseReviewRequest) -> Result<CloseReviewResponse, Fault> {
    let id = review_id(&ask.review_id)?;
    if ask.validate_only {
        let now = desk.clock.now();
        return desk
            .look("close_review", &call.by, move |look| {
                Box::pin(async move {
                    let round = find(look.tx, &look.mandate, &id).await?;
                    look.mandate.demand(Right::Approve, Place::of(&round.namespace)).map_err(refuse)?;
                    check_open(&round, &ask.etag).map_err(refuse)?;
                    let told = write::preview(look.tx, &round, now, &look.by.actor).await?;
                    let outgrown = compare::outgrown(look.tx, &round.id, TOLD + 1).await?;
                    let review = Some(seen::one(look.tx, &round, now).await?);
                    let is_cut = told.is_cut || outgrown.len() > TOLD;
                    Ok(CloseReviewResponse {
                        review,
                        changes: told.changes,
                        suspended: told.suspended,
                        is_cut,
                        revision: look.revision,
                        outgrown: outgrown.into_iter().take(TOLD).collect(),
                    })
                })
            })
            .await;
    }
    crate::flow::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new((id, ask.etag));
    desk.write("close_review", Standard::Stopping, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (id, etag) = &*ask;
            let round = find(writing.tx, &writing.mandate, id).await?;
            writing.demand(Right::Approve, Place::of(&round.namespace)).map_err(refuse)?;
            check_open(&round, etag).map_err(refuse)?;
            if writing.now < Timestamp::from_micros(round.closes_at) {
                check_early(writing, &round).await?;
            }
            let review = Some(shut(writing, round).await?);
            Ok(CloseReviewResponse { review, revision: writing.revision(), ..CloseReviewResponse::default() })
        })
    })
    .await
}

fn check_open(round: &Model, etag: &str) -> Result<(), Fault> {
    if round.state() != ReviewState::Open {
        return Err(not_in_state(round, "OPEN"));
    }
    check_etag(&format!("the review {}", round.id), &round.etag(), etag)
}

/// Before its time a round closes only where everything is decided as it is now, and not by whoever closes it alone: what nobody else
/// looked at is not to be in force before those who were asked had their time.
async fn check_early(writing: &Writing<'_>, round: &Model) -> TxResult<(), Fault> {
    let progress = progress(writing, &round.id).await?;
    let at = Timestamp::from_micros(round.closes_at);
    if progress.pending > 0 {
        let text =
            format!("nobody has decided about {} items, and the round closes by itself at {at}", progress.pending);
        return Err(refuse(Fault::refused(&REVIEW_UNDECIDED, text).with("pending", progress.pending.to_string())));
    }
    if let Some(item) = compare::outgrown(writing.tx, &round.id, 1).await?.pop() {
        let text =
            format!("the item {item} was certified and has become more since; the round closes by itself at {at}");
        return Err(refuse(Fault::refused(&REVIEW_ITEM_CHANGED, text).with("item", item)));
    }
    let actor = &writing.by.actor;
    if progress.items > 0 && !review_item::is_decided_by_another(writing.tx, &round.id, actor).await? {
        let text = format!("{actor} alone decided about every item, and the round closes by itself at {at}");
        return Err(refuse(Fault::refused(&SOLE_REVIEWER, text)));
    }
    Ok(())
}

async fn progress(writing: &Writing<'_>, id: &str) -> TxResult<ReviewProgress, Fault> {
    Ok(review_item::progress(writing.tx, vec![id.to_owned()]).await?.remove(id).unwrap_or_default())
}

/// Closes it: from now on nothing is decided any more.
pub(super) async fn shut(writing: &mut Writing<'_>, mut round: Model) -> TxResult<Review, Fault> {
    let mut body = round.review()?;
    let progress = progress(writing, &round.id).await?;
    round.state = ReviewState::Closing.into();
    body.state = round.state;
    body.close_time = Some(writing.now.into());
    body.closed_by.clone_from(&writing.by.actor);
    body.close_reason.clone_from(&writing.by.reason);
    review::update(writing.tx, &mut round, &body).await?;
    let said = vec![
        ("items", progress.items.to_string()),
        ("certified", progress.certified.to_string()),
        ("reduced", progress.reduced.to_string()),
        ("revoked", progress.revoked.to_string()),
        ("revoked_by_silence", progress.pending.to_string()),
    ];
    writing.record(convert::review_event(writing.by, "closed", &body, said, writing.now));
    seen::one(writing.tx, &round, writing.now).await
}
