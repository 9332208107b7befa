//! Every round that came to its end is looked at once, whoever closed it.

use std::sync::Arc;
use std::time::Duration;

use legate_authority::Reach;
use legate_rpc::Fault;
use legate_wire::registry::{ListReviewsRequest, Review};
use tokio::time::Instant;

use super::{LONGEST, Place, Which, page, unavailable};
use crate::flow::asker::Right;
use crate::flow::evaluate::Desk;

/// How often the registry is asked which rounds there are: that one came to its end is no revision of its own. After a failure twice as long
/// as before, up to the second.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];
/// Rounds that are listed at once.
const ROUNDS: u32 = 100;

/// Looks at rounds for as long as the process lives.
pub(crate) async fn forever(desk: Arc<Desk>) {
    let mut pause = PAUSES[0];
    loop {
        // The copies of the service do not all look at the same time.
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
        if desk.view.fresh(desk.view.bound()).is_err() {
            continue;
        }
        match look_at_all(&desk).await {
            Ok(()) => pause = PAUSES[0],
            Err(fault) => {
                tracing::warn!(%fault, "whether decisions are as was decided in a review is not known; it is looked at again");
                pause = (pause * 2).min(PAUSES[1]);
            }
        }
    }
}

/// Looks at every round of which something was not looked at. What fails of one keeps no other from being looked at.
pub(crate) async fn look_at_all(desk: &Arc<Desk>) -> Result<(), Fault> {
    let (mut failed, mut page_token) = (None, String::new());
    loop {
        let ask = ListReviewsRequest {
            unverified_only: true,
            page_size: ROUNDS,
            page_token,
            ..ListReviewsRequest::default()
        };
        let told = desk.reviews.reviews(ask).await.map_err(|status| unavailable(&status))?;
        for review in &told.reviews {
            if let Err(fault) = look_at(desk, review).await {
                failed = Some(fault);
            }
        }
        page_token = told.next_page_token;
        if page_token.is_empty() {
            return failed.map_or(Ok(()), Err);
        }
    }
}

async fn look_at(desk: &Arc<Desk>, review: &Review) -> Result<(), Fault> {
    let right = Right::Operator(Reach::Everywhere);
    let mut from = Some(Place::default());
    while let Some(place) = from {
        let began = Instant::now();
        let seen = page(desk, &right, review, &place, Instant::now() + LONGEST, Which::New).await?;
        for note in &seen.notes {
            tracing::info!(review = review.id, note, "an access review");
        }
        for item in &seen.items {
            desk.metrics.review_item_checked(item.verified);
            if !item.verified {
                let (item, difference) = (&item.item_id, &item.difference);
                tracing::warn!(review = review.id, item, difference, "it is not as was decided in an access review");
            }
        }
        from = seen.next;
        if from.is_some() {
            // Whoever else asks the registry of its past is not kept waiting.
            tokio::time::sleep(began.elapsed()).await;
        }
    }
    Ok(())
}
