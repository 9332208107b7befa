//! An event in the schema of OCSF 1.8.0: which class it is of, and what of it has a place there; the rest is `unmapped`.

use legate_clock::Timestamp;
use legate_wire::audit::{AuditEvent, IndexedEvent, Outcome};
use serde_json::{Map, Value, json};

use super::{emitter, last, message, who};
use crate::evidence::hex;
use crate::proto;

const VERSION: &str = "1.8.0";

/// Something else than what the schema has a number for.
const OTHER: u32 = 99;

/// The classes of OCSF that events of the log are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Something was decided or asked: what an agent does, and who read the log.
    ApiActivity,
    /// What an agent may carry was handed out.
    AuthorizeSession,
    /// Somebody proved who he is, or did not.
    Authentication,
    /// Something that is declared or held came, changed or went.
    EntityManagement,
    /// Something that nobody hopes for.
    DetectionFinding,
    /// Evidence and reviews.
    ComplianceFinding,
}

impl Class {
    /// By the type of the event: what it is about, and what became of it.
    fn of(kind: &str) -> Self {
        let (noun, verb) = kind.split_once('.').unwrap_or((kind, ""));
        match (noun, verb) {
            ("alert" | "anomaly", _)
            | ("decision", "diverged")
            | ("credential", "leaked" | "key_compromised")
            | ("enrolment", "repeated")
            | ("operator", "broke_glass") => Self::DetectionFinding,
            ("review" | "certification" | "evidence", _) | ("log", "evidence_made") => Self::ComplianceFinding,
            ("access" | "login", _) | ("token" | "svid" | "enrolment" | "operator" | "batch", "refused") => {
                Self::Authentication
            }
            ("token" | "svid" | "issuance", _) => Self::AuthorizeSession,
            ("decision" | "decisions" | "log" | "authority" | "change" | "action" | "activity", _) => Self::ApiActivity,
            _ => Self::EntityManagement,
        }
    }

    fn numbers(self) -> (u32, &'static str, &'static str) {
        match self {
            Self::ApiActivity => (6003, "API Activity", "Application Activity"),
            Self::AuthorizeSession => (3003, "Authorize Session", "Identity & Access Management"),
            Self::Authentication => (3002, "Authentication", "Identity & Access Management"),
            Self::EntityManagement => (3004, "Entity Management", "Identity & Access Management"),
            Self::DetectionFinding => (2004, "Detection Finding", "Findings"),
            Self::ComplianceFinding => (2003, "Compliance Finding", "Findings"),
        }
    }

    /// What was done, as a number of the class and its name there.
    fn activity(self, event: &AuditEvent) -> (u32, &'static str) {
        let verb = event.r#type.split_once('.').map_or("", |(_, verb)| verb);
        match self {
            Self::ApiActivity => match done(event, verb) {
                "create" | "add" | "insert" | "send" | "pay" | "write" => (1, "Create"),
                "read" | "list" | "get" | "view" | "search" | "queried" | "proved" | "tailed" | "usage_read" => {
                    (2, "Read")
                }
                "update" | "edit" | "change" | "approve" => (3, "Update"),
                "delete" | "remove" | "cancel" => (4, "Delete"),
                _ => (OTHER, "Other"),
            },
            Self::AuthorizeSession if matches!(verb, "issued" | "exchanged" | "decided") => (1, "Assign Privileges"),
            Self::Authentication => (1, "Logon"),
            Self::EntityManagement => match verb {
                "created" | "spawned" | "issued" | "stated" | "prepared" | "requested" | "delegated" => (1, "Create"),
                "updated" => (3, "Update"),
                "revoked" | "retired" | "ended" | "deleted" => (4, "Delete"),
                "activated" => (10, "Activate"),
                "expired" | "orphaned" => (11, "Deactivate"),
                "suspended" | "quarantined" => (12, "Suspend"),
                "resumed" => (13, "Resume"),
                _ => (OTHER, "Other"),
            },
            Self::DetectionFinding | Self::ComplianceFinding => (1, "Create"),
            Self::AuthorizeSession => (OTHER, "Other"),
        }
    }
}

/// The last word of the action, or what became of the noun.
fn done<'a>(event: &'a AuditEvent, verb: &'a str) -> &'a str {
    if event.action.is_empty() { verb } else { event.action.rsplit([':', '.', '/']).next().unwrap_or(verb) }
}

