//! policy-decision records after a round whether it does as was decided: the registry asks nobody above it.

use std::sync::Arc;

use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::{
    RecordReviewVerificationRequest, RecordReviewVerificationResponse, ReviewState, ReviewVerification,
};

use super::{find, item_id, item_not_found, not_in_state, review_id, seen};
use crate::convert;
use crate::domain::check;
use crate::flow::{Call, Desk};
use crate::store::{refuse, review as rounds, review_item};

/// Items of one request.
const MOST: usize = 500;

/// Records it.
#[tracing::instrument(skip_all, fields(legate.items = ask.items.len()))]
pub(crate) async fn verify(
    desk: &Arc<Desk>,
    call: Call,
    ask: RecordReviewVerificationRequest,
) -> Result<RecordReviewVerificationResponse, Fault> {
    let id = review_id(&ask.review_id)?;
    crate::flow::refusal(check::check_verified_items(&ask.items, MOST))?;
    for (n, one) in ask.items.iter().enumerate() {
        item_id(format!("items[{n}].item_id"), &one.item_id)?;
    }
    let ask = Arc::new((id, ask.items));
    desk.write("record_review_verification", Standard::Ordinary, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (id, found) = &*ask;
            let mut round = find(writing.tx, &writing.mandate, id).await?;
            if round.state() != ReviewState::Closed {
                return Err(refuse(not_in_state(&round, "CLOSED")));
            }
            let ids = found.iter().map(|one| one.item_id.clone()).collect();
            let mut rows = review_item::by_ids(writing.tx, &round.id, ids).await?;
            let (mut written, mut differing) = (Vec::with_capacity(found.len()), Vec::new());
            for (n, one) in found.iter().enumerate() {
                let row = rows.remove(&one.item_id);
                let mut row = row.ok_or_else(|| refuse(item_not_found(&round, &one.item_id)))?;
                let mut item = row.item()?;
                let changed = item.remediation.as_ref().map_or(0, |of| of.revision);
                // Whoever looked at what was before has not seen what came of it; nobody looked at what is yet to be.
                if one.revision < changed || one.revision > writing.base() {
                    let why = format!("is {}; give {changed} to {}", one.revision, writing.base());
                    return Err(refuse(Fault::invalid(format!("items[{n}].revision"), why)));
                }
                item.verification = Some(ReviewVerification {
                    verified: one.verified,
                    difference: one.difference.clone(),
                    revision: one.revision,
                    verified_by: writing.by.actor.clone(),
                    time: Some(writing.now.into()),
                });
                if !one.verified {
                    differing.push(item.id.clone());
                }
                row.take(&item);
                written.push(row);
            }
            let said = vec![
                ("items", written.len().to_string()),
                ("differing", differing.len().to_string()),
                ("differing_items", differing.into_iter().take(100).collect::<Vec<_>>().join(" ")),
            ];
            review_item::update(writing.tx, written).await?;
            let was = round.unverified;
            round.unverified = review_item::is_any_unverified(writing.tx, &round.id).await?;
            if was != round.unverified {
                let body = round.review()?;
                rounds::update(writing.tx, &mut round, &body).await?;
            }
            let review = seen::one(writing.tx, &round, writing.now).await?;
            writing.record(convert::review_event(writing.by, "verified", &review, said, writing.now));
            Ok(RecordReviewVerificationResponse { review: Some(review), revision: writing.revision() })
        })
    })
    .await
}
