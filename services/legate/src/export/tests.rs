//! Every type of event has a place in each form, and is found again in the log by it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_wire::audit::{AuditEvent, Emitter, EventDecision, EventResource, IndexedEvent, Outcome};
use serde_json::Value;

use super::row;
use crate::cli::ExportAs;

fn event(kind: &str) -> IndexedEvent {
    let event = AuditEvent {
        event_id: "evt_1".into(),
        emitter: Some(Emitter { spiffe_id: "spiffe://dev.legate/legate/registry".into(), epoch: "e".into(), seq: 4 }),
        time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 123_000_000 }),
        r#type: kind.into(),
        namespace: "payments".into(),
        actor: "spiffe://dev.legate/legate/operator/ada".into(),
        agent_id: "agt_1".into(),
        outcome: Outcome::Success.into(),
        trace_id: "0af7651916cd43dd8448eb211c80319c".into(),
        span_id: "b7ad6b7169203331".into(),
        ..AuditEvent::default()
    };
    IndexedEvent { leaf_index: 5_000_000_000, leaf_hash: vec![0xab; 32], event: Some(event), ..IndexedEvent::default() }
}

/// What the services tell.
const KINDS: [&str; 45] = [
    "access.refused",
    "action.executed",
    "activity.reported",
    "agent.created",
    "agent.credentials_revoked",
    "agent.expired",
    "agent.orphaned",
    "agent.quarantined",
    "agent.resumed",
    "agent.retired",
    "agent.spawned",
    "agent.suspended",
    "agent.updated",
    "alert.raised",
    "approval.approved",
    "authority.searched",
    "change.previewed",
    "change.shadowed",
    "credential.issued",
    "credential.key_compromised",
    "credential.leaked",
    "credential.revoked",
    "decision.diverged",
    "decision.explained",
    "decision.made",
    "decision.withdrawn",
    "decisions.simulated",
    "delegation_grant.revoked",
    "enrolment.created",
    "enrolment.refused",
    "instance.revoked",
    "issuance.decided",
    "key.activated",
    "log.evidence_made",
    "log.opened",
    "log.queried",
    "operator.broke_glass",
    "operator_binding.stated",
    "person.offboarded",
    "policy.updated",
    "svid.issued",
    "svid.refused",
    "token.exchanged",
    "token.issued",
    "token.refused",
];

fn written(form: ExportAs, of: &IndexedEvent) -> Value {
    let line = row(form, of).unwrap();
    assert!(!line.contains('\n'));
    serde_json::from_str(&line).unwrap()
}

#[test]
fn each_type_of_event_is_of_the_class_that_says_what_it_is() {
    for (kind, class, activity) in [
        ("decision.made", 6003, 99),
        ("log.queried", 6003, 2),
        ("action.executed", 6003, 99),
        ("activity.reported", 6003, 99),
        ("token.issued", 3003, 1),
        ("token.exchanged", 3003, 1),
        ("token.refused", 3002, 1),
        ("svid.issued", 3003, 1),
        ("svid.refused", 3002, 1),
        ("access.refused", 3002, 1),
        ("agent.created", 3004, 1),
        ("agent.suspended", 3004, 12),
        ("agent.resumed", 3004, 13),
        ("agent.retired", 3004, 4),
        ("role_binding.updated", 3004, 3),
        ("credential.issued", 3004, 1),
        ("credential.leaked", 2004, 1),
        ("operator.broke_glass", 2004, 1),
        ("alert.raised", 2004, 1),
        ("log.evidence_made", 2003, 1),
        ("something.unheard_of", 3004, 99),
        ("nothing", 3004, 99),
        ("", 3004, 99),
    ] {
        let out = written(ExportAs::Ocsf, &event(kind));
        assert_eq!((&out["class_uid"], &out["activity_id"]), (&class.into(), &activity.into()), "{kind}");
        assert_eq!(out["type_uid"], class * 100 + activity);
        assert_eq!(out["unmapped"]["leaf_index"], 5_000_000_000_u64);
        assert_eq!(out["unmapped"]["leaf_hash"], "ab".repeat(32));
        assert_eq!(out["time"], 1_800_000_000_123_i64);
        assert_eq!(out["metadata"]["version"], "1.8.0");
    }
}

