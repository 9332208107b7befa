//! OpenTelemetry's clients tell of acts over gRPC and HTTP: each act once, as its own teller, and nothing of what was said.

use std::io::Write as _;
use std::time::Duration;

use crate::house::{House, copy_log};
use legate_audit_collector::OtlpConfig;
use legate_boot::Running;
use legate_mtls::Identity;
use legate_rpc::{Client, Code, Told};
use legate_wire::audit as wire;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use prost::Message as _;
use tonic::codec::CompressionEncoding;

/// What nobody may ever find in the log.
const CANARY: &str = "canary-4b1d-what-was-said";

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// A span that has a canary wherever contents can be.
fn span(house: &House, number: u64, attributes: Vec<KeyValue>) -> Span {
    let now = u64::try_from(house.clock.now().micros()).unwrap() * 1_000;
    let said = Value::StringValue(CANARY.into());
    let list = ArrayValue { values: vec![AnyValue { value: Some(said.clone()) }] };
    let map = KeyValueList { values: vec![text("content", CANARY), text(CANARY, "x")] };
    let mut attributes = attributes;
    attributes.extend([
        attribute("gen_ai.input.messages", Value::ArrayValue(list)),
        attribute("gen_ai.output.messages", Value::KvlistValue(map)),
        attribute("gen_ai.tool.type", Value::BytesValue(CANARY.into())),
        text("gen_ai.system_instructions", CANARY),
        text("gen_ai.tool.call.arguments", CANARY),
        text("gen_ai.tool.call.result", CANARY),
        text("gen_ai.tool.description", CANARY),
        text("gen_ai.prompt", CANARY),
        text("gen_ai.completion", CANARY),
        text(CANARY, CANARY),
    ]);
    let event = span::Event { name: CANARY.into(), attributes: vec![text(CANARY, CANARY)], ..span::Event::default() };
    Span {
        trace_id: [7; 16].into(),
        span_id: number.to_be_bytes().into(),
        name: CANARY.into(),
        trace_state: format!("a={CANARY}"),
        start_time_unix_nano: now - 2_000_000,
        end_time_unix_nano: now,
        attributes,
        events: vec![event],
        status: Some(Status { message: CANARY.into(), code: 0 }),
        ..Span::default()
    }
}

fn tool(house: &House, number: u64) -> Span {
    let attributes = vec![text("gen_ai.operation.name", "execute_tool"), text("gen_ai.tool.name", "read_invoice")];
    span(house, number, attributes)
}

fn traces(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = Some(Resource { attributes: vec![text("service.name", "invoice-bot")], ..Resource::default() });
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    }
}

fn logs(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
}

/// The service with ports for OTLP.
async fn raise(house: &House) -> Running {
    let any = Some("127.0.0.1:0".parse().unwrap());
    let mut config = house.config();
    config.otlp = OtlpConfig { grpc: any, http: any };
    house.raise_with(config).await
}

fn to_traces(house: &House, running: &Running, who: &Identity) -> TraceServiceClient<Client> {
    TraceServiceClient::new(house.dial_at(running.intake_addr().unwrap(), who, Duration::from_secs(20)))
}

#[allow(clippy::result_large_err, reason = "a test tells a refusal whole, and seldom")]
async fn export(to: &mut TraceServiceClient<Client>, spans: Vec<Span>) -> Result<ExportTraceServiceResponse, Told> {
    let answer = to.export(traces(spans)).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Told::from_status(&status))
}

/// Everything in the log of the types that are told here, oldest first.
async fn told(house: &House, running: &Running) -> Vec<wire::IndexedEvent> {
    let mut operator = house.query(running, &house.operator("alice"));
    let ask = wire::QueryEventsRequest { page_size: 1, ..Default::default() };
    let size = operator.query_events(ask).await.unwrap().into_inner().log_size;
    let mut all = Vec::new();
    let mut ask = wire::QueryEventsRequest {
        indexed_at_least: size,
        page_size: 500,
        order: wire::EventOrder::OldestFirst.into(),
        filter: "type = action.executed OR type = activity.reported".into(),
        ..Default::default()
    };
    loop {
        let page = operator.query_events(ask.clone()).await.unwrap().into_inner();
        all.extend(page.events);
        if page.next_page_token.is_empty() {
            return all;
        }
        ask.page_token = page.next_page_token;
    }
}