pub(super) fn event(of: &IndexedEvent) -> Value {
    let event = of.event.clone().unwrap_or_default();
    let class = Class::of(&event.r#type);
    let (class_uid, class_name, category_name) = class.numbers();
    let (activity_id, activity) = class.activity(&event);
    let is_finding = matches!(class, Class::DetectionFinding | Class::ComplianceFinding);
    let millis = event.time.and_then(|t| Timestamp::try_from(t).ok()).map_or(0, |t| t.micros().div_euclid(1_000));
    let (status_id, status) = match event.outcome() {
        _ if is_finding => (1, "New"),
        Outcome::Success => (1, "Success"),
        Outcome::Denied | Outcome::Failure => (2, "Failure"),
        Outcome::Unspecified => (0, "Unknown"),
    };
    let (severity_id, severity) = match (class, event.outcome()) {
        (Class::DetectionFinding, _) => (4, "High"),
        (_, Outcome::Failure) => (3, "Medium"),
        (_, Outcome::Denied) => (2, "Low"),
        _ => (1, "Informational"),
    };
    let mut out = Map::new();
    for (name, value) in [
        ("class_uid", json!(class_uid)),
        ("class_name", json!(class_name)),
        ("category_uid", json!(class_uid / 1_000)),
        ("category_name", json!(category_name)),
        ("activity_id", json!(activity_id)),
        ("activity_name", json!(if activity_id == OTHER { event.r#type.as_str() } else { activity })),
        ("type_uid", json!(class_uid * 100 + activity_id)),
        ("type_name", json!(format!("{class_name}: {activity}"))),
        ("severity_id", json!(severity_id)),
        ("severity", json!(severity)),
        ("status_id", json!(status_id)),
        ("status", json!(status)),
        ("time", json!(millis)),
        ("message", json!(message(&event))),
        ("unmapped", unmapped(of, &event)),
    ] {
        out.insert(name.to_owned(), value);
    }
    put(&mut out, "status_code", &event.reason_code);
    put(&mut out, "status_detail", &event.reason);
    let profiles = of_class(class, &event, &mut out);
    out.insert("metadata".to_owned(), metadata(of, &event, &profiles));
    Value::Object(out)
}

fn put(out: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        out.insert(name.to_owned(), text.into());
    }
}

/// What only this class has; the profiles that it takes.
fn of_class(class: Class, event: &AuditEvent, out: &mut Map<String, Value>) -> Vec<&'static str> {
    let mut set = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
    let whom = || person(if event.agent_id.is_empty() { &event.actor } else { &event.agent_id });
    match class {
        Class::ApiActivity => {
            set("actor", actor(event));
            let asked = if event.action.is_empty() { &event.r#type } else { &event.action };
            set("api", json!({ "operation": asked, "service": { "name": emitter(event) } }));
            set("src_endpoint", json!({ "name": who(event) }));
            if let Some(resource) = resource(event) {
                set("resources", json!([resource]));
            }
            let mut profiles = Vec::new();
            if !event.agent_id.is_empty() {
                let role = json!({ "name": event.agent_id, "application": { "uid": event.agent_id, "name": event.agent_id },
                    "ai_role_id": 4, "ai_role": "Agent" });
                set("message_context", role);
                profiles.push("ai_operation");
            }
            if let Some(decision) = &event.decision {
                let (id, word) = if decision.allowed { (1, "Allowed") } else { (2, "Denied") };
                set("action_id", json!(id));
                set("action", json!(word));
                let by = decision.determining.iter().map(|one| json!({ "decision": word, "policy": { "uid": one } }));
                if !decision.determining.is_empty() {
                    set("authorizations", by.collect());
                }
                profiles.push("security_control");
            }
            if !event.trace_id.is_empty() {
                set("trace", json!({ "uid": event.trace_id }));
                profiles.push("trace");
            }
            return profiles;
        }
        Class::AuthorizeSession => {
            set("actor", actor(event));
            set("user", whom());
            let scopes = event.details.get("scope").or_else(|| event.details.get("scopes"));
            let scopes: Vec<&str> = scopes.map(|all| all.split_whitespace().collect()).unwrap_or_default();
            set("privileges", if scopes.is_empty() { json!([done(event, &event.r#type)]) } else { json!(scopes) });
            if !event.credential_id.is_empty() {
                set("session", json!({ "credential_uid": event.credential_id }));
            }
        }
        Class::Authentication => {
            set("actor", actor(event));
            set("user", whom());
            set("service", json!({ "name": emitter(event) }));
        }
        Class::EntityManagement => {
            set("actor", actor(event));
            let of = event.resource.clone().unwrap_or_default();
            let mut entity = Map::new();
            let (kind, id) = match (of.r#type.as_str(), event.agent_id.as_str()) {
                ("", "") => (event.r#type.split('.').next().unwrap_or_default(), event.event_id.as_str()),
                ("", agent) => ("Agent", agent),
                (kind, agent) => (kind, if of.id.is_empty() { agent } else { of.id.as_str() }),
            };
            put(&mut entity, "type", kind);
            put(&mut entity, "uid", id);
            put(&mut entity, "name", if id.is_empty() { kind } else { id });
            entity.insert("type_id".to_owned(), OTHER.into());
            set("entity", Value::Object(entity));
            if !event.reason.is_empty() {
                set("comment", json!(event.reason));
            }
        }
        Class::DetectionFinding => {
            set("finding_info", finding(event));
            set("evidences", json!([{ "actor": actor(event), "data": { "event_uid": event.event_id } }]));
            set("is_alert", json!(true));
        }
        Class::ComplianceFinding => {
            set("finding_info", finding(event));
            set("compliance", json!({ "control": event.r#type, "status_id": 0, "status": "Unknown" }));
        }
    }
    Vec::new()
}

fn finding(event: &AuditEvent) -> Value {
    json!({ "uid": event.event_id, "title": event.r#type, "desc": message(event) })
}

fn person(id: &str) -> Value {
    match id {
        "" => json!({ "name": "unknown", "type_id": 0 }),
        id if id.contains("/operator/") => json!({ "uid": id, "name": last(id), "type_id": 2, "type": "Admin" }),
        id if id.starts_with("user:") => json!({ "uid": id, "name": id, "type_id": 1, "type": "User" }),
        id => json!({ "uid": id, "name": last(id), "type_id": 4, "type": "Service" }),
    }
}

fn actor(event: &AuditEvent) -> Value {
    match event.actor.as_str() {
        "" => json!({ "app_name": emitter(event) }),
        id => json!({ "user": person(id), "app_name": emitter(event) }),
    }
}

fn resource(event: &AuditEvent) -> Option<Value> {
    let of = event.resource.as_ref().filter(|of| !of.r#type.is_empty() || !of.id.is_empty())?;
    let mut out = Map::new();
    put(&mut out, "type", &of.r#type);
    put(&mut out, "uid", &of.id);
    put(&mut out, "name", if of.id.is_empty() { &of.r#type } else { &of.id });
    // Their own places are in the profile of clouds, which wants a cloud.
    let labels = [("data_classification", &of.data_classification), ("region", &of.region)];
    let labels: Vec<String> =
        labels.iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| format!("{name}:{text}")).collect();
    if !labels.is_empty() {
        out.insert("labels".to_owned(), json!(labels));
    }
    Some(Value::Object(out))
}

fn metadata(of: &IndexedEvent, event: &AuditEvent, profiles: &[&str]) -> Value {
    let mut out = Map::new();
    out.insert("version".to_owned(), VERSION.into());
    let version = env!("CARGO_PKG_VERSION");
    out.insert("product".to_owned(), json!({ "name": "Legate", "vendor_name": "Legate", "version": version }));
    out.insert("sequence".to_owned(), of.leaf_index.into());
    put(&mut out, "uid", &event.event_id);
    put(&mut out, "event_code", &event.r#type);
    put(&mut out, "log_name", "audit-log");
    put(&mut out, "log_provider", emitter(event));
    put(&mut out, "tenant_uid", &event.namespace);
    put(&mut out, "correlation_uid", &event.correlation_id);
    put(&mut out, "original_time", &super::time(event));
    if !profiles.is_empty() {
        out.insert("profiles".to_owned(), json!(profiles));
    }
    Value::Object(out)
}

/// Everything by which the event is found again in the log, and what OCSF has no place for.
fn unmapped(of: &IndexedEvent, event: &AuditEvent) -> Value {
    let mut out = Map::new();
    out.insert("leaf_index".to_owned(), of.leaf_index.into());
    out.insert("leaf_hash".to_owned(), hex(&of.leaf_hash).into());
    let emitter = event.emitter.clone().unwrap_or_default();
    out.insert("emitter".to_owned(), json!({ "uid": emitter.spiffe_id, "epoch": emitter.epoch, "seq": emitter.seq }));
    for (name, text) in [
        ("agent_id", &event.agent_id),
        ("instance_id", &event.instance_id),
        ("subject", &event.subject),
        ("grant_id", &event.grant_id),
        ("credential_id", &event.credential_id),
        ("approver", &event.approver),
        ("trace_id", &event.trace_id),
        ("span_id", &event.span_id),
        ("cause_id", &event.cause_id),
    ] {
        put(&mut out, name, text);
    }
    if !event.chain.is_empty() {
        out.insert("chain".to_owned(), json!(event.chain));
    }
    if event.acting_mode != 0 {
        let mode = proto::word(event.acting_mode().as_str_name(), "ACTING_MODE_");
        out.insert("acting_mode".to_owned(), mode.into());
    }
    if event.revision != 0 {
        out.insert("revision".to_owned(), event.revision.into());
    }
    if let Some(decision) = &event.decision {
        let told = json!({ "uid": decision.decision_id, "denial": decision.denial, "determining": decision.determining,
            "log_only": decision.log_only });
        out.insert("decision".to_owned(), told);
    }
    if !event.details.is_empty() {
        out.insert("details".to_owned(), json!(event.details));
    }
    Value::Object(out)
}
