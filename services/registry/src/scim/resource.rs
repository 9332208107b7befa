//! An agent as a SCIM resource.

use legate_clock::Timestamp;
use legate_wire::registry::{Agent, AgentState};
use serde_json::{Map, Value, json};

use super::attribute::{self, ALL, CORE, Home, Mutability, OURS, Shape};
use crate::domain::lifecycle;

/// Where an agent is found.
pub(super) fn location(url: &str, agent: &Agent) -> String {
    let metadata = agent.metadata.clone().unwrap_or_default();
    format!("{url}/ns/{}/scim/v2/Agents/{}", metadata.namespace, metadata.id)
}

/// Its version, as an entity tag (RFC 7644 section 3.14).
pub(super) fn version(agent: &Agent) -> String {
    format!("W/\"{}\"", agent.metadata.as_ref().map(|metadata| metadata.etag.as_str()).unwrap_or_default())
}

/// The whole resource. What is not set is left out.
pub(super) fn resource(url: &str, agent: &Agent) -> Map<String, Value> {
    let metadata = agent.metadata.clone().unwrap_or_default();
    let status = agent.status.clone().unwrap_or_default();
    let mut spec = agent.spec.clone().unwrap_or_default();
    let (mut core, mut ours) = (Map::new(), Map::new());
    for a in ALL.iter().filter(|a| a.mutability == Mutability::ReadWrite) {
        let value = match a.shape {
            Shape::Text => attribute::text(&mut spec, a.name).filter(|text| !text.is_empty()).map(|text| json!(text)),
            Shape::Texts => attribute::list(&mut spec, a.name).filter(|all| !all.is_empty()).map(|all| json!(all)),
            Shape::People => attribute::list(&mut spec, a.name)
                .map(|all| all.iter().map(|value| json!({"value": value})).collect::<Vec<_>>())
                .map(Value::Array),
            Shape::Word(words) => attribute::word(&mut spec, a.name)
                .and_then(|number| words.get(usize::try_from(*number).ok()?.checked_sub(1)?))
                .map(|word| json!(word)),
            Shape::Moment => moment(spec.expire_time),
            Shape::Flag => Some(json!(status.state() == AgentState::Active)),
            Shape::Number | Shape::Parts => None,
        };
        let within = if a.home == Home::Ours { &mut ours } else { &mut core };
        within.extend(value.map(|value| (a.name.to_owned(), value)));
    }
    ours.insert("namespace".into(), metadata.namespace.clone().into());
    ours.insert("spiffeId".into(), status.spiffe_id.clone().into());
    ours.insert("state".into(), lifecycle::state_name(status.state()).to_ascii_lowercase().into());
    ours.insert("stateReason".into(), status.state_reason.clone().into());
    ours.insert("lifecycleVersion".into(), status.lifecycle_version.into());
    core.insert("schemas".into(), json!([CORE, OURS]));
    core.insert("id".into(), metadata.id.clone().into());
    core.insert("agentUserName".into(), metadata.name.clone().into());
    core.insert(
        "meta".into(),
        json!({
            "resourceType": "Agent",
            "created": moment(metadata.create_time),
            "lastModified": moment(metadata.update_time),
            "version": version(agent),
            "location": location(url, agent),
        }),
    );
    core.insert(OURS.into(), ours.into());
    core
}

fn moment(at: Option<prost_types::Timestamp>) -> Option<Value> {
    at.and_then(|at| Timestamp::try_from(at).ok()).map(|at| json!(at.to_string()))
}
