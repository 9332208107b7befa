//! An operator sees rounds and their items.

use std::collections::BTreeSet;
use std::sync::Arc;

use legate_authority::{Reach, Right};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::{AgentId, Name, ReviewId};
use legate_rpc::Fault;
use legate_wire::registry::{
    GetReviewResponse, ListReviewItemsRequest, ListReviewItemsResponse, ListReviewsRequest, ListReviewsResponse,
    Review, ReviewDecision, ReviewItem, ReviewProgress, ReviewState,
};

use super::decide::{may_decide, own_name};
use super::{compare, evidence, find, review_id};
use crate::domain::review as domain;
use crate::domain::review::evidence::{RANGE, USUAL};
use crate::flow::list::page_size;
use crate::flow::{By, Desk};
use crate::store::review::{self, Model};
use crate::store::review_item;

/// A round as it is told; what nobody decided about is revoked once it is closed.
pub(super) fn told(row: &Model, progress: Option<ReviewProgress>, now: Timestamp) -> TxResult<Review, Fault> {
    let mut review = row.review()?;
    let mut progress = progress.unwrap_or_default();
    review.is_overdue = progress.pending > 0 && domain::is_late(&review, now);
    if matches!(row.state(), ReviewState::Closing | ReviewState::Closed) {
        progress.revoked += std::mem::take(&mut progress.pending);
    }
    review.progress = Some(progress);
    Ok(review)
}

/// One round, with where its items stand.
pub(super) async fn one(tx: &Tx, row: &Model, now: Timestamp) -> TxResult<Review, Fault> {
    let mut progress = review_item::progress(tx, vec![row.id.clone()]).await?;
    told(row, progress.remove(&row.id), now)
}

/// One page of rounds, the latest first.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(desk: &Arc<Desk>, by: &By, ask: ListReviewsRequest) -> Result<ListReviewsResponse, Fault> {
    for (field, name) in [("namespace", &ask.namespace), ("campaign", &ask.campaign)] {
        if !name.is_empty() {
            Name::parse(name).map_err(|e| Fault::invalid(field, e.to_string()))?;
        }
    }
    let size = page_size(ask.page_size)?;
    let which = match (ask.open_only, ask.unverified_only) {
        (false, false) => "",
        (true, false) => "open",
        (false, true) => "unverified",
        (true, true) => {
            return Err(Fault::invalid("unverified_only", "means rounds that are CLOSED; leave open_only out"));
        }
    };
    let question = ["reviews", by.actor.as_str(), &ask.namespace, &ask.campaign, which];
    let before = desk.pages.read(&question, &ask.page_token)?;
    let now = desk.clock.now();
    let mut which = review::Which {
        namespace: ask.namespace.clone(),
        campaign: ask.campaign.clone(),
        open_only: ask.open_only,
        unverified_only: ask.unverified_only,
        sees: Reach::In(BTreeSet::new()),
    };
    let read = desk.look("list_reviews", by, move |look| {
        Box::pin(async move {
            which.sees = look.mandate.sees();
            let mut rows = review::page(look.tx, &which, before.as_deref(), size as u64 + 1).await?;
            let is_more = rows.len() > size;
            rows.truncate(size);
            let ids = rows.iter().map(|row| row.id.clone()).collect();
            let mut progress = review_item::progress(look.tx, ids).await?;
            let mut reviews = Vec::with_capacity(rows.len());
            for row in &rows {
                reviews.push(told(row, progress.remove(&row.id), now)?);
            }
            Ok((reviews, is_more, look.revision))
        })
    });
    let (reviews, is_more, revision) = read.await?;
    let next = reviews.last().filter(|_| is_more).map(|last| desk.pages.after(&question, &last.id));
    Ok(ListReviewsResponse { reviews, next_page_token: next.unwrap_or_default(), revision })
}

/// One round.
#[tracing::instrument(skip_all)]
pub(crate) async fn get(desk: &Arc<Desk>, by: &By, id: ReviewId) -> Result<GetReviewResponse, Fault> {
    let now = desk.clock.now();
    desk.look("get_review", by, move |look| {
        Box::pin(async move {
            let row = find(look.tx, &look.mandate, &id).await?;
            Ok(GetReviewResponse { review: Some(one(look.tx, &row, now).await?), revision: look.revision })
        })
    })
    .await
}

/// One page of the items of a round.
#[tracing::instrument(skip_all)]
pub(crate) async fn items(
    desk: &Arc<Desk>,
    by: &By,
    ask: ListReviewItemsRequest,
) -> Result<ListReviewItemsResponse, Fault> {
    let id = review_id(&ask.review_id)?;
    if !ask.agent_id.is_empty() {
        AgentId::parse(&ask.agent_id).map_err(|e| Fault::invalid("agent_id", e.to_string()))?;
    }
    let decisions = decisions(&ask.decisions)?;
    let size = page_size(ask.page_size)?;
    let days = match ask.evidence_days {
        0 => USUAL,
        days if RANGE.contains(&days) => days,
        _ => return Err(Fault::invalid("evidence_days", "7 to 400 days; 0 means 90")),
    };
    let words = decisions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let own = if ask.own_only { "own" } else { "" };
    let question = ["review-items", by.actor.as_str(), &ask.review_id, &words, &ask.agent_id, own];
    let after = desk.pages.read(&question, &ask.page_token)?;
    let after = after.and_then(|place| place.parse::<i64>().ok()).unwrap_or_default();
    let which = review_item::Which { review_id: id.to_string(), decisions, agent_id: ask.agent_id.clone() };
    let own_only = ask.own_only;
    let read = desk.look("list_review_items", by, move |look| {
        Box::pin(async move {
            let round = find(look.tx, &look.mandate, &id).await?;
            let review = round.review()?;
            let spec = review.spec.clone().unwrap_or_default();
            let mut rows = review_item::page(look.tx, &which, after, size as u64 + 1).await?;
            let is_more = rows.len() > size;
            rows.truncate(size);
            let last = rows.last().map(|row| row.place).filter(|_| is_more);
            let mut items = rows.iter().map(review_item::Model::item).collect::<TxResult<Vec<ReviewItem>, Fault>>()?;
            if own_only {
                let own = own_name(look.by).map(Name::as_str).unwrap_or_default();
                let may = look.mandate.may(Right::Approve, legate_authority::Place::of(&round.namespace));
                items.retain(|item| may && may_decide(&review, &spec, item, own));
            }
            if round.state() == ReviewState::Open {
                compare::compare(look.tx, &mut items).await?;
                evidence::fill(look.tx, look.desk, &mut items, days).await?;
            }
            items.iter_mut().for_each(|item| item.explain = domain::explain(item));
            Ok((items, last, look.revision))
        })
    });
    let (items, last, revision) = read.await?;
    let next = last.map(|place| desk.pages.after(&question, &place.to_string()));
    Ok(ListReviewItemsResponse { items, next_page_token: next.unwrap_or_default(), revision })
}

fn decisions(asked: &[i32]) -> Result<BTreeSet<i32>, Fault> {
    let mut known = BTreeSet::new();
    for number in asked {
        match ReviewDecision::try_from(*number) {
            Ok(decision) if decision != ReviewDecision::Reassign => drop(known.insert(*number)),
            _ => return Err(Fault::invalid("decisions", format!("{number} is nothing that is decided"))),
        }
    }
    Ok(known)
}
