//! Events in the forms that others read: here, and nowhere else, one becomes a row of an export.

mod cloudevents;
mod columns;
mod ocsf;
mod otlp;
#[cfg(test)]
mod tests;

use legate_clock::Timestamp;
use legate_wire::audit::{AuditEvent, IndexedEvent};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;

pub(crate) use columns::{Row, write_rows};

use crate::cli::ExportAs;
use crate::proto;

/// One event as a line, without its end. Every form keeps the leaf's index and hash.
pub(crate) fn row(form: ExportAs, of: &IndexedEvent) -> serde_json::Result<String> {
    match form {
        ExportAs::Jsonl => proto::json(&proto::dynamic(of), false),
        ExportAs::Ocsf => serde_json::to_string(&ocsf::event(of)),
        ExportAs::Otlp => serde_json::to_string(&otlp::event(of)),
        ExportAs::Cloudevents => serde_json::to_string(&cloudevents::event(of)?),
        ExportAs::Parquet => Err(serde::ser::Error::custom("Parquet has columns and no lines")),
    }
}

/// The events of a request to a receiver of OTLP.
pub(crate) fn request(events: &[IndexedEvent]) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest { resource_logs: events.iter().map(otlp::logs).collect() }
}

/// What happened, in one line for people.
fn message(event: &AuditEvent) -> String {
    let of = event.resource.clone().unwrap_or_default();
    let on = if of.r#type.is_empty() { of.id } else { format!("{}:{}", of.r#type, of.id) };
    let parts = [event.r#type.as_str(), who(event), &event.action, &on, &event.reason_code];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn emitter(event: &AuditEvent) -> &str {
    event.emitter.as_ref().map_or("", |e| last(&e.spiffe_id))
}

fn who(event: &AuditEvent) -> &str {
    if event.actor.is_empty() { emitter(event) } else { last(&event.actor) }
}

/// When it happened, to the microsecond.
fn time(of: &AuditEvent) -> String {
    of.time.and_then(|t| Timestamp::try_from(t).ok()).map(|t| t.to_string()).unwrap_or_default()
}

/// The last part of a SPIFFE ID or another name.
fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