fn only(event: &wire::IndexedEvent) -> &wire::AuditEvent {
    event.event.as_ref().unwrap()
}

/// Each number of each teller once and in order, from 1.
fn numbers(all: &[wire::IndexedEvent], teller: &str) -> Vec<u64> {
    let emitters = all.iter().map(|event| only(event).emitter.clone().unwrap());
    emitters.filter(|emitter| emitter.spiffe_id.contains(teller)).map(|emitter| emitter.seq).collect()
}

/// Whether any file of the log or of the names holds these bytes.
fn holds(dir: &std::path::Path, needle: &str) -> bool {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return holds(&path, needle);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_become_events_of_their_teller_and_nothing_of_what_was_said_is_kept() {
    let house = House::build();
    let running = raise(&house).await;
    let mut agent = to_traces(&house, &running, &house.agent()).send_compressed(CompressionEncoding::Gzip);
    let chat = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.request.model", "m-1"),
        attribute("gen_ai.usage.input_tokens", Value::IntValue(17)),
        text("user.id", "ada.lovelace@example.com"),
    ];
    let answer = export(&mut agent, vec![tool(&house, 1), span(&house, 2, chat)]).await.unwrap();
    assert_eq!(answer, ExportTraceServiceResponse::default());

    // The port of the services takes it as well.
    let main = house.dial_at(running.addr(), &house.enforcer(), Duration::from_secs(20));
    let mut enforcer = TraceServiceClient::new(main);
    let of_agent = legate_ids::AgentId::from_parts(9, [9; 10]).to_string();
    let mut passed_on = tool(&house, 3);
    passed_on.attributes.push(text("legate.agent.id", &of_agent));
    assert_eq!(export(&mut enforcer, vec![passed_on]).await.unwrap(), ExportTraceServiceResponse::default());

    let all = told(&house, &running).await;
    let [tool, chat, passed_on] = all.as_slice() else { panic!("{all:#?}") };
    assert_eq!((only(tool).r#type.as_str(), only(chat).r#type.as_str()), ("action.executed", "activity.reported"));
    let own = legate_ids::AgentId::from_parts(1, [1; 10]).to_string();
    assert_eq!((only(tool).agent_id.as_str(), only(chat).subject.as_str()), (&*own, "user:ada.lovelace@example.com"));
    assert_eq!(only(tool).resource.as_ref().unwrap().id, "read_invoice");
    assert_eq!(only(chat).details["input_tokens"], "17");
    assert_eq!(only(passed_on).agent_id, of_agent);
    assert_eq!(
        [tool, chat, passed_on].map(wire::IndexedEvent::trust),
        [wire::TrustClass::Authenticated, wire::TrustClass::Authenticated, wire::TrustClass::Observed]
    );
    assert_eq!((numbers(&all, "/agent/"), numbers(&all, "/enforcer/")), (vec![1, 2], vec![1]));
    assert!(all.iter().all(|event| !format!("{event:?}").contains(CANARY)));

    running.shutdown().await;
    assert!(holds(&house.log_dir(), "read_invoice"), "the search finds what is there");
    for never in [CANARY, "ada.lovelace"] {
        assert!(!holds(&house.log_dir(), never) && !holds(&house.names_dir(), never), "{never}");
    }
    house.audit(None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_span_is_one_event_however_often_and_by_whatever_door_it_comes() {
    let house = House::build();
    let running = raise(&house).await;
    let spans: Vec<Span> = (1..=40).map(|number| tool(&house, number)).collect();
    let web = running.intake_web_addr().unwrap();
    let sending = (0..6).map(|n| {
        let (house, running, spans) = (&house, &running, spans.clone());
        async move {
            if n % 2 == 0 {
                let mut agent = to_traces(house, running, &house.agent());
                assert!(export(&mut agent, spans).await.unwrap().partial_success.is_none());
            } else {
                let body = traces(spans).encode_to_vec();
                let (status, _, answer) = house.post(web, &house.agent(), "/v1/traces", &[], body).await;
                assert_eq!((status, answer.len()), (200, 0));
            }
        }
    });
    at_once(sending).await;
    // Twice in one request, and with one that is new.
    let mut agent = to_traces(&house, &running, &house.agent());
    export(&mut agent, [&spans[..], &spans[..], &[tool(&house, 41)]].concat()).await.unwrap();
    let all = told(&house, &running).await;
    assert_eq!(numbers(&all, "/agent/"), (1..=41).collect::<Vec<_>>());

    // Another teller's span of the same ids is another's.
    let mut enforcer = to_traces(&house, &running, &house.enforcer());
    let mut same = tool(&house, 1);
    same.attributes.push(text("legate.agent.id", &only(&all[0]).agent_id));
    export(&mut enforcer, vec![same]).await.unwrap();
    assert_eq!(told(&house, &running).await.len(), 42);
    running.shutdown().await;

    // After a restart, with the index that was there, and with one that is made again.
    for forget in [false, true] {
        if forget {
            for name in ["index.db", "index.db-wal", "index.db-shm"] {
                drop(std::fs::remove_file(house.log_dir().join(name)));
            }
        }
        let running = raise(&house).await;
        let mut agent = to_traces(&house, &running, &house.agent());
        export(&mut agent, spans.clone()).await.unwrap();
        assert_eq!(told(&house, &running).await.len(), 42, "the index was made again: {forget}");
        running.shutdown().await;
    }
    house.audit(None).unwrap();
}

/// All of them at once.
async fn at_once(all: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        all.retain_mut(|one| one.as_mut().poll(cx).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_recorded_is_counted_and_says_why() {
    let house = House::build();
    let running = raise(&house).await;
    let mut agent = to_traces(&house, &running, &house.agent());
    let other = legate_ids::AgentId::from_parts(9, [9; 10]).to_string();
    let bent = |number, bend: &dyn Fn(&mut Span)| {
        let mut span = tool(&house, number);
        bend(&mut span);
        span
    };
    let spans = vec![
        tool(&house, 1),
        span(&house, 2, vec![text("http.request.method", "GET")]),
        span(&house, 3, vec![text("db.system.name", "postgresql")]),
        bent(4, &|span| span.attributes.push(text("gen_ai.agent.id", &other))),
        bent(5, &|span| span.trace_id = vec![7; 15]),
        bent(6, &|span| span.end_time_unix_nano = 1),
        bent(7, &|span| span.attributes.extend((0..128).map(|n| text(&n.to_string(), "x")))),
        bent(8, &|span| {
            span.start_time_unix_nano += 400_000_000_000;
            span.end_time_unix_nano += 400_000_000_000;
        }),
    ];
    let answer = export(&mut agent, spans).await.unwrap();
    let Some(ExportTracePartialSuccess { rejected_spans: 7, error_message }) = answer.partial_success else {
        panic!("{answer:?}")
    };
    for said in
        ["1 recorded, 7 spans not", "2: no gen_ai.operation.name", "names another agent", "128 attributes", "ahead"]
    {
        assert!(error_message.contains(said), "{said}: {error_message}");
    }
    assert!(!error_message.contains(CANARY));
    // That it tells of another, and of what is to come, is on record.
    let mut operator = house.query(&running, &house.operator("alice"));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let ask = wire::QueryEventsRequest { r#type: "batch.refused".into(), ..Default::default() };
        let found = operator.query_events(ask).await.unwrap().into_inner().events;
        let reasons: Vec<&str> = found.iter().map(|one| only(one).reason_code.as_str()).collect();
        if ["AUDIT_NOT_YOURS_TO_TELL", "AUDIT_TIME_IN_FUTURE"].iter().all(|wanted| reasons.contains(wanted)) {
            assert_eq!(reasons.len(), 2, "{found:#?}");
            assert!(found.iter().all(|one| only(one).namespace == "payments" && !only(one).agent_id.is_empty()));
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found:#?}");
    }
    // More acts than one request takes: as many as it takes are recorded.
    let many: Vec<Span> = (100..1_200).map(|number| tool(&house, number)).collect();
    let answer = export(&mut agent, many).await.unwrap();
    assert_eq!(answer.partial_success.map(|partial| partial.rejected_spans), Some(76));
    assert_eq!(told(&house, &running).await.len(), 1_025);

    // What a resource says is said of each of its spans: a small request that would become a large one.
    let keys = [
        "gen_ai.agent.name",
        "gen_ai.conversation.id",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "gen_ai.tool.call.id",
        "gen_ai.tool.type",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "legate.credential.id",
        "legate.decision.id",
        "legate.grant.id",
        "legate.resource.id",
        "legate.resource.type",
        "legate.subject",
        "legate.token.id",
        "mcp.method.name",
        "service.name",
    ];
    let mut request = traces(
        (5_000..5_950)
            .map(|number| Span { attributes: vec![text("gen_ai.operation.name", "chat")], ..tool(&house, number) })
            .collect(),
    );
    let attributes = keys.map(|key| text(key, &"x".repeat(256))).into();
    request.resource_spans[0].resource = Some(Resource { attributes, ..Resource::default() });
    assert!(request.encoded_len() < 300 << 10, "{}", request.encoded_len());
    let answer = agent.export(request).await.unwrap().into_inner().partial_success.unwrap();
    assert!((1..900).contains(&answer.rejected_spans) && answer.error_message.contains("4 MiB"), "{answer:?}");

    // As much as it may at once, and then it is told when to come again. What it may comes back by 200 a second meanwhile.
    let batch = |n: u64| (0..1_024).map(|k| tool(&house, 10_000 * (n + 1) + k)).collect::<Vec<_>>();
    let mut refused = None;
    for n in 0..9 {
        refused = refused.or(export(&mut agent, batch(n)).await.err());
    }
    let refused = refused.unwrap();
    assert_eq!((refused.reason.as_str(), refused.code), ("AUDIT_QUOTA_SPENT", Code::ResourceExhausted));
    assert!(refused.retry_after.is_some_and(|wait| wait <= Duration::from_secs(10)));
    let web = running.intake_web_addr().unwrap();
    let mut refused = None;
    for n in 10..19 {
        let (status, headers, _) =
            house.post(web, &house.agent(), "/v1/traces", &[], traces(batch(n)).encode_to_vec()).await;
        refused = refused.or((status != 200).then(|| (status, headers[http::header::RETRY_AFTER].clone())));
    }
    let (status, again) = refused.unwrap();
    let again: u64 = again.to_str().unwrap().parse().unwrap();
    assert!(status == 429 && (1..=10).contains(&again), "{status} {again}");
    // What it sent again is none of what it may tell no more, where it is no act.
    let answer = export(&mut agent, vec![span(&house, 2, vec![])]).await.unwrap();
    assert_eq!(answer.partial_success.map(|partial| partial.rejected_spans), Some(1));
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_records_tell_of_acts_too_over_http() {
    let house = House::build();
    let running = raise(&house).await;
    let web = running.intake_web_addr().unwrap();
    let now = u64::try_from(house.clock.now().micros()).unwrap() * 1_000;
    let record = |event_name: &str, severity_number, attributes| LogRecord {
        observed_time_unix_nano: now,
        event_name: event_name.into(),
        severity_number,
        severity_text: CANARY.into(),
        body: Some(AnyValue { value: Some(Value::StringValue(CANARY.into())) }),
        attributes,
        ..LogRecord::default()
    };
    let pay = vec![
        text("legate.action", "invoice:pay"),
        text("legate.resource.type", "Invoice"),
        text("legate.resource.id", "apollo/7"),
    ];
    let chat = vec![text("gen_ai.operation.name", "chat")];
    let of_span = LogRecord {
        trace_id: [7; 16].into(),
        span_id: 1u64.to_be_bytes().into(),
        ..record("gen_ai.client.inference.operation.details", 9, chat.clone())
    };
    let request =
        logs(vec![record("", 9, pay.clone()), record("", 17, pay), of_span, record("app.started", 9, vec![])]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&request.encode_to_vec()).unwrap();
    let packed = gzip.finish().unwrap();
    for _ in 0..2 {
        let encoding = [(http::header::CONTENT_ENCODING, "gzip")];
        let (status, headers, body) = house.post(web, &house.agent(), "/v1/logs", &encoding, packed.clone()).await;
        assert_eq!(
            (status, headers[http::header::CONTENT_TYPE].as_bytes()),
            (200, b"application/x-protobuf".as_slice())
        );
        let answer = ExportLogsServiceResponse::decode(body).unwrap();
        assert_eq!(answer.partial_success.map(|partial| partial.rejected_log_records), Some(1));
    }
    // The span that the record repeats.
    let mut agent = to_traces(&house, &running, &house.agent());
    export(&mut agent, vec![span(&house, 1, chat)]).await.unwrap();
    let mut agent = LogsServiceClient::new(house.dial_at(running.addr(), &house.agent(), Duration::from_secs(20)));
    agent.export(request).await.unwrap();
    let all = told(&house, &running).await;
    let outcomes: Vec<_> = all.iter().map(|event| (only(event).action.as_str(), only(event).outcome())).collect();
    assert_eq!(
        outcomes,
        [
            ("invoice:pay", wire::Outcome::Success),
            ("invoice:pay", wire::Outcome::Failure),
            ("gen_ai:chat", wire::Outcome::Success)
        ]
    );
    running.shutdown().await;
    assert!(!holds(&house.log_dir(), CANARY));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_told_in_json_and_answered_in_json() {
    let house = House::build();
    let running = raise(&house).await;
    let web = running.intake_web_addr().unwrap();
    let now = house.clock.now().micros();
    // By the text of the standard: ids in hexadecimal, numbers of 64 bits as texts or not, enumerations as numbers, and names that nobody knows.
    let body = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"invoice-bot"}}}}]}},
            "scopeSpans":[{{"scope":{{"name":"x"}},"spans":[
            {{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174","name":"{CANARY}","kind":1,
              "startTimeUnixNano":"{now}000","endTimeUnixNano":{now}000,"noSuchField":[1],"status":{{"code":2,"message":"{CANARY}"}},
              "attributes":[{{"key":"gen_ai.operation.name","value":{{"stringValue":"execute_tool"}}}},
                            {{"key":"gen_ai.tool.name","value":{{"stringValue":"read_invoice"}}}},
                            {{"key":"x","value":{{"intValue":"7"}}}},{{"key":"gen_ai.prompt","value":{{"stringValue":"{CANARY}"}}}}]}},
            {{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b175","name":"no act"}}]}}]}}]}}"#
    );
    let json = [(http::header::CONTENT_TYPE, "application/json")];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body.as_bytes()).unwrap();
    let packed = [json[0].clone(), (http::header::CONTENT_ENCODING, "gzip")];
    // The index may be opened at this moment, which is said in JSON as well.
    let begin = std::time::Instant::now();
    loop {
        let (status, headers, answer) = house.post(web, &house.agent(), "/v1/traces", &json, body.clone().into()).await;
        if status == 200 {
            break;
        }
        let said: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status, said["code"].as_i64()), (503, Some(14)), "{said}");
        assert!(headers.contains_key(http::header::RETRY_AFTER) && begin.elapsed() < Duration::from_secs(20), "{said}");
        assert!(said["details"][1]["retryDelay"].as_str().unwrap().ends_with('s'), "{said}");
    }
    for (headers, body) in [(&json[..], body.into_bytes()), (&packed[..], gzip.finish().unwrap())] {
        let (status, headers, answer) = house.post(web, &house.agent(), "/v1/traces", headers, body).await;
        assert_eq!((status, headers[http::header::CONTENT_TYPE].as_bytes()), (200, b"application/json".as_slice()));
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["partialSuccess"]["rejectedSpans"].to_string().trim_matches('"'), "1", "{answer}");
    }
    let (status, _, answer) = house.post(web, &house.agent(), "/v1/logs", &json, b"{}".to_vec()).await;
    assert_eq!((status, serde_json::from_slice::<serde_json::Value>(&answer).is_ok()), (200, true));
    let (status, headers, answer) =
        house.post(web, &house.operator("alice"), "/v1/traces", &json, b"{}".to_vec()).await;
    let said: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(
        (status, said["code"].as_i64(), said["details"][0]["reason"].as_str()),
        (403, Some(7), Some("ACCESS_DENIED"))
    );
    assert_eq!(headers[http::header::CONTENT_TYPE].as_bytes(), b"application/json");

    let all = told(&house, &running).await;
    let events: Vec<_> = all.iter().map(only).collect();
    assert_eq!(events.len(), 1, "each act once, in whatever form it came");
    assert_eq!((events[0].action.as_str(), events[0].outcome()), ("gen_ai:execute_tool", wire::Outcome::Failure));
    assert_eq!(events[0].trace_id, "5b8efff798038103d269b633813fc60c");
    running.shutdown().await;
    assert!(!holds(&house.log_dir(), CANARY));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_tell_or_tells_nonsense_is_refused_at_both_doors() {
    let house = House::build();
    let running = raise(&house).await;
    let web = running.intake_web_addr().unwrap();
    let body = traces(vec![tool(&house, 1)]).encode_to_vec();
    for (who, status, reason) in [
        (Identity::anonymous(), 401, "UNAUTHENTICATED"),
        (house.operator("alice"), 403, "ACCESS_DENIED"),
        (house.service("registry"), 403, "ACCESS_DENIED"),
    ] {
        let (found, _, answer) = house.post(web, &who, "/v1/traces", &[], body.clone()).await;
        let said = String::from_utf8_lossy(&answer).into_owned();
        assert!(found == status && said.contains(reason), "{found} {said}");
        let refused = export(&mut to_traces(&house, &running, &who), vec![tool(&house, 1)]).await.unwrap_err();
        assert_eq!(refused.reason, reason);
    }
    // Nothing but OTLP is served there.
    let at = running.intake_addr().unwrap();
    let mut ingest = wire::ingest_service_client::IngestServiceClient::new(house.dial_at(
        at,
        &house.service("registry"),
        Duration::from_secs(20),
    ));
    let refused = house.append(&mut ingest, 1, 1).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);

    let agent = house.agent();
    let kind = |kind: &'static str| vec![(http::header::CONTENT_TYPE, kind)];
    let encoding = |encoding: &'static str| vec![(http::header::CONTENT_ENCODING, encoding)];
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![0; 64 << 20]).unwrap();
    let mut deep = AnyValue { value: Some(Value::StringValue("x".into())) };
    for _ in 0..300 {
        deep = AnyValue { value: Some(Value::ArrayValue(ArrayValue { values: vec![deep] })) };
    }
    let nested = KeyValue { key: "a".into(), value: Some(deep), ..KeyValue::default() };
    let nested = traces(vec![span(&house, 1, vec![nested])]).encode_to_vec();
    let in_json = |span: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
    let deep = format!("{}{}", r#"{"arrayValue":{"values":["#.repeat(300), "]}}".repeat(300));
    let nested_json = in_json(&format!(r#"{{"attributes":[{{"key":"a","value":{deep}}}]}}"#));
    let many_json = in_json(&vec!["{}"; 16_385].join(","));
    let many = traces((0..16_385).map(|_| Span::default()).collect()).encode_to_vec();
    for (what, path, headers, body, status) in [
        ("CBOR", "/v1/traces", kind("application/cbor"), b"{}".to_vec(), 415),
        ("protobuf as JSON", "/v1/traces", kind("application/json"), body.clone(), 400),
        ("JSON cut short", "/v1/traces", kind("application/json"), b"{\"resourceSpans\":[{".to_vec(), 400),
        ("JSON nested", "/v1/traces", kind("application/json"), nested_json.into_bytes(), 400),
        ("JSON too many", "/v1/traces", kind("application/json"), many_json.into_bytes(), 400),
        ("JSON too large", "/v1/traces", kind("application/json"), vec![b' '; (4 << 20) + 1], 413),
        ("another encoding", "/v1/traces", encoding("br"), body.clone(), 415),
        ("no gzip", "/v1/traces", encoding("gzip"), body.clone(), 400),
        ("a bomb", "/v1/traces", encoding("gzip"), bomb.finish().unwrap(), 413),
        ("too large", "/v1/traces", vec![], vec![0; (4 << 20) + 1], 413),
        ("garbage", "/v1/traces", vec![], vec![0xff; 64], 400),
        ("nested", "/v1/traces", vec![], nested, 400),
        ("too many", "/v1/traces", vec![], many, 400),
        ("metrics", "/v1/metrics", vec![], body.clone(), 404),
    ] {
        let (found, _, answer) = house.post(web, &agent, path, &headers, body).await;
        assert_eq!(found, status, "{what}: {}", String::from_utf8_lossy(&answer));
    }
    // Over gRPC what is too large is refused with its reason, and not in a way that has it sent again.
    let large = (0..9).map(|n| span(&house, n, vec![text("x", &"x".repeat(1 << 19))])).collect::<Vec<_>>();
    let mut grpc = to_traces(&house, &running, &agent);
    for spans in [large, (0..16_385).map(|_| Span::default()).collect()] {
        let refused = export(&mut grpc, spans).await.unwrap_err();
        assert!(refused.code == Code::InvalidArgument && refused.message.contains("smaller batches"), "{refused:?}");
    }
    let (found, _, _) = house.post(web, &agent, "/v1/traces", &[], Vec::new()).await;
    assert_eq!(found, 200, "an empty request is good, says the protocol");

    // The epoch of these is nobody else's.
    let mut ingest = house.ingest(&running, &agent);
    let refused = crate::house::send(&mut ingest, "otlp", 1, vec![b"x".as_slice().into()]).await.unwrap_err();
    let refused = Told::from_status(&refused);
    assert!(refused.reason == "INVALID_ARGUMENT" && refused.message.contains("otlp"), "{refused:?}");
    assert!(told(&house, &running).await.is_empty());
    running.shutdown().await;

    let mut config = house.config();
    config.otlp.http = Some("127.0.0.1:0".parse().unwrap());
    config.tls.workloads_ca = None;
    let refused = house.try_raise(config).await.unwrap_err().to_string();
    assert!(refused.contains("refused"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_kill_and_known_again() {
    let house = House::build();
    let running = raise(&house).await;
    let mut agent = to_traces(&house, &running, &house.agent());
    let spans: Vec<Span> = (1..=25).map(|number| tool(&house, number)).collect();
    export(&mut agent, spans.clone()).await.unwrap();
    // What a kill leaves behind, without an index, at once after the answer.
    let killed = tempfile::tempdir().unwrap();
    let copy = killed.path().join("log");
    copy_log(&house.log_dir(), &copy);
    running.shutdown().await;
    let mut config = house.config();
    config.dir = copy;
    config.otlp.grpc = Some("127.0.0.1:0".parse().unwrap());
    let running = house.raise_with(config).await;
    let mut agent = to_traces(&house, &running, &house.agent());
    export(&mut agent, [&spans[..], &[tool(&house, 26)]].concat()).await.unwrap();
    let all = told(&house, &running).await;
    assert_eq!(numbers(&all, "/agent/"), (1..=26).collect::<Vec<_>>());
    running.shutdown().await;
}
