//! What every question about authority needs that is no check: a fresh view, the caller's right to search, and its turn.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::Name;
use legate_outbox::AUDIT_UNAVAILABLE;
use legate_rpc::Fault;
use legate_view::Reading;
use legate_wire::audit::AuditEvent;
use tokio::time::Instant;

use super::asker::{Asker, Kind, Right};
use super::evaluate::Desk;
use super::record;
use super::turns::Turn;
use crate::error::{ASKING_BUSY, REVISION_NOT_REACHED, STALE};

/// How long a caller who has to wait is told to.
pub(super) const AGAIN: Duration = Duration::from_secs(1);
/// Kept back for the record and the way to the caller.
const TELLING: Duration = Duration::from_millis(700);

/// A caller whose turn it is, and the view by which it is answered.
pub(super) struct Seat {
    pub(super) reading: Reading,
    pub(super) right: Right,
    pub(super) now: Timestamp,
    /// No work goes on after this.
    pub(super) until: Instant,
    pub(super) turn: Turn,
}

/// The view as it is now, and the moment.
///
/// # Errors
/// `STALE` when it is too old: by it nobody's right is known.
pub(super) fn fresh(desk: &Desk) -> Result<(Reading, Timestamp), Fault> {
    let (reading, now) = (desk.view.read(), desk.clock.now());
    reading.fresh(desk.view.bound()).map_err(|e| Fault::unavailable(&STALE, e.to_string(), AGAIN))?;
    Ok((reading, now))
}

/// Waits for the revision and the turn, and looks at the caller's right by the view that is answered from.
///
/// # Errors
/// When the view is old, the revision does not come, the caller may not, or others ask already.
pub(super) async fn seat(
    desk: &Desk,
    asker: &Asker,
    at_least_revision: u64,
    longest: Duration,
    may: impl Fn(&Right) -> Result<(), Fault>,
) -> Result<Seat, Fault> {
    // What comes of it shows in the reading below.
    let _ = desk.view.wait_for(at_least_revision, asker.patience(Duration::MAX)).await;
    let allowed = || -> Result<_, Fault> {
        let (reading, now) = fresh(desk)?;
        let right = asker.right(&reading.snapshot, now)?;
        may(&right)?;
        let held = reading.snapshot.revision();
        if held < at_least_revision {
            let text = format!("revision {at_least_revision} was asked for, the view holds {held}");
            return Err(Fault::unavailable(&REVISION_NOT_REACHED, text, AGAIN));
        }
        Ok((reading, right, now))
    };
    allowed()?;
    let turn = desk.asking.take(&asker.spiffe_id, asker.patience(Duration::MAX)).await;
    let busy = || Fault::unavailable(&ASKING_BUSY, "others ask already, or the caller itself", AGAIN);
    let turn = turn.ok_or_else(busy)?;
    // What it may see may be less by now.
    let (reading, right, now) = allowed()?;
    let until = Instant::now() + asker.patience(longest + TELLING).saturating_sub(TELLING);
    Ok(Seat { reading, right, now, until, turn })
}

/// Puts the event on record, and the emergency that an operator states.
///
/// # Errors
/// `AUDIT_UNAVAILABLE`: what is not on record is not told.
pub(super) async fn told(desk: &Desk, asker: &Asker, event: AuditEvent) -> Result<(), Fault> {
    let emergency = (asker.kind == Kind::Operator).then(|| record::broke_glass(desk, asker)).flatten();
    let events = emergency.into_iter().chain([event]).collect();
    let written = desk.spool.write(events, false).await;
    written.map_err(|e| Fault::unavailable(&AUDIT_UNAVAILABLE, e.to_string(), AGAIN))
}

/// What the library has compiled of a namespace, to spare parsing it again.
pub(super) fn known(
    desk: &Desk,
    snapshot: &legate_view::Snapshot,
    namespace: &str,
) -> Option<Arc<crate::domain::policies::Compiled>> {
    let declared = snapshot.policies(namespace)?;
    let name = Name::parse(namespace).ok()?;
    desk.library.find(&name, declared)?.ok()
}
