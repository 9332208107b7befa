//! An event as a log record of OpenTelemetry (OTLP 1.11): for files one LogsData a line in OTLP's JSON, for receivers as protobuf.

use legate_clock::Timestamp;
use legate_wire::audit::{AuditEvent, IndexedEvent, Outcome};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::{Value, json};

use super::last;
use crate::evidence::hex;
use crate::proto;

/// Under which every record is told.
const SCOPE: &str = "legate.audit";

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Any::StringValue(value.into()))
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// A number as OTLP has it, which knows no others than these.
fn whole(number: u64) -> Any {
    i64::try_from(number).map_or_else(|_| Any::StringValue(number.to_string()), Any::IntValue)
}

/// An event with its emitter as the resource.
pub(super) fn logs(of: &IndexedEvent) -> ResourceLogs {
    let event = of.event.clone().unwrap_or_default();
    let emitter = event.emitter.clone().unwrap_or_default();
    let attributes = vec![text("service.name", last(&emitter.spiffe_id)), text("legate.emitter", &emitter.spiffe_id)];
    let scope = InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    ResourceLogs {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_logs: vec![ScopeLogs {
            scope: Some(scope),
            log_records: vec![record(of, &event)],
            ..ScopeLogs::default()
        }],
        ..ResourceLogs::default()
    }
}

fn record(of: &IndexedEvent, event: &AuditEvent) -> LogRecord {
    let micros = event.time.and_then(|t| Timestamp::try_from(t).ok()).unwrap_or_default().micros();
    let nanos = u64::try_from(micros).unwrap_or(0).saturating_mul(1_000);
    let (severity, word) = match event.outcome() {
        Outcome::Failure => (SeverityNumber::Error, "ERROR"),
        Outcome::Denied => (SeverityNumber::Warn, "WARN"),
        Outcome::Success | Outcome::Unspecified => (SeverityNumber::Info, "INFO"),
    };
    let body = AnyValue { value: Some(Any::StringValue(super::message(event))) };
    LogRecord {
        time_unix_nano: nanos,
        observed_time_unix_nano: nanos,
        severity_number: severity.into(),
        severity_text: word.to_owned(),
        body: Some(body),
        attributes: attributes(of, event),
        trace_id: bytes(&event.trace_id, 16),
        span_id: bytes(&event.span_id, 8),
        event_name: format!("legate.{}", event.r#type),
        ..LogRecord::default()
    }
}

/// An id of so many bytes; none where the text is not one.
fn bytes(text: &str, wanted: usize) -> Vec<u8> {
    let digits = |at: usize| text.get(2 * at..2 * at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    let all: Option<Vec<u8>> = (0..wanted).map(digits).collect();
    all.filter(|_| text.len() == 2 * wanted).unwrap_or_default()
}

/// Everything that an event says, and where it is in the log.
fn attributes(of: &IndexedEvent, event: &AuditEvent) -> Vec<KeyValue> {
    let emitter = event.emitter.clone().unwrap_or_default();
    let resource = event.resource.clone().unwrap_or_default();
    let decision = event.decision.clone().unwrap_or_default();
    let mut all = vec![
        attribute("legate.leaf.index", whole(of.leaf_index)),
        text("legate.leaf.hash", hex(&of.leaf_hash)),
        text("legate.emitter.epoch", emitter.epoch),
        attribute("legate.emitter.seq", whole(emitter.seq)),
    ];
    let word = |name: &'static str, before: &'static str| proto::word(name, before).to_owned();
    let is_set = |number: i32, word: String| if number == 0 { String::new() } else { word };
    let texts = [
        ("legate.event.id", event.event_id.clone()),
        ("legate.trust", is_set(of.trust, word(of.trust().as_str_name(), "TRUST_CLASS_"))),
        ("legate.namespace", event.namespace.clone()),
        ("legate.actor", event.actor.clone()),
        ("legate.agent.id", event.agent_id.clone()),
        ("legate.instance.id", event.instance_id.clone()),
        ("legate.subject", event.subject.clone()),
        ("legate.chain", event.chain.join(" ")),
        ("legate.acting_mode", is_set(event.acting_mode, word(event.acting_mode().as_str_name(), "ACTING_MODE_"))),
        ("legate.action", event.action.clone()),
        ("legate.resource.type", resource.r#type),
        ("legate.resource.id", resource.id),
        ("legate.resource.data_classification", resource.data_classification),
        ("legate.resource.region", resource.region),
        ("legate.outcome", is_set(event.outcome, word(event.outcome().as_str_name(), "OUTCOME_"))),
        ("legate.reason_code", event.reason_code.clone()),
        ("legate.reason", event.reason.clone()),
        ("legate.decision.id", decision.decision_id),
        ("legate.decision.denial", decision.denial),
        ("legate.decision.determining", decision.determining.join(" ")),
        ("legate.grant.id", event.grant_id.clone()),
        ("legate.credential.id", event.credential_id.clone()),
        ("legate.approver", event.approver.clone()),
        ("legate.correlation.id", event.correlation_id.clone()),
        ("legate.cause.id", event.cause_id.clone()),
    ];
    all.extend(texts.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| text(key, value)));
    if event.decision.is_some() {
        all.push(attribute("legate.decision.allowed", Any::BoolValue(decision.allowed)));
    }
    if event.revision != 0 {
        all.push(attribute("legate.revision", whole(event.revision)));
    }
    all.extend(event.details.iter().map(|(key, value)| text(&format!("legate.detail.{key}"), value)));
    all
}

/// A line of OTLP's JSON: lower camel case, 64-bit numbers as texts, ids in hexadecimal digits, enumerations as numbers.
pub(super) fn event(of: &IndexedEvent) -> Value {
    json!({ "resourceLogs": [of_resource(logs(of))] })
}

fn of_resource(logs: ResourceLogs) -> Value {
    let resource = logs.resource.unwrap_or_default();
    let scopes = logs.scope_logs.into_iter().map(|scope| {
        let of = scope.scope.unwrap_or_default();
        let records: Vec<Value> = scope.log_records.into_iter().map(of_record).collect();
        json!({ "scope": { "name": of.name, "version": of.version }, "logRecords": records })
    });
    json!({ "resource": { "attributes": of_attributes(resource.attributes) }, "scopeLogs": scopes.collect::<Vec<_>>() })
}

fn of_record(record: LogRecord) -> Value {
    let mut out = json!({
        "timeUnixNano": record.time_unix_nano.to_string(),
        "observedTimeUnixNano": record.observed_time_unix_nano.to_string(),
        "severityNumber": record.severity_number,
        "severityText": record.severity_text,
        "eventName": record.event_name,
        "body": record.body.map(of_value),
        "attributes": of_attributes(record.attributes),
    });
    for (name, id) in [("traceId", record.trace_id), ("spanId", record.span_id)] {
        if !id.is_empty() {
            out[name] = hex(&id).into();
        }
    }
    out
}

fn of_attributes(all: Vec<KeyValue>) -> Vec<Value> {
    all.into_iter().map(|one| json!({ "key": one.key, "value": one.value.map(of_value) })).collect()
}

/// What records hold, which is none of the other kinds.
fn of_value(value: AnyValue) -> Value {
    match value.value {
        Some(Any::StringValue(text)) => json!({ "stringValue": text }),
        Some(Any::IntValue(number)) => json!({ "intValue": number.to_string() }),
        Some(Any::BoolValue(flag)) => json!({ "boolValue": flag }),
        _ => json!({}),
    }
}
