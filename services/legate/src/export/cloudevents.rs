//! An event as a CloudEvent (CloudEvents 1.0.2, JSON format 1.0): the attributes that routers look at, and the whole event as data.

use legate_wire::audit::IndexedEvent;
use serde_json::{Map, Value, json};

use crate::evidence::hex;
use crate::proto;

pub(super) fn event(of: &IndexedEvent) -> serde_json::Result<Value> {
    let event = of.event.clone().unwrap_or_default();
    let emitter = event.emitter.clone().unwrap_or_default();
    let mut out = Map::new();
    let mut put = |name: &str, value: String| {
        // An attribute that has no value is left out.
        if !value.is_empty() {
            out.insert(name.to_owned(), value.into());
        }
    };
    put("specversion", "1.0".to_owned());
    put("id", event.event_id.clone());
    put("source", emitter.spiffe_id);
    put("type", format!("legate.{}", event.r#type));
    put("subject", if event.agent_id.is_empty() { resource(&event) } else { event.agent_id.clone() });
    put("time", super::time(&event));
    put("datacontenttype", "application/json".to_owned());
    // Extensions have names of lower-case letters and digits; numbers of them have 32 bits.
    put("leafindex", of.leaf_index.to_string());
    put("leafhash", hex(&of.leaf_hash));
    put("partitionkey", event.agent_id.clone());
    if !event.trace_id.is_empty() && !event.span_id.is_empty() {
        put("traceparent", format!("00-{}-{}-01", event.trace_id, event.span_id));
    }
    let data: Value = serde_json::from_str(&proto::json(&proto::dynamic(&event), false)?)?;
    out.insert("data".to_owned(), data);
    Ok(json!(out))
}

fn resource(event: &legate_wire::audit::AuditEvent) -> String {
    let of = event.resource.clone().unwrap_or_default();
    if of.r#type.is_empty() { of.id } else { format!("{}:{}", of.r#type, of.id) }
}
