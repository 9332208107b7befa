//! OTLP's requests as the signals that are looked at, and its answers.

use std::fmt::Write as _;

use legate_rpc::Fault;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

use crate::domain::otlp::{Attributes, Kind, MOST_ATTRIBUTES, Scalar, Signal, Unfit};
use crate::flow::otlp::{Ask, Told};

/// The largest request, as it comes and once it is unpacked.
pub(crate) const LARGEST: usize = 4 << 20;

/// Spans or log records of one request, whether they are acts or not.
const MOST_SIGNALS: usize = 16_384;

/// Resources, and scopes of each.
const MOST_GROUPS: usize = 1_024;

/// The span's or record's attributes over those of its resource; `None`: too many.
fn attributes(of_resource: &Attributes, own: Vec<KeyValue>) -> Result<Attributes, Unfit> {
    if own.len() > MOST_ATTRIBUTES {
        return Err(Unfit::Attributes);
    }
    let mut all = of_resource.inherited();
    put(&mut all, own);
    Ok(all)
}

fn put(all: &mut Attributes, own: Vec<KeyValue>) {
    for KeyValue { key, value, .. } in own {
        let scalar = match value.and_then(|value| value.value) {
            Some(Value::StringValue(text)) => Some(Scalar::Text(text)),
            Some(Value::IntValue(number)) => Some(Scalar::Whole(number)),
            Some(Value::BoolValue(flag)) => Some(Scalar::Flag(flag)),
            _ => None,
        };
        all.put(&key, scalar);
    }
}

/// What a resource says of all that comes from it. Of one that says too much nothing is taken.
fn resource(of: Option<Resource>) -> Attributes {
    let mut all = Attributes::default();
    put(&mut all, of.map(|of| of.attributes).filter(|all| all.len() <= MOST_ATTRIBUTES).unwrap_or_default());
    all
}

fn bounded(field: &str, bytes: usize, (groups, most_in_one): (usize, usize), signals: usize) -> Result<(), Fault> {
    if bytes > LARGEST {
        return Err(Fault::invalid(field, "a request has 4 MiB at most once it is unpacked; export smaller batches"));
    }
    if groups > MOST_GROUPS || most_in_one > MOST_GROUPS {
        return Err(Fault::invalid(field, "a request has 1,024 resources at most, and each 1,024 scopes"));
    }
    if signals > MOST_SIGNALS {
        return Err(Fault::invalid(field, "a request has 16,384 spans or log records at most; export smaller batches"));
    }
    Ok(())
}

/// The signals of a request for traces.
pub(crate) fn spans(request: ExportTraceServiceRequest) -> Result<Ask, Fault> {
    let bytes = request.encoded_len();
    let all = request.resource_spans;
    let scopes = all.iter().map(|one| one.scope_spans.len()).max().unwrap_or(0);
    let signals = all.iter().flat_map(|one| &one.scope_spans).map(|one| one.spans.len()).sum();
    bounded("resource_spans", bytes, (all.len(), scopes), signals)?;
    let mut ask = Vec::with_capacity(signals);
    for one in all {
        let of_resource = resource(one.resource);
        ask.extend(one.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|one| span(&of_resource, one)));
    }
    Ok(ask)
}

fn span(of_resource: &Attributes, span: Span) -> Result<Signal, Unfit> {
    Ok(Signal {
        kind: Kind::Span,
        is_error: span.status.is_some_and(|status| status.code == i32::from(StatusCode::Error)),
        trace_id: span.trace_id,
        span_id: span.span_id,
        parent_span_id: span.parent_span_id,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        event_name: String::new(),
        attributes: attributes(of_resource, span.attributes)?,
    })
}

/// The signals of a request for logs.
pub(crate) fn logs(request: ExportLogsServiceRequest) -> Result<Ask, Fault> {
    let bytes = request.encoded_len();
    let all = request.resource_logs;
    let scopes = all.iter().map(|one| one.scope_logs.len()).max().unwrap_or(0);
    let signals = all.iter().flat_map(|one| &one.scope_logs).map(|one| one.log_records.len()).sum();
    bounded("resource_logs", bytes, (all.len(), scopes), signals)?;
    let mut ask = Vec::with_capacity(signals);
    for one in all {
        let of_resource = resource(one.resource);
        let records = one.scope_logs.into_iter().flat_map(|scope| scope.log_records);
        ask.extend(records.map(|record| log(&of_resource, record)));
    }
    Ok(ask)
}

/// From this severity on, a record tells of an error.
const ERROR: i32 = 17;

fn log(of_resource: &Attributes, record: LogRecord) -> Result<Signal, Unfit> {
    // The protocol's own rule for a record that says no time: when it was seen.
    let time = if record.time_unix_nano == 0 { record.observed_time_unix_nano } else { record.time_unix_nano };
    Ok(Signal {
        kind: Kind::Log,
        is_error: record.severity_number >= ERROR,
        trace_id: record.trace_id,
        span_id: record.span_id,
        parent_span_id: Vec::new(),
        start: time,
        end: time,
        event_name: record.event_name,
        attributes: attributes(of_resource, record.attributes)?,
    })
}

/// How many were rejected, and why, in one text.
fn rejected(told: &Told, one: &str) -> Option<(i64, String)> {
    let count = told.rejected.values().sum::<usize>();
    if count == 0 {
        return None;
    }
    let mut text = format!("{} recorded, {count} {one} not", told.recorded);
    for (unfit, count) in &told.rejected {
        // Writing into a text does not fail.
        let _written = write!(text, "; {count}: {unfit}");
    }
    Some((i64::try_from(count).unwrap_or(i64::MAX), text))
}

impl From<Told> for ExportTraceServiceResponse {
    fn from(told: Told) -> Self {
        let partial = |(rejected_spans, error_message)| ExportTracePartialSuccess { rejected_spans, error_message };
        Self { partial_success: rejected(&told, "spans").map(partial) }
    }
}

impl From<Told> for ExportLogsServiceResponse {
    fn from(told: Told) -> Self {
        let partial =
            |(rejected_log_records, error_message)| ExportLogsPartialSuccess { rejected_log_records, error_message };
        Self { partial_success: rejected(&told, "log records").map(partial) }
    }
}
