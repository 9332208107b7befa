//! What rests in the database, a file for each table.

pub(crate) mod approval;
pub(crate) mod change;
pub(crate) mod condition;
pub(crate) mod declarer;
pub(crate) mod departure;
pub(crate) mod found;
pub(crate) mod head;
pub(crate) mod listed;
pub(crate) mod object;
pub(crate) mod reference;
pub(crate) mod request;
pub(crate) mod revision;
pub(crate) mod search;
pub(crate) mod term;
pub(crate) mod way;

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

/// Rows that one statement writes or looks for: enough that the way to the database is short, few enough that every
/// database takes their values, and always the same number, so that the statement is prepared once.
const AT_ONCE: usize = 128;

/// Many rows, in pieces of which each fits into one statement.
pub(crate) fn pieces<T>(rows: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut rest = rows.into_iter();
    std::iter::from_fn(move || {
        let some: Vec<T> = rest.by_ref().take(AT_ONCE).collect();
        (!some.is_empty()).then_some(some)
    })
}

/// A refusal out of a transaction.
pub(crate) fn refuse(fault: Fault) -> TxError<Fault> {
    TxError::Flow(fault)
}

/// What rests cannot be read: a defect.
pub(crate) fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TxError<Fault> {
    TxError::Flow(Fault::broken(error))
}
