//! What rests in the database, a file for each table.

pub(crate) mod alert_feed;
pub(crate) mod approval;
pub(crate) mod approved;
pub(crate) mod change;
pub(crate) mod condition;
pub(crate) mod declarer;
pub(crate) mod departure;
pub(crate) mod found;
pub(crate) mod head;
pub(crate) mod lifecycle;
pub(crate) mod listed;
pub(crate) mod object;
pub(crate) mod reference;
pub(crate) mod request;
pub(crate) mod review;
pub(crate) mod review_item;
pub(crate) mod revision;
pub(crate) mod search;
pub(crate) mod term;
pub(crate) mod usage;
pub(crate) mod way;

pub(crate) use legate_db::rows::pieces;

use legate_db::TxError;
use legate_rpc::Fault;

/// A number of the wire as the database keeps it.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A number of the database, which never holds a negative one.
pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// A refusal out of a transaction.
pub(crate) fn refuse(fault: Fault) -> TxError<Fault> {
    TxError::Flow(fault)
}

/// What rests cannot be read: a defect.
pub(crate) fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TxError<Fault> {
    TxError::Flow(Fault::broken(error))
}
