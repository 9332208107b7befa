//! Events in the forms that others read: here, and nowhere else, one becomes a row of an export.

mod cloudevents;
mod ocsf;
#[cfg(test)]
mod tests;

use legate_clock::Timestamp;
use legate_wire::audit::{AuditEvent, IndexedEvent};

use crate::cli::ExportAs;
use crate::proto;

/// One event as a line, without its end. Every form keeps the leaf's index and hash.
pub(crate) fn row(form: ExportAs, of: &IndexedEvent) -> serde_json::Result<String> {
    match form {
        ExportAs::Jsonl => proto::json(&proto::dynamic(of), false),
        ExportAs::Ocsf => serde_json::to_string(&ocsf::event(of)),
        ExportAs::Cloudevents => serde_json::to_string(&cloudevents::event(of)?),
    }
}

/// When it happened, to the microsecond.
fn time(of: &AuditEvent) -> String {
    of.time.and_then(|t| Timestamp::try_from(t).ok()).map(|t| t.to_string()).unwrap_or_default()
}

/// The last part of a SPIFFE ID or another name.
fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
