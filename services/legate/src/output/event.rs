//! Audit events for people: who, what, when, on what, how it ended, and its place in the log.

use legate_wire::audit::{AuditEvent, IndexedEvent};

use super::{Row, moment};
use crate::proto;

/// The last part of a SPIFFE ID: who, without where.
pub(super) fn short(id: &str) -> String {
    let path = id.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).map_or(id, |(_, path)| path);
    path.strip_prefix("legate/").unwrap_or(path).to_owned()
}

/// Long ids without their middles, for columns: `agt_..1n5cf2hh`. The whole id is in every other form.
pub(crate) fn brief(text: &str) -> String {
    let mut out = String::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id = word.len() >= 26 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        match is_id {
            true => out += &format!("..{}{}", &word[word.len() - 8..], &part[word.len()..]),
            false => out += part,
        }
    }
    out
}

fn what(event: &AuditEvent) -> String {
    let resource = event.resource.clone().unwrap_or_default();
    let on = if resource.r#type.is_empty() { String::new() } else { format!("{}:{}", resource.r#type, resource.id) };
    [event.action.as_str(), on.as_str()].iter().filter(|t| !t.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

/// How it ended, in a word or two.
fn outcome(event: &AuditEvent) -> String {
    let word = proto::word(event.outcome().as_str_name(), "OUTCOME_").to_owned();
    if event.reason_code.is_empty() { word } else { format!("{word} {}", event.reason_code) }
}

fn trust(of: &IndexedEvent) -> String {
    let word = proto::word(of.trust().as_str_name(), "TRUST_CLASS_");
    if word == "UNSPECIFIED" { String::new() } else { word.to_owned() }
}

fn mode(event: &AuditEvent) -> String {
    let word = proto::word(event.acting_mode().as_str_name(), "ACTING_MODE_");
    if word == "UNSPECIFIED" { String::new() } else { word.to_owned() }
}

/// An event in a list.
pub(crate) fn event_row(of: &IndexedEvent) -> Row {
    let event = of.event.clone().unwrap_or_default();
    let emitter = event.emitter.clone().unwrap_or_default();
    Row {
        cells: vec![
            ("LEAF", false, of.leaf_index.to_string()),
            ("TIME", false, moment(event.time.as_ref())),
            ("EVENT", false, event.r#type.clone()),
            ("WHO", false, brief(&short(&event.actor))),
            ("WHAT", false, brief(&what(&event))),
            ("OUTCOME", false, outcome(&event)),
            ("REVISION", false, if event.revision == 0 { String::new() } else { event.revision.to_string() }),
            ("MODE", true, mode(&event)),
            ("WHERE", true, short(&emitter.spiffe_id)),
            ("TRUST", true, trust(of)),
            ("AGENT", true, event.agent_id.clone()),
            ("REASON", true, event.reason.clone()),
            ("TRACE", true, event.trace_id.clone()),
            ("ID", true, event.event_id.clone()),
        ],
        name: event.event_id.clone(),
        message: proto::dynamic(of),
        node: None,
    }
}

/// An event by itself.
pub(crate) fn event_details(event: &AuditEvent) -> Vec<(&'static str, String)> {
    let emitter = event.emitter.clone().unwrap_or_default();
    let decision = event.decision.clone().unwrap_or_default();
    vec![
        ("event", format!("{} {}", event.event_id, event.r#type)),
        ("time", moment(event.time.as_ref())),
        ("who", event.actor.clone()),
        ("agent", event.agent_id.clone()),
        ("acting mode", mode(event)),
        ("what", what(event)),
        ("outcome", outcome(event)),
        ("reason", event.reason.clone()),
        ("decision", decision.decision_id),
        ("determined by", decision.determining.join(", ")),
        ("told by", format!("{} (epoch {}, seq {})", emitter.spiffe_id, emitter.epoch, emitter.seq)),
        ("trace", event.trace_id.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lose_their_middles_and_names_do_not() {
        assert_eq!(brief("Credential:cred_01m871wsmsecba111q9850jymk"), "Credential:cred_..9850jymk");
        assert_eq!(brief("ns/payments/agent/agt_01m871wqwrek3arwsw1hkcc2jw"), "ns/payments/agent/agt_..1hkcc2jw");
        assert_eq!(brief("invoice:read Invoice:apollo/1001"), "invoice:read Invoice:apollo/1001");
        assert_eq!(short("spiffe://dev.legate/legate/operator/dev"), "operator/dev");
    }
}
