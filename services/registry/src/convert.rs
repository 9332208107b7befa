//! Audit events of what happened here: what changed, who changed it and why, and what was refused.

use std::collections::BTreeMap;
use std::time::Duration;

use legate_authority::Place;
use legate_clock::Timestamp;
use legate_rpc::{Fault, TraceContext};
use legate_wire::audit::{AuditEvent, EventResource, Outcome};
use legate_wire::registry::cut_off::Level;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Agent, Declaration, Departure, FieldChange, Kind, LifecycleAction, OperatorBinding, Review, ReviewItem,
    RevocationSpec,
};

use crate::domain::kind::{Key, kind_name};
use crate::domain::lifecycle_policy::Due;
use crate::domain::{approval, lifecycle, review, standing, stop};
use crate::flow::By;

/// The longest text in an event, in bytes.
const LONGEST: usize = 4_096;
/// Fields of one object that an event tells one by one; it holds 32 details at most.
const MOST_FIELDS: usize = 20;

/// Cuts a text at a character.
fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

fn event(by: &By, kind: String, outcome: Outcome, now: Timestamp) -> AuditEvent {
    AuditEvent {
        time: Some(now.into()),
        r#type: kind,
        actor: by.actor.clone(),
        outcome: outcome.into(),
        reason: cut(by.reason.clone()),
        trace_id: by.trace.trace_id.clone(),
        span_id: by.trace.span_id.clone(),
        ..AuditEvent::default()
    }
}

/// The noun of a kind's events, such as `role_binding`.
fn noun(kind: Kind) -> String {
    kind.as_str_name().trim_start_matches("KIND_").to_ascii_lowercase()
}