/// One event of each kind that the services tell, as tests/evidence/foreign.py holds them against the schema.
#[test]
fn what_the_schema_is_held_against_is_what_is_written() {
    let mut text = String::new();
    for (kind, outcome) in KINDS.iter().flat_map(|kind| [(kind, Outcome::Success), (kind, Outcome::Denied)]) {
        let mut one = event(kind);
        let inner = one.event.as_mut().unwrap();
        inner.outcome = outcome.into();
        match outcome {
            // As much as an event has, and as little.
            Outcome::Success => {
                let resource = ("Invoice".into(), "7".into(), "pii".into(), "eu".into());
                let (r#type, id, data_classification, region) = resource;
                inner.resource = Some(EventResource { r#type, id, data_classification, region });
                inner.credential_id = "cred_1".into();
                inner.reason = "because".into();
                inner.chain = vec!["spiffe://dev.legate/ns/payments/agent/agt_1".into(), "user:ada@example.com".into()];
                inner.details = [("scope".to_owned(), "invoice:read invoice:write".to_owned())].into();
                inner.acting_mode = 2;
                inner.revision = 7;
                inner.correlation_id = "task-1".into();
            }
            _ => {
                (inner.actor, inner.agent_id) = (String::new(), String::new());
                (inner.trace_id, inner.span_id) = (String::new(), String::new());
                (inner.namespace, inner.reason_code) = (String::new(), "OPERATOR_NOT_PERMITTED".into());
            }
        }
        if kind.starts_with("decision.") || *kind == "action.executed" {
            // Who executes an action knows which decision it was, and not by what.
            let by = ["policy:payments/no@3", "ceiling:payments/invoice-bot@2"].map(str::to_owned);
            let determining = if kind.starts_with("decision.") { by.to_vec() } else { Vec::new() };
            let allowed = outcome == Outcome::Success;
            let decision_id = "dec_1".to_owned();
            inner.decision = Some(EventDecision { decision_id, allowed, determining, ..EventDecision::default() });
        }
        text += &(row(ExportAs::Ocsf, &one).unwrap().replace(env!("CARGO_PKG_VERSION"), "VERSION") + "\n");
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/evidence/ocsf.jsonl");
    if std::env::var_os("LEGATE_BLESS").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    assert!(std::fs::read_to_string(file).unwrap() == text, "write tests/evidence/ocsf.jsonl anew with LEGATE_BLESS=1");
}

#[test]
fn a_decision_says_who_may_not_do_what_and_why() {
    let mut one = event("decision.made");
    let inner = one.event.as_mut().unwrap();
    inner.action = "invoice:read".into();
    inner.outcome = Outcome::Denied.into();
    inner.reason_code = "FORBIDDEN".into();
    inner.subject = "user:ada@example.com".into();
    inner.resource = Some(EventResource { r#type: "Invoice".into(), id: "7".into(), ..EventResource::default() });
    let determining = vec!["policy:payments/no@3".to_owned()];
    inner.decision = Some(EventDecision { decision_id: "dec_1".into(), determining, ..EventDecision::default() });
    let out = written(ExportAs::Ocsf, &one);
    assert_eq!((&out["activity_id"], &out["action_id"], &out["status_id"]), (&2.into(), &2.into(), &2.into()));
    assert_eq!(out["api"]["operation"], "invoice:read");
    assert_eq!(out["resources"][0]["uid"], "7");
    assert_eq!(out["authorizations"][0]["policy"]["uid"], "policy:payments/no@3");
    assert_eq!(out["message_context"]["ai_role_id"], 4);
    assert_eq!(out["metadata"]["profiles"], serde_json::json!(["ai_operation", "security_control", "trace"]));
    assert_eq!(out["unmapped"]["subject"], "user:ada@example.com");
}

#[test]
fn a_cloud_event_has_its_attributes_and_the_whole_event() {
    let out = written(ExportAs::Cloudevents, &event("agent.suspended"));
    for (name, value) in [
        ("specversion", "1.0"),
        ("id", "evt_1"),
        ("source", "spiffe://dev.legate/legate/registry"),
        ("type", "legate.agent.suspended"),
        ("subject", "agt_1"),
        ("time", "2027-01-15T08:00:00.123Z"),
        ("leafindex", "5000000000"),
        ("leafhash", &"ab".repeat(32)),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        assert_eq!(out[name], value, "{name}");
    }
    assert_eq!(out["data"]["eventId"], "evt_1");
    let names = out.as_object().unwrap().keys();
    assert!(names.into_iter().all(|name| name.len() <= 20 && name.bytes().all(|b| b.is_ascii_lowercase())), "{out}");
    let jsonl = written(ExportAs::Jsonl, &event("agent.suspended"));
    assert_eq!(jsonl["leafIndex"], "5000000000");
}

/// The JSON of OTLP (specification 1.11, "JSON Protobuf Encoding"): ids in hexadecimal digits, 64-bit numbers as texts.
#[test]
fn a_log_record_of_opentelemetry_says_everything_and_is_the_same_in_both_encodings() {
    let mut one = event("decision.made");
    let inner = one.event.as_mut().unwrap();
    inner.outcome = Outcome::Denied.into();
    inner.action = "invoice:read".into();
    inner.resource = Some(EventResource { r#type: "Invoice".into(), id: "7".into(), ..EventResource::default() });
    inner.decision = Some(EventDecision { decision_id: "dec_1".into(), ..EventDecision::default() });
    inner.details = [("scope".to_owned(), "a b".to_owned())].into();
    inner.revision = 7;
    let out = written(ExportAs::Otlp, &one);
    let logs = &out["resourceLogs"][0];
    let of = |all: &Value, key: &str| {
        let found = all.as_array().unwrap().iter().find(|one| one["key"] == key).map(|one| one["value"].clone());
        found.unwrap_or_default()
    };
    let text = |text: &str| serde_json::json!({ "stringValue": text });
    assert_eq!(of(&logs["resource"]["attributes"], "service.name"), text("registry"));
    let record = &logs["scopeLogs"][0]["logRecords"][0];
    for (name, value) in [
        ("timeUnixNano", "1800000000123000000"),
        ("eventName", "legate.decision.made"),
        ("severityText", "WARN"),
        ("traceId", "0af7651916cd43dd8448eb211c80319c"),
        ("spanId", "b7ad6b7169203331"),
    ] {
        assert_eq!(record[name], value, "{name}");
    }
    assert_eq!(record["severityNumber"], 13);
    assert_eq!(record["body"], text("decision.made ada invoice:read Invoice:7"));
    for (key, value) in [
        ("legate.leaf.index", serde_json::json!({ "intValue": "5000000000" })),
        ("legate.leaf.hash", text(&"ab".repeat(32))),
        ("legate.event.id", text("evt_1")),
        ("legate.action", text("invoice:read")),
        ("legate.outcome", text("DENIED")),
        ("legate.decision.id", text("dec_1")),
        ("legate.decision.allowed", serde_json::json!({ "boolValue": false })),
        ("legate.revision", serde_json::json!({ "intValue": "7" })),
        ("legate.detail.scope", text("a b")),
    ] {
        assert_eq!(of(&record["attributes"], key), value, "{key}");
    }
    let sent =
        super::request(std::slice::from_ref(&one)).resource_logs.remove(0).scope_logs.remove(0).log_records.remove(0);
    assert_eq!(sent.attributes.len(), record["attributes"].as_array().unwrap().len());
    assert_eq!((sent.trace_id.len(), sent.span_id.len(), sent.time_unix_nano), (16, 8, 1_800_000_000_123_000_000));
    // What has no ids, or none that are ids, says none.
    let inner = one.event.as_mut().unwrap();
    (inner.trace_id, inner.span_id) = ("xyz".into(), String::new());
    let record = written(ExportAs::Otlp, &one)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0].clone();
    assert!(record.get("traceId").is_none() && record.get("spanId").is_none(), "{record}");
}
