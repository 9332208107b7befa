//! What a receiver is told of an alert, or of what a lifecycle policy does to an agent.

use bytes::Bytes;
use legate_clock::Timestamp;
use legate_wire::audit::AuditEvent;
use serde_json::json;

/// The body of the event at `leaf`.
pub(super) fn of(leaf: u64, event: &AuditEvent) -> Bytes {
    if event.r#type.starts_with("agent.") { notice(leaf, event) } else { alert(leaf, event) }
}

/// What a lifecycle policy will do to an agent, would have done, or did not do.
fn notice(leaf: u64, event: &AuditEvent) -> Bytes {
    let time = event.time.and_then(|t| Timestamp::try_from(t).ok()).unwrap_or_default();
    let mut data = json!({
        "namespace": event.namespace,
        "agent_id": event.agent_id,
        "agent": event.resource.as_ref().map(|agent| agent.id.as_str()).unwrap_or_default(),
        "text": event.reason,
        "leaf_index": leaf,
    });
    let told = [
        "policy",
        "rule",
        "action",
        "due_time",
        "act_time",
        "below",
        "alert_id",
        "alert_type",
        "capped_by",
        "max_agents",
    ];
    for name in told {
        if let Some(text) = event.details.get(name) {
            data[name] = text.trim_start_matches("ALERT_TYPE_").into();
        }
    }
    let body = json!({ "type": event.r#type, "timestamp": time.to_string(), "data": data });
    body.to_string().into()
}

fn alert(leaf: u64, event: &AuditEvent) -> Bytes {
    let detail = |name: &str| event.details.get(name).map(String::as_str).unwrap_or_default();
    let word = |name: &str, before: &str| detail(name).trim_start_matches(before).to_owned();
    let time = event.time.and_then(|t| Timestamp::try_from(t).ok()).unwrap_or_default();
    let leaves: Vec<u64> = detail("leaves").split_whitespace().filter_map(|leaf| leaf.parse().ok()).collect();
    let body = json!({
        "type": event.r#type,
        "timestamp": time.to_string(),
        "data": {
            "alert_id": detail("alert_id"),
            "alert_type": word("alert_type", "ALERT_TYPE_"),
            "severity": word("severity", "ALERT_SEVERITY_"),
            "namespace": event.namespace,
            "agent_id": event.agent_id,
            "text": event.reason,
            "by": event.actor,
            "leaf_index": leaf,
            "rests_on": leaves,
        },
    });
    body.to_string().into()
}
