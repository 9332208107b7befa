//! The journeys: one file each.

pub(crate) mod append;
pub(crate) mod checkpoint;
pub(crate) mod prove;
pub(crate) mod query;
mod reads;
pub(crate) mod refused;

use std::sync::Arc;

use legate_clock::Clock;
use legate_rpc::{Permit, TraceContext};
use tokio::time::Instant;

use crate::index::Index;
use crate::log::Log;

/// Everything that a journey needs.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) log: Log,
    pub(crate) index: Index,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whether a question over the log is an event of the log.
    pub(crate) record_reads: bool,
}

/// Who asks, within what, until when.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The SPIFFE ID of the certificate; nobody without one comes so far.
    pub(crate) caller: String,
    pub(crate) trace: TraceContext,
    pub(crate) deadline: Instant,
}

impl Call {
    pub(crate) fn of(permit: &Permit) -> Self {
        Self { caller: permit.peer().id_text().to_owned(), trace: permit.trace().clone(), deadline: permit.deadline() }
    }
}
