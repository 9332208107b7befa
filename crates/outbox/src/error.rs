//! Why an event is not recorded, and the reason a caller is told.

use std::time::Duration;

use legate_db::TxError;
use legate_rpc::{Fault, Reason};
use sea_orm::DbErr;

/// The audit path takes no more; what cannot be recorded is not done.
pub static AUDIT_UNAVAILABLE: Reason = Reason {
    name: "AUDIT_UNAVAILABLE",
    code: tonic::Code::Unavailable,
    meaning: "The audit trail cannot take the record of this call, so the call was not carried out.",
    cure: "Try again later; operators: see that audit-collector runs and is reached (legate doctor).",
};

/// Every reason of this crate.
pub const REASONS: &[&Reason] = &[&AUDIT_UNAVAILABLE];

/// Why an event was not recorded; the transaction must not commit.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// As many events wait for the collector as may wait.
    #[error("{0} audit events wait for audit-collector, which is the bound")]
    Full(u64),
    /// The event is larger than the collector takes.
    #[error("an audit event of {0} bytes is above the bound of 61,440")]
    TooLarge(usize),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbErr),
}

impl<E: From<Fault>> From<RecordError> for TxError<E> {
    fn from(e: RecordError) -> Self {
        match e {
            RecordError::Db(e) => e.into(),
            RecordError::Full(_) => {
                let retry = Duration::from_secs(1);
                Self::Flow(Fault::unavailable(&AUDIT_UNAVAILABLE, e.to_string(), retry).into())
            }
            RecordError::TooLarge(_) => Self::Flow(Fault::broken(e).into()),
        }
    }
}
