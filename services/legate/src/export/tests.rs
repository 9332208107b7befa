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
        ("token.issued", 3003, 1),
        ("token.exchanged", 3003, 1),
        ("token.refused", 3002, 1),
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
