//! A question over the log is an event of the log.

use std::collections::BTreeMap;

use legate_wire::audit::{AuditEvent, Outcome};

use super::{Call, Desk};
use crate::log::Own;

/// Puts a read on record, soon: no reader waits for the disk.
pub(super) fn record(desk: &Desk, call: &Call, kind: &'static str, details: BTreeMap<String, String>) {
    if !desk.record_reads {
        return;
    }
    desk.log.tell(Own::from_event(
        kind,
        AuditEvent {
            actor: call.caller.clone(),
            outcome: Outcome::Success.into(),
            trace_id: call.trace.trace_id.clone(),
            span_id: call.trace.span_id.clone(),
            details,
            ..AuditEvent::default()
        },
    ));
}
