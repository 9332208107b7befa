//! The journeys: one file each.

pub(crate) mod alert_feed;
pub(crate) mod alerts;
pub(crate) mod append;
pub(crate) mod change_alert;
pub(crate) mod checkpoint;
pub(crate) mod completeness;
pub(crate) mod custody;
pub(crate) mod evidence;
pub(crate) mod not_taken;
pub(crate) mod otlp;
pub(crate) mod prove;
pub(crate) mod query;
pub(crate) mod raise;
pub(crate) mod reads;
pub(crate) mod receipts;
pub(crate) mod refused;
pub(crate) mod retain;
pub(crate) mod rights;
pub(crate) mod signed;
pub(crate) mod sums;
pub(crate) mod tail;
pub(crate) mod tick;
pub(crate) mod told;
pub(crate) mod usage;
pub(crate) mod usage_feed;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use legate_clock::Clock;
use legate_ids::{Name, Principal};
use legate_mtls::{Peer, Trust};
use legate_rpc::{Fault, Permit, TraceContext};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::domain::quota::Quotas;
use crate::domain::teller::Teller;
use crate::error::{AGAIN, AUDIT_INDEX_BEHIND, AUDIT_INDEX_UNAVAILABLE};
use crate::freshness::Freshness;
use crate::index::Index;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::witness::Cosigned;

/// Kept back of the deadline, so that the refusal is ours and says how far the index is.
const MARGIN: Duration = Duration::from_millis(10);

/// Everything that a journey needs.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) log: Log,
    pub(crate) index: Index,
    pub(crate) fresh: Freshness,
    /// Operators who may read everything, whatever their roles.
    pub(crate) auditors: BTreeSet<Name>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) reads: reads::Reads,
    /// Whom certificates are believed from.
    pub(crate) trust: Trust,
    /// What was offered and refused lately.
    pub(crate) refusals: not_taken::Refusals,
    pub(crate) tails: tail::Tails,
    /// Services that follow alerts, who have seats that nobody else takes.
    pub(crate) feeds: tail::Tails,
    /// What agents and enforcement points told lately.
    pub(crate) quotas: Mutex<Quotas>,
    /// What services told lately.
    pub(crate) service_quotas: Mutex<Quotas>,
    /// For how much each asked receipts lately.
    pub(crate) receipts: Mutex<Quotas>,
    /// What came by OTLP lately.
    pub(crate) lines: otlp::Lines,
    /// Held by who changes an alert.
    pub(crate) changing: tokio::sync::Mutex<()>,
    pub(crate) metrics: Metrics,
    /// What the witnesses' quorum has cosigned.
    pub(crate) cosigned: Cosigned,
    /// Who erases, holds or ends what has had its time is alone.
    pub(crate) custody: tokio::sync::Mutex<()>,
    /// Set as soon as the service serves.
    pub(crate) stopping: OnceLock<CancellationToken>,
}

/// Who asks, within what, until when.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The SPIFFE ID of the certificate; nobody without one comes so far.
    pub(crate) caller: String,
    pub(crate) reader: Reader,
    /// SHA-256 of that certificate.
    pub(crate) certificate: [u8; 32],
    /// The emergency that an operator states.
    pub(crate) emergency: Option<String>,
    pub(crate) trace: TraceContext,
    pub(crate) deadline: Instant,
}

/// Whose roles count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Nobody's: the access table alone speaks for a service. Agents and enforcement points read nothing.
    Emitter(Teller),
    /// This operator's.
    Operator(Name),
    /// Whom no row of the access table lets in.
    Nobody,
}

impl Call {
    pub(crate) fn of(permit: &Permit) -> Self {
        let emergency = permit.emergency().map(str::to_owned);
        Self { emergency, ..Self::of_peer(permit.peer(), permit.trace().clone(), permit.deadline()) }
    }

    /// The call of whom the access table lets in at another door.
    pub(crate) fn of_peer(peer: &Peer, trace: TraceContext, deadline: Instant) -> Self {
        Self {
            caller: peer.id_text().to_owned(),
            reader: match &peer.principal {
                Some(Principal::Operator(name)) => Reader::Operator(name.clone()),
                Some(other) => Teller::of(other).map_or(Reader::Nobody, Reader::Emitter),
                None => Reader::Nobody,
            },
            certificate: peer.x5t_s256,
            emergency: None,
            trace,
            deadline,
        }
    }
}

/// Waits, within the deadline, until the index is so far.
async fn wait_for_index(desk: &Desk, call: &Call, at_least: u64) -> Result<(), Fault> {
    let mut through = desk.index.through();
    let until = call.deadline.checked_sub(MARGIN).unwrap_or(call.deadline);
    let reached = timeout_at(until, through.wait_for(|through| *through >= at_least)).await;
    if let Ok(Ok(_)) = reached {
        return Ok(());
    }
    let now = *desk.index.through().borrow();
    let why = format!("the index holds {now} leaves, and {at_least} were asked for");
    Err(Fault::unavailable(&AUDIT_INDEX_BEHIND, why, AGAIN).with("indexed_through", now.to_string()))
}

/// The index, while it answers.
fn database(desk: &Desk) -> Result<legate_db::Db, Fault> {
    desk.index.db().ok_or_else(|| {
        let why = desk.index.trouble().unwrap_or_else(|| "the index is not open".to_owned());
        Fault::unavailable(&AUDIT_INDEX_UNAVAILABLE, why, AGAIN)
    })
}
