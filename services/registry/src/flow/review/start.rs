//! A round of a campaign starts, since somebody wants it to or the clock says so.

use std::sync::Arc;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::TxResult;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind, Review, ReviewState, StartReviewRequest, StartReviewResponse};

use crate::convert;
use crate::domain::{check, review as domain};
use crate::error::REVIEW_UNDER_WAY;
use crate::flow::update::not_found;
use crate::flow::write::Writing;
use crate::flow::{Call, Desk, revoke};
use crate::store::review::{self, Model};
use crate::store::{broken, object, refuse, unsigned};

/// Starts one now. Its items are made by the sweep, some at a time.
#[tracing::instrument(skip_all)]
pub(crate) async fn start(desk: &Arc<Desk>, call: Call, ask: StartReviewRequest) -> Result<StartReviewResponse, Fault> {
    crate::flow::refusal(check::check_reason(&call.by.reason, true))?;
    let key = Arc::new(revoke::key(Kind::ReviewCampaign.into(), &ask.namespace, &ask.campaign)?);
    desk.write("start_review", Standard::Ordinary, call, move |writing| {
        let key = Arc::clone(&key);
        Box::pin(async move {
            writing.demand(Right::Write, Place::of(&key.namespace)).map_err(refuse)?;
            let row = object::by_key(writing.tx, &key).await?.ok_or_else(|| refuse(not_found(&key)))?;
            let review = begin(writing, &row.declaration()?, None).await?;
            Ok(StartReviewResponse { review: Some(review), revision: writing.revision() })
        })
    })
    .await
}

/// Begins a round of a campaign; `slot` is the moment for which it was due by the clock.
pub(super) async fn begin(
    writing: &mut Writing<'_>,
    campaign: &Declaration,
    slot: Option<Timestamp>,
) -> TxResult<Review, Fault> {
    let (Some(Object::ReviewCampaign(of)), Some(metadata)) = (&campaign.object, campaign.metadata()) else {
        return Err(broken("a campaign's row holds no campaign"));
    };
    let spec = of.spec.clone().unwrap_or_default();
    let latest = review::latest(writing.tx, &metadata.id).await?;
    if let Some(latest) = &latest
        && latest.state() != ReviewState::Closed
    {
        let text = format!("round {} of the campaign, {}, is not closed", latest.number, latest.id);
        return Err(refuse(Fault::refused(&REVIEW_UNDER_WAY, text).with("review", &latest.id)));
    }
    let number = latest.map_or(0, |latest| latest.number) + 1;
    let (due, closes) = domain::ends(&spec, writing.now);
    let review = Review {
        id: writing.desk.review_id().map_err(refuse)?.to_string(),
        namespace: metadata.namespace.clone(),
        campaign: metadata.name.clone(),
        campaign_id: metadata.id.clone(),
        number: unsigned(number),
        state: ReviewState::Freezing.into(),
        spec: Some(spec),
        start_time: Some(writing.now.into()),
        due_time: Some(due.into()),
        grace_end_time: Some(closes.into()),
        started_by: writing.by.actor.clone(),
        start_reason: writing.by.reason.clone(),
        ..Review::default()
    };
    let row = Model {
        id: review.id.clone(),
        campaign_id: review.campaign_id.clone(),
        campaign: review.campaign.clone(),
        namespace: review.namespace.clone(),
        number,
        state: review.state,
        slot_at: slot.map(Timestamp::micros),
        due_at: due.micros(),
        closes_at: closes.micros(),
        at_name: String::new(),
        made: 0,
        unverified: false,
        version: 1,
        body: prost::Message::encode_to_vec(&review),
    };
    let told = Review { etag: row.etag(), ..review };
    review::insert(writing.tx, row).await?;
    writing.record(convert::review_event(writing.by, "started", &told, Vec::new(), writing.now));
    Ok(told)
}
