//! What a leaf says with the names that it commits to.

use legate_wire::audit::{AuditEvent, PersonalPart};
use prost::Message as _;

/// The event with its names put back, each verified against its commitment; a part that is empty is of a name that was erased.
pub(crate) fn said(leaf: &[u8], personal: &[PersonalPart]) -> Result<AuditEvent, String> {
    let event = AuditEvent::decode(leaf).map_err(|e| format!("it is no event: {e}"))?;
    legate_personal::check(&event, personal, true).map_err(|e| format!("its names: {e}"))?;
    Ok(legate_personal::shown(event, personal))
}
