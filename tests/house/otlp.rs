//! An agent that is traced with OpenTelemetry tells what it did, and a raised suite holds it against what was decided.

use std::time::Instant;

use legate_clock::{Clock as _, SystemClock};
use legate_wire::audit::alert_service_client::AlertServiceClient;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{AlertType, ListAlertsRequest, QueryEventsRequest, ReportCompletenessRequest, TrustClass};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

use crate::asking::{Shown, ask, at_least, question};
use crate::completeness::JUDGED;
use crate::raised::{AUDIENCE, Raised, id_of};

fn span(number: u8, attributes: &[(&str, &str)]) -> Span {
    let text = |value: &str| Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    let attribute =
        |(key, value): &(&str, &str)| KeyValue { key: (*key).into(), value: text(value), ..Default::default() };
    let now = u64::try_from(SystemClock::new().now().micros()).unwrap() * 1_000;
    Span {
        trace_id: vec![number; 16],
        span_id: vec![number; 8],
        start_time_unix_nano: now,
        end_time_unix_nano: now,
        attributes: attributes.iter().map(attribute).collect(),
        ..Span::default()
    }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_tells_by_its_traces_is_held_against_what_was_decided() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let issued = payments.runtime.token(AUDIENCE).await.unwrap();
    let presenter = payments.runtime.identity().x5t_s256().unwrap();
    let shown = Shown { token: issued.access_token, presenter };
    let backend = raised.dial("policy-decision", payments.backend.clone());
    let allowed = ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1001"), issued.revision)).await;
    assert_eq!(allowed.reason_code, "ALLOWED");

    let invoice = [
        ("gen_ai.operation.name", "execute_tool"),
        ("gen_ai.tool.name", "read_invoice"),
        ("legate.resource.type", "Invoice"),
        ("legate.resource.id", "apollo/1001"),
    ];
    let action = |action: &'static str| [&invoice[..], &[("legate.action", action)]].concat();
    let spans = vec![
        span(1, &[&action("invoice:read")[..], &[("legate.decision.id", &allowed.decision_id)]].concat()),
        span(2, &action("invoice:read")),
        span(3, &action("invoice:pay")),
        span(4, &[("gen_ai.operation.name", "chat"), ("gen_ai.request.model", "m-1")]),
    ];
    let identity = payments.runtime.identity();
    let mut traces = TraceServiceClient::new(raised.dial("audit-collector", identity.clone()));
    let told = traces.export(request(spans)).await.unwrap().into_inner();
    assert!(told.partial_success.is_none(), "{told:?}");

    let agent = id_of(&payments.agent);
    let mut records = QueryServiceClient::new(raised.operator("audit-collector"));
    let size = records.query_events(QueryEventsRequest::default()).await.unwrap().into_inner().log_size;
    let of_agent = QueryEventsRequest {
        filter: "type = action.executed OR type = activity.reported".into(),
        agent_id: agent.clone(),
        indexed_at_least: size,
        ..QueryEventsRequest::default()
    };
    let events = records.query_events(of_agent).await.unwrap().into_inner().events;
    assert_eq!(events.len(), 4);
    assert!(events.iter().all(|event| event.trust() == TrustClass::Authenticated));

    // The service goes on deciding, so that what is missing would be known to be missing.
    let mut auditor = AlertServiceClient::new(raised.operator("audit-collector"));
    let (begin, mut known) = (Instant::now(), 0);
    let report = loop {
        ask(&backend, question(&shown, "invoice:read", "apollo/1001")).await;
        let next = ReportCompletenessRequest { indexed_at_least: known + 1, ..ReportCompletenessRequest::default() };
        let report = auditor.report_completeness(next).await.unwrap().into_inner();
        known = report.indexed_through;
        if report.actions == 3 && report.waiting == 0 {
            break report;
        }
        assert!(begin.elapsed() < JUDGED, "{report:?}");
    };
    assert_eq!((report.complete, report.incomplete), (2, 1), "{report:?}");
    assert_eq!((report.agent.unwrap().present, report.credential.unwrap().present), (3, 3));
    assert_eq!(report.incomplete_actions[0].missing, ["decision"]);
    let alerts = auditor.list_alerts(ListAlertsRequest::default()).await.unwrap().into_inner().alerts;
    let kinds: Vec<AlertType> = alerts.iter().map(|alert| alert.r#type()).collect();
    assert_eq!(kinds, [AlertType::ActionWithoutDecision], "{alerts:?}");
    assert_eq!(alerts[0].agent_id, agent);
    raised.suite.shutdown().await;
}