/// An object was written or taken back.
pub(crate) fn object_event(
    by: &By,
    key: &Key,
    declaration: &Declaration,
    verb: &str,
    fields: &[FieldChange],
    now: Timestamp,
) -> AuditEvent {
    let mut details = BTreeMap::new();
    for field in fields.iter().take(MOST_FIELDS) {
        let before = if field.before.is_empty() { "(unset)" } else { &field.before };
        let after = if field.after.is_empty() { "(unset)" } else { &field.after };
        details.insert(field.path.clone(), cut(format!("{before} -> {after}")));
    }
    if fields.len() > MOST_FIELDS {
        details.insert("fields_changed".to_owned(), fields.len().to_string());
    }
    let mut event = event(by, format!("{}.{verb}", noun(key.kind)), Outcome::Success, now);
    event.namespace = match key.kind {
        Kind::Namespace => key.name.clone(),
        _ => key.namespace.clone(),
    };
    event.resource = Some(EventResource {
        r#type: kind_name(key.kind).to_owned(),
        id: key.name.clone(),
        ..EventResource::default()
    });
    match &declaration.object {
        Some(Object::Agent(agent)) => {
            event.agent_id = agent.metadata.as_ref().map(|m| m.id.clone()).unwrap_or_default();
            let status = agent.status.clone().unwrap_or_default();
            details.insert("state".to_owned(), lifecycle::state_name(status.state()).to_owned());
            details.insert("lifecycle_version".to_owned(), status.lifecycle_version.to_string());
            details.insert("spiffe_id".to_owned(), status.spiffe_id);
            for (name, at) in [("orphaned_time", status.orphaned_time), ("suspend_after", status.suspend_after)] {
                let at = at.and_then(|at| Timestamp::try_from(at).ok());
                details.extend(at.map(|at| (name.to_owned(), at.to_string())));
            }
            if let Some(maker) = status.ancestors.first() {
                details.insert("made_by".to_owned(), maker.clone());
            }
        }
        Some(Object::Namespace(_) | Object::AgentClass(_)) => {
            if let Some(cutoff) = standing::cutoff_of(declaration) {
                details.insert("authorization_cutoff".to_owned(), cutoff.to_string());
            }
        }
        Some(Object::DelegationGrant(grant)) => {
            let consent = grant.spec.as_ref().and_then(|spec| spec.consent.clone()).unwrap_or_default();
            let signed_in = consent.auth_time.and_then(|at| Timestamp::try_from(at).ok());
            let said = [
                ("consent_method", consent.method),
                ("consent_text_sha256", consent.sha256),
                ("consent_issuer", consent.issuer),
                ("consent_subject", cut(consent.subject)),
                ("consent_token_sha256", consent.token_sha256),
                ("consent_auth_time", signed_in.map(|at| at.to_string()).unwrap_or_default()),
                ("consent_acr", consent.acr),
            ];
            let said = said.into_iter().filter(|(_, text)| !text.is_empty());
            details.extend(said.map(|(name, text)| (name.to_owned(), text)));
        }
        Some(Object::Approval(approval)) => {
            let (spec, status) =
                (approval.spec.clone().unwrap_or_default(), approval.status.clone().unwrap_or_default());
            details.insert("state".to_owned(), approval::word(status.state()).to_owned());
            let asked = spec.permissions.iter().map(|one| {
                let of = one.resource.clone().unwrap_or_default();
                format!("{} on {}:{}", one.action, of.r#type, if of.id.is_empty() { "*" } else { &of.id })
            });
            let policies = spec.policies.iter().map(|held| format!("{}@{}", held.name, held.version));
            let window = [("not_before", status.not_before), ("not_after", status.not_after)];
            for (name, at) in window {
                let at = at.and_then(|at| Timestamp::try_from(at).ok());
                details.extend(at.map(|at| (name.to_owned(), at.to_string())));
            }
            for (name, text) in [
                ("asked", asked.collect::<Vec<_>>().join(", ")),
                ("policies", policies.collect::<Vec<_>>().join(" ")),
                ("audience", spec.audience),
                ("purpose", spec.purpose),
                ("requester", spec.requester),
                ("approver", status.decided_by),
            ] {
                if !text.is_empty() {
                    details.insert(name.to_owned(), cut(text));
                }
            }
            event.agent_id = spec.agent_id;
        }
        Some(Object::StopOrder(order)) => {
            let (whom, agent) = stop::told(order);
            details.insert("stopped".to_owned(), cut(whom));
            details.insert("where".to_owned(), Place::of(&key.namespace).to_string());
            let cutoff = standing::cutoff_of(declaration);
            details.extend(cutoff.map(|at| ("authorization_cutoff".to_owned(), at.to_string())));
            event.agent_id = agent;
        }
        Some(Object::OperatorBinding(binding)) => details.extend(given_by(binding)),
        Some(Object::Revocation(revocation)) => {
            let spec = revocation.spec.clone().unwrap_or_default();
            details.extend(cut_off_of(&spec, &key.namespace));
            if spec.cut_off.is_none() {
                details.insert("spiffe_id".to_owned(), spec.spiffe_id);
            }
            event.credential_id = spec.credential_id;
        }
        _ => {}
    }
    if let Some(metadata) = declaration.metadata() {
        details.insert("object_id".to_owned(), metadata.id.clone());
        details.insert("version".to_owned(), metadata.version.to_string());
    }
    event.details = details;
    event
}

/// What an operator binding gives, whole: audit-collector learns from it who may read what, since it asks nobody.
fn given_by(binding: &OperatorBinding) -> BTreeMap<String, String> {
    let spec = binding.spec.clone().unwrap_or_default();
    let time = |at: Option<prost_types::Timestamp>| at.and_then(|at| Timestamp::try_from(at).ok());
    let role = spec.role().as_str_name().trim_start_matches("OPERATOR_ROLE_").to_owned();
    let window = [("not_before", time(spec.not_before)), ("not_after", time(spec.not_after))];
    let window = window.into_iter().filter_map(|(name, at)| Some((name.to_owned(), at?.to_string())));
    // 64 names of 63 bytes at most: never cut.
    let whom = [("operators".to_owned(), spec.operators.join(" ")), ("role".to_owned(), role)];
    whom.into_iter().chain(window).collect()
}

/// The registry is about to tell every operator binding in force.
pub(crate) fn operators_stated(by: &By, bindings: usize, now: Timestamp) -> AuditEvent {
    let details = BTreeMap::from([("bindings".to_owned(), bindings.to_string())]);
    AuditEvent { details, ..event(by, "operators.stated".to_owned(), Outcome::Success, now) }
}

/// Whom a cut-off names, up to when, and why in the words of RFC 5280.
fn cut_off_of(spec: &RevocationSpec, namespace: &str) -> BTreeMap<String, String> {
    let Some(cut_off) = &spec.cut_off else { return BTreeMap::new() };
    let whom = match cut_off.level.clone() {
        Some(Level::AgentClass(name)) => format!("class {name}"),
        Some(Level::Owner(name)) => format!("owner {name}"),
        Some(Level::Subject(name)) => format!("subject {name}"),
        Some(Level::WholeNamespace(_)) | None => "namespace".to_owned(),
    };
    let at = cut_off.authorization_cutoff.and_then(|at| Timestamp::try_from(at).ok());
    let told = [
        ("cut_off", whom),
        ("where", Place::of(namespace).to_string()),
        ("revocation_reason", spec.reason().as_str_name().trim_start_matches("REVOCATION_REASON_").to_owned()),
        ("authorization_cutoff", at.map(|at| at.to_string()).unwrap_or_default()),
    ];
    told.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
}

/// A person left, or a departure was taken back.
pub(crate) fn person_event(by: &By, verb: &str, departure: &Departure, now: Timestamp) -> AuditEvent {
    let mut event = event(by, format!("person.{verb}"), Outcome::Success, now);
    event.namespace.clone_from(&departure.namespace);
    let (r#type, id) = ("Person".to_owned(), departure.person.clone());
    event.resource = Some(EventResource { r#type, id, ..EventResource::default() });
    let grace = departure.grace.map(|grace| format!("{} s", grace.seconds)).unwrap_or_default();
    let said =
        [("successor", departure.successor.clone()), ("grace", grace), ("operators", departure.operators.join(" "))];
    let said = said.into_iter().filter(|(_, text)| !text.is_empty());
    event.details = said.map(|(name, text)| (name.to_owned(), text)).collect();
    event
}

/// A lifecycle policy does something to an agent later, or would have done it now; `below` says who is stopped or retired with it.
pub(crate) fn lifecycle_event(
    by: &By,
    verb: &str,
    agent: &Agent,
    below: &str,
    due: &Due,
    now: Timestamp,
) -> AuditEvent {
    let metadata = agent.metadata.clone().unwrap_or_default();
    let reason = due.reason(&metadata.namespace);
    let told = [
        ("policy", due.policy.clone()),
        ("policy_id", due.policy_id.clone()),
        ("rule", due.rule.as_str_name().trim_start_matches("LIFECYCLE_RULE_").to_owned()),
        ("action", action_word(due.action).to_owned()),
        ("due_time", due.due_at.to_string()),
        ("act_time", due.act_at.to_string()),
        ("below", below.to_owned()),
    ];
    AuditEvent { reason: cut(reason), ..about(by, verb, agent, &told, now) }
}

/// What became of an alert by lifecycle policies, where it is not that an agent was stopped.
pub(crate) fn alert_event(by: &By, verb: &str, agent: &Agent, told: &[(&str, String)], now: Timestamp) -> AuditEvent {
    about(by, verb, agent, told, now)
}

/// The word for what a lifecycle policy does.
pub(crate) fn action_word(action: LifecycleAction) -> &'static str {
    action.as_str_name().trim_start_matches("LIFECYCLE_ACTION_")
}

/// What is told of an agent that stays as it is.
fn about(by: &By, verb: &str, agent: &Agent, told: &[(&str, String)], now: Timestamp) -> AuditEvent {
    let metadata = agent.metadata.clone().unwrap_or_default();
    let mut event = event(by, format!("agent.{verb}"), Outcome::Success, now);
    event.agent_id = metadata.id;
    event.resource = Some(EventResource {
        r#type: kind_name(Kind::Agent).to_owned(),
        id: metadata.name,
        ..EventResource::default()
    });
    event.namespace = metadata.namespace;
    let told = told.iter().filter(|(_, text)| !text.is_empty());
    event.details = told.map(|(name, text)| ((*name).to_owned(), cut(text.clone()))).collect();
    event
}

/// A round of a review campaign took a step.
pub(crate) fn review_event(by: &By, verb: &str, of: &Review, said: Vec<(&str, String)>, now: Timestamp) -> AuditEvent {
    let mut event = event(by, format!("review.{verb}"), Outcome::Success, now);
    event.namespace.clone_from(&of.namespace);
    let (r#type, id) = ("Review".to_owned(), of.id.clone());
    event.resource = Some(EventResource { r#type, id, ..EventResource::default() });
    let known = [("campaign", of.campaign.clone()), ("round", of.number.to_string())];
    let said = known.into_iter().chain(said).filter(|(_, text)| !text.is_empty());
    event.details = said.map(|(name, text)| (name.to_owned(), cut(text))).collect();
    event
}

/// Something was decided about an item of a review, or came of that.
pub(crate) fn review_item_event(by: &By, verb: &str, of: &Review, item: &ReviewItem, now: Timestamp) -> AuditEvent {
    let mut event = event(by, format!("review_item.{verb}"), Outcome::Success, now);
    event.namespace.clone_from(&of.namespace);
    event.agent_id.clone_from(&item.agent_id);
    let (r#type, id) = ("ReviewItem".to_owned(), item.id.clone());
    event.resource = Some(EventResource { r#type, id, ..EventResource::default() });
    let keep = item.keep.iter().map(review::text);
    let came = item.remediation.clone().unwrap_or_default();
    let state = came.state().as_str_name().trim_start_matches("REMEDIATION_STATE_").to_owned();
    let said = [
        ("review", of.id.clone()),
        ("campaign", of.campaign.clone()),
        ("agent", item.agent.clone()),
        ("reviewed", review::thing(item.reviewed()).to_owned()),
        ("granted", item.granted.clone()),
        ("granted_id", item.granted_id.clone()),
        ("group", item.group.clone()),
        ("decision", review::word(item.decision()).to_owned()),
        ("keep", keep.collect::<Vec<_>>().join(", ")),
        ("decided_by", item.decided_by.clone()),
        ("reviewers", item.reviewers.join(" ")),
        ("remediation", if item.remediation.is_some() { state } else { String::new() }),
        ("told", came.told),
        ("reduced_to", came.reduced_to),
    ];
    let said = said.into_iter().filter(|(_, text)| !text.is_empty());
    event.details = said.map(|(name, text)| (name.to_owned(), cut(text))).collect();
    event
}

/// A write was refused.
pub(crate) fn write_refused(by: &By, method: &str, fault: &Fault, now: Timestamp) -> AuditEvent {
    refused(by, "write.refused", method, fault, now)
}

/// Somebody was not let see something, and was told so.
pub(crate) fn read_refused(by: &By, name: &str, fault: &Fault, now: Timestamp) -> AuditEvent {
    refused(by, "read.refused", name, fault, now)
}

fn refused(by: &By, kind: &str, method: &str, fault: &Fault, now: Timestamp) -> AuditEvent {
    let mut details =
        BTreeMap::from([("method".to_owned(), method.to_owned()), ("refusal".to_owned(), cut(fault.to_string()))]);
    details.extend(emergency(by).map(|why| ("emergency".to_owned(), why.to_owned())));
    AuditEvent { reason_code: fault.reason().to_owned(), details, ..event(by, kind.to_owned(), Outcome::Denied, now) }
}

/// The emergency that the caller states.
fn emergency(by: &By) -> Option<&str> {
    by.operator.as_ref().and_then(|operator| operator.emergency.as_deref())
}

/// An operator states an emergency, and acts as an administrator in this call.
pub(crate) fn broke_glass(by: &By, now: Timestamp) -> Option<AuditEvent> {
    let why = emergency(by)?;
    let details = BTreeMap::from([("emergency".to_owned(), why.to_owned())]);
    Some(AuditEvent { details, ..event(by, "operator.broke_glass".to_owned(), Outcome::Success, now) })
}

/// The past before a revision is no longer kept.
pub(crate) fn compacted(own: &str, before: u64, oldest: u64, keeps: Duration, now: Timestamp) -> AuditEvent {
    let details = BTreeMap::from([
        ("oldest_revision_before".to_owned(), before.to_string()),
        ("oldest_revision".to_owned(), oldest.to_string()),
        ("history_days".to_owned(), (keeps.as_secs() / 86_400).to_string()),
    ]);
    let by = By { actor: own.to_owned(), trace: TraceContext::current(), ..By::default() };
    AuditEvent { details, ..event(&by, "history.compacted".to_owned(), Outcome::Success, now) }
}
