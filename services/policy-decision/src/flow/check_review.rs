//! Whether decisions are as was decided in a round of access reviews, agent by agent; what is found is recorded on the items.
//!
//! An operator may ask for it at any time, a page at a time; once after each round it is looked at without being asked.

mod forever;
mod hold;

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{Name, ReviewId};
use legate_rpc::Fault;
use legate_wire::registry as wire;
use tokio::time::Instant;
use tonic::Status;
use wire::{Review, ReviewItem, ReviewState, VerifiedItem};

pub(crate) use forever::forever;
#[cfg(test)]
pub(crate) use forever::look_at_all;

use super::asker::{Asker, Right};
use super::asking::{AGAIN, seat, told};
use super::evaluate::Desk;
use super::record;
use crate::error::{REVIEW_NOT_CLOSED, REVIEW_UNKNOWN, REVIEWS_UNAVAILABLE};
use crate::store::archive::reason;
use hold::Look;

/// The longest that one page takes.
const LONGEST: Duration = Duration::from_secs(20);
/// Kept back for recording what was found.
const RECORDING: Duration = Duration::from_secs(3);
/// Items that are read at once, and of which so many are recorded at once.
const AT_ONCE: usize = 500;
/// Sentences of one page.
const NOTES: usize = 100;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct CheckReview {
    pub(crate) review: ReviewId,
    pub(crate) page_token: String,
}

/// One page, as it is recorded.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) items: Vec<VerifiedItem>,
    pub(crate) notes: Vec<String>,
    pub(crate) next_page_token: String,
    pub(crate) revision: u64,
}

/// Where a page begins: in this page of the registry, behind this agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    page_token: String,
    done: String,
}

impl Place {
    fn text(&self) -> String {
        format!("{} {}", self.page_token, self.done)
    }

    fn read(text: &str) -> Result<Self, Fault> {
        let (page_token, done) =
            text.split_once(' ').ok_or_else(|| Fault::broken("an authentic page token names no place"))?;
        Ok(Self { page_token: page_token.to_owned(), done: done.to_owned() })
    }
}

/// Looks at one page of a round for an operator.
///
/// # Errors
/// When the caller may not read there, the round is not CLOSED, the view is old, the registry does not tell, others ask already, or it
/// cannot be recorded.
#[tracing::instrument(skip_all, fields(legate.review = %ask.review))]
pub(crate) async fn check_review(desk: &Arc<Desk>, asker: &Asker, ask: CheckReview) -> Result<Checked, Fault> {
    let question = ["check_review", asker.spiffe_id.as_str(), ask.review.as_str()];
    let from = desk.pages.read(&question, &ask.page_token)?.map(|text| Place::read(&text)).transpose()?;
    let seat = seat(desk, asker, 0, LONGEST, |_| Ok(())).await?;
    let review = shown(desk, &seat.right, &ask.review).await?;
    let details = [("question", "check_review".to_owned()), ("review_id", review.id.clone())];
    let event = record::searched(asker, &review.namespace, seat.reading.snapshot.revision(), desk.clock.now(), details);
    told(desk, asker, event).await?;
    let until = seat.until.checked_sub(RECORDING).unwrap_or(seat.until);
    let page = page(desk, &seat.right, &review, &from.unwrap_or_default(), until, Which::All).await;
    drop(seat.turn);
    let Page { items, notes, next, revision } = page?;
    desk.metrics.asked("check_review");
    let next_page_token = next.map(|place| desk.pages.after(&question, &place.text())).unwrap_or_default();
    Ok(Checked { items, notes, next_page_token, revision })
}

/// The round, where it is CLOSED and the caller may see it.
async fn shown(desk: &Desk, right: &Right, id: &ReviewId) -> Result<Review, Fault> {
    let unknown = || Fault::refused(&REVIEW_UNKNOWN, format!("there is no review {id}"));
    let review = match desk.reviews.review(wire::GetReviewRequest { review_id: id.to_string() }).await {
        Ok(found) => found.review.unwrap_or_default(),
        Err(status) if reason(&status) == "REVIEW_NOT_FOUND" => return Err(unknown()),
        Err(status) => return Err(unavailable(&status)),
    };
    if !Name::parse(&review.namespace).is_ok_and(|name| right.shows(&name)) {
        return Err(unknown());
    }
    if review.state() != ReviewState::Closed {
        let state = review.state().as_str_name().trim_start_matches("REVIEW_STATE_");
        return Err(Fault::refused(&REVIEW_NOT_CLOSED, format!("the review {id} is {state}")).with("state", state));
    }
    Ok(review)
}

fn unavailable(status: &Status) -> Fault {
    Fault::unavailable(&REVIEWS_UNAVAILABLE, format!("the registry says: {}", status.message()), AGAIN)
}

/// At which items it is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    All,
    /// Of agents of whom not everything was looked at before.
    New,
}

/// One page, which is recorded, and where the next one begins.
struct Page {
    items: Vec<VerifiedItem>,
    notes: Vec<String>,
    next: Option<Place>,
    revision: u64,
}

/// Looks at the items of agents behind a place until the time is over, and records what it finds.
async fn page(
    desk: &Arc<Desk>,
    right: &Right,
    review: &Review,
    from: &Place,
    until: Instant,
    which: Which,
) -> Result<Page, Fault> {
    let mut look = Look::new(desk, right, review, until);
    let mut at = from.clone();
    // The items of one agent stand together, and may stand on two pages.
    let mut one: Vec<ReviewItem> = Vec::new();
    let next = 'pages: loop {
        let ask = wire::ListReviewItemsRequest {
            review_id: review.id.clone(),
            page_size: u32::try_from(AT_ONCE).unwrap_or(u32::MAX),
            page_token: at.page_token.clone(),
            ..wire::ListReviewItemsRequest::default()
        };
        let told = desk.reviews.items(ask).await.map_err(|status| unavailable(&status))?;
        let done = told.items.iter().rposition(|item| item.agent_id == at.done).map_or(0, |last| last + 1);
        // What was begun on the page before goes on here.
        let done = if one.is_empty() { done } else { 0 };
        for item in told.items.into_iter().skip(done) {
            if one.last().is_some_and(|last| last.agent_id != item.agent_id) {
                at.done = look.at_agent(std::mem::take(&mut one), which).await?;
                if look.found.len() + 1 >= AT_ONCE || Instant::now() >= until {
                    break 'pages Some(at);
                }
            }
            one.push(item);
        }
        if told.next_page_token.is_empty() {
            if !one.is_empty() {
                look.at_agent(one, which).await?;
            }
            break None;
        }
        at.page_token = told.next_page_token;
    };
    let Look { found, mut notes, revision, .. } = look;
    for some in found.chunks(AT_ONCE) {
        let ask = wire::RecordReviewVerificationRequest {
            review_id: review.id.clone(),
            items: some.to_vec(),
            request_id: String::new(),
        };
        desk.reviews.record(ask).await.map_err(|status| unavailable(&status))?;
    }
    if notes.len() > NOTES {
        let more = notes.len() - NOTES + 1;
        notes.truncate(NOTES - 1);
        notes.push(format!("and {more} more of the kind"));
    }
    Ok(Page { items: found, notes, next, revision })
}

/// When a round ended.
fn end(review: &Review) -> Option<Timestamp> {
    review.end_time.and_then(|at| Timestamp::try_from(at).ok())
}
