//! Access reviews: rounds that start, are decided, closed and written, each a journey of its own.

mod close;
mod compare;
mod decide;
mod evidence;
mod freeze;
mod givers;
mod go_on;
mod seen;
mod start;
mod verify;
mod write;

use legate_authority::{Place, Right};
use legate_db::{Tx, TxResult};
use legate_ids::{ReviewId, ReviewItemId};
use legate_rpc::{Fault, Mandate};

use crate::error::{ETAG_MISMATCH, REVIEW_ITEM_NOT_FOUND, REVIEW_NOT_FOUND, REVIEW_NOT_OPEN};
use crate::store::refuse;
use crate::store::review::{self, Model};

pub(crate) use close::close;
pub(crate) use decide::decide;
pub(in crate::flow) use freeze::things;
pub(crate) use go_on::go_on;
pub(crate) use seen::{get, items, list};
pub(crate) use start::start;
pub(crate) use verify::verify;

/// Reads the id of a round.
pub(crate) fn review_id(text: &str) -> Result<ReviewId, Fault> {
    ReviewId::parse(text).map_err(|e| Fault::invalid("review_id", e.to_string()))
}

/// Reads the id of an item.
fn item_id(field: String, text: &str) -> Result<ReviewItemId, Fault> {
    ReviewItemId::parse(text).map_err(|e| Fault::invalid(field, e.to_string()))
}

/// The round; one that the caller may not see is not there.
async fn find(tx: &Tx, mandate: &Mandate, id: &ReviewId) -> TxResult<Model, Fault> {
    let row = review::by_id(tx, id.as_str()).await?;
    let row = row.filter(|row| mandate.may(Right::Read, Place::of(&row.namespace)));
    row.ok_or_else(|| refuse(Fault::refused(&REVIEW_NOT_FOUND, format!("there is no review {id}"))))
}

fn item_not_found(review: &Model, id: &str) -> Fault {
    Fault::refused(&REVIEW_ITEM_NOT_FOUND, format!("the review {} has no item {id}", review.id))
}

/// Refuses where a round or an item was written since the etag was read. An empty one asks for no such check.
fn check_etag(what: &str, now: &str, read: &str) -> Result<(), Fault> {
    if read.is_empty() || read == now {
        return Ok(());
    }
    Err(Fault::refused(&ETAG_MISMATCH, format!("the etag of {what} is {now} now, and {read} was read"))
        .with("etag", now))
}

/// A round that is not in the state that a step needs.
fn not_in_state(review: &Model, wanted: &str) -> Fault {
    let state = review.state().as_str_name().trim_start_matches("REVIEW_STATE_");
    let text = format!("the review {} is {state}, and that takes one that is {wanted}", review.id);
    Fault::refused(&REVIEW_NOT_OPEN, text).with("state", state)
}
