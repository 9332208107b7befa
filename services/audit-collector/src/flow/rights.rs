//! What a caller may read: services and the auditors of the configuration everything, operators what their roles say.
//!
//! A call never goes up, so the registry is not asked: it tells by events of its own, which the index holds anyway.

use std::time::Duration;

use legate_authority::{Place, Reach, Right, Rights};
use legate_db::Tx;
use legate_rpc::{Fault, Mandate};
use tokio::time::{Instant, timeout_at};

use super::{Call, Desk, MARGIN, Reader};
use crate::domain::teller::Teller;
use crate::error::{AGAIN, AUDIT_ROLES_UNKNOWN};
use crate::index::NotRead;
use crate::store::{head, roles};

/// What the index knows may be so old, and no older.
pub(crate) const OLDEST: Duration = Duration::from_secs(5);

/// Who reads, where that is to be judged by roles.
#[derive(Clone, Debug)]
pub(crate) enum Judged {
    /// Everything.
    All,
    /// What the roles of this operator say.
    ByRoles(Box<Call>, legate_ids::Name),
}

/// Waits, within the deadline, until it can be judged what the caller may read.
///
/// # Errors
/// `AUDIT_ROLES_UNKNOWN` when it cannot.
pub(crate) async fn ready(desk: &Desk, call: &Call) -> Result<Judged, Fault> {
    let operator = match &call.reader {
        Reader::Emitter(Teller::Service) => return Ok(Judged::All),
        Reader::Emitter(_) | Reader::Nobody => {
            return Err(Fault::broken("a caller was let in who reads nothing"));
        }
        Reader::Operator(name) if desk.auditors.contains(name) => return Ok(Judged::All),
        Reader::Operator(name) => name.clone(),
    };
    wait(desk, call.deadline.checked_sub(MARGIN).unwrap_or(call.deadline)).await?;
    Ok(Judged::ByRoles(Box::new(call.clone()), operator))
}

/// Waits until the roles are known and not too old.
pub(crate) async fn wait(desk: &Desk, until: Instant) -> Result<(), Fault> {
    let (mut known, mut covered) = (desk.index.knows_roles(), desk.fresh.covered());
    let is_fresh = |at: &Option<Duration>| at.is_some_and(|at| desk.clock.monotonic().saturating_sub(at) <= OLDEST);
    let waiting = async {
        drop(known.wait_for(|known| *known).await);
        drop(covered.wait_for(is_fresh).await);
    };
    if timeout_at(until, waiting).await.is_ok() {
        return Ok(());
    }
    let why = if *desk.index.knows_roles().borrow() {
        "what the registry told of operators is not in the index for over 5 s"
    } else {
        "the registry's events have not told yet what operators may do"
    };
    Err(Fault::unavailable(&AUDIT_ROLES_UNKNOWN, why, AGAIN))
}

impl Judged {
    /// What may be read, by what the index holds in this transaction.
    pub(crate) async fn sees(&self, tx: &Tx, desk_now: legate_clock::Timestamp) -> Result<Reach, NotRead> {
        let Self::ByRoles(call, operator) = self else { return Ok(Reach::Everywhere) };
        let mandate = mandate(tx, call, operator, desk_now).await?;
        mandate.demand_somewhere(Right::Read).map_err(NotRead::Flow)?;
        Ok(mandate.sees())
    }
}

/// What an operator may do, by what the index holds in this transaction.
pub(super) async fn mandate(
    tx: &Tx,
    call: &Call,
    operator: &legate_ids::Name,
    desk_now: legate_clock::Timestamp,
) -> Result<Mandate, NotRead> {
    // The index may have begun anew since.
    if !head::get(tx).await?.is_some_and(|head| head.roles_stated) {
        let fault = Fault::unavailable(&AUDIT_ROLES_UNKNOWN, "the index is being made again", AGAIN);
        return Err(NotRead::Flow(fault));
    }
    let given = roles::appointments(tx, operator).await?;
    let rights = Rights::at(&given, desk_now.micros());
    Mandate::of_operator(&call.caller, rights, call.emergency.as_deref()).map_err(NotRead::Flow)
}

/// Refuses whom the roles let see no event of this namespace; of another's he learns nothing.
pub(crate) fn demand(call: &Call, sees: &Reach, namespace: &str) -> Result<(), Fault> {
    if sees.has(Place::of(namespace)) {
        return Ok(());
    }
    let text = format!("{} needs the right READ everywhere to see this leaf", call.caller);
    Err(Fault::refused(&legate_rpc::OPERATOR_NOT_PERMITTED, text).with("right", Right::Read.word()))
}
