//! A decision as the audit log keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;

use legate_rpc::{Fault, Refusals};
use legate_wire::audit as wire;

use super::asker::{Asker, Kind};
use super::evaluate::{Desk, Spoken};
use crate::convert::{Ask, Subject};
use crate::domain::answer::{Answer, Cause, CauseKind};
use crate::domain::question::Value;
use crate::domain::shadow::Would;

/// The longest text of an event, in bytes.
const MAX_TEXT: usize = 4096;

/// Cuts a text to what an event may hold, at a character.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

fn stated(ask: &Ask, name: &str) -> String {
    match ask.question.attributes.0.get(name) {
        Some(Value::Text(text)) => cut(text.clone()),
        _ => String::new(),
    }
}

fn lines(causes: &[Cause]) -> Vec<String> {
    // An event is bounded; a decision by more than this many policies says so in its text.
    causes.iter().take(64).map(|cause| cut(cause.line())).collect()
}

/// An event of this service about `asker`'s question; the emitter and the event's id are put in by the spool.
fn event(asker: &Asker, ask: &Ask, kind: &str) -> wire::AuditEvent {
    let mut details = BTreeMap::new();
    let subject = match &ask.subject {
        Subject::Token(_) => "token",
        Subject::Asserted(_) => "asserted",
        Subject::Certificate(_) => "certificate",
    };
    details.insert("subject_proof".to_owned(), subject.to_owned());
    wire::AuditEvent {
        r#type: kind.to_owned(),
        actor: asker.spiffe_id.clone(),
        namespace: match &asker.kind {
            Kind::Enforcer { namespace, .. } => namespace.to_string(),
            _ => String::new(),
        },
        acting_mode: wire::ActingMode::Autonomous.into(),
        action: ask.question.action.to_string(),
        resource: Some(wire::EventResource {
            r#type: ask.question.resource_type.to_string(),
            id: ask.question.resource_id.to_string(),
            data_classification: stated(ask, "data_classification"),
            region: stated(ask, "region"),
        }),
        correlation_id: ask.correlation_id.clone(),
        trace_id: asker.trace_id.clone(),
        span_id: asker.span_id.clone(),
        details,
        ..wire::AuditEvent::default()
    }
}

/// The record of an answer.
pub(crate) fn decision(asker: &Asker, ask: &Ask, spoken: &Spoken) -> wire::AuditEvent {
    let answer = &spoken.answer;
    let mut event = event(asker, ask, "decision.made");
    event.time = Some(spoken.at.into());
    if let Some(agent) = &spoken.agent {
        event.namespace = agent.label.namespace.to_string();
        event.agent_id = agent.id.to_string();
    } else if let Subject::Asserted(id) = &ask.subject {
        event.agent_id = id.to_string();
    }
    event.instance_id.clone_from(&spoken.known.instance);
    if let Some(acts_for) = &spoken.known.acts_for {
        event.acting_mode = wire::ActingMode::OnBehalfOf.into();
        event.subject = cut(acts_for.subject.clone());
        event.chain.clone_from(&acts_for.chain);
        event.grant_id = acts_for.grants.first().cloned().unwrap_or_default();
        event.details.insert("grants".to_owned(), cut(acts_for.grants.join(" ")));
        let groups = spoken.known.delegation.as_deref().map_or(&[][..], crate::domain::behalf::groups);
        if !groups.is_empty() {
            event.details.insert("subject_groups".to_owned(), cut(groups.join(" ")));
        }
    }
    event.outcome = match answer.denied {
        None => wire::Outcome::Success.into(),
        Some(_) => wire::Outcome::Denied.into(),
    };
    event.reason_code = answer.word().to_owned();
    event.reason.clone_from(&spoken.message);
    event.revision = spoken.revision;
    event.decision = Some(wire::EventDecision {
        decision_id: spoken.id.to_string(),
        allowed: answer.denied.is_none(),
        denial: answer.denied.map_or_else(String::new, |why| why.kind().word().to_owned()),
        determining: lines(&answer.causes),
        log_only: lines(&answer.log_only),
    });
    let approvals: Vec<&str> =
        answer.causes.iter().filter(|one| one.kind == CauseKind::Approval).map(|one| one.id.as_str()).collect();
    if !approvals.is_empty() {
        event.details.insert("approvals".to_owned(), cut(approvals.join(" ")));
    }
    for (name, would) in [("log_only_would_deny", Would::Deny), ("log_only_would_allow", Would::Allow)] {
        let found = answer.shadow.iter().filter(|flip| flip.would == would);
        let policies: Vec<String> = found.map(|flip| flip.policy.label.to_string()).collect();
        if !policies.is_empty() {
            event.details.insert(name.to_owned(), cut(policies.join(" ")));
        }
    }
    if !spoken.known.token_id.is_empty() {
        event.details.insert("token_id".to_owned(), cut(spoken.known.token_id.clone()));
    }
    if let Some(age) = spoken.view_age {
        event.details.insert("view_age_ms".to_owned(), age.as_millis().to_string());
    }
    event
}

/// The record that a decision was explained; `now` where it is about the past.
pub(crate) fn explained(
    asker: &Asker,
    ask: &Ask,
    spoken: &Spoken,
    now: Option<legate_clock::Timestamp>,
) -> wire::AuditEvent {
    let mut event = decision(asker, ask, spoken);
    event.r#type = "decision.explained".to_owned();
    if let Some(now) = now {
        event.details.insert("as_of_revision".to_owned(), spoken.revision.to_string());
        event.details.insert("judged_at".to_owned(), spoken.at.to_string());
        event.time = Some(now.into());
    }
    event.details.extend(asker.emergency.as_deref().map(|why| ("emergency".to_owned(), why.to_owned())));
    event
}

/// The record that somebody asked what authority there is.
pub(crate) fn searched<const N: usize>(
    asker: &Asker,
    namespace: &str,
    revision: u64,
    now: legate_clock::Timestamp,
    details: [(&str, String); N],
) -> wire::AuditEvent {
    let mut details: BTreeMap<String, String> =
        details.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    details.extend(asker.emergency.as_deref().map(|why| ("emergency".to_owned(), why.to_owned())));
    wire::AuditEvent {
        time: Some(now.into()),
        r#type: "authority.searched".to_owned(),
        namespace: namespace.to_owned(),
        agent_id: details.get("agent_id").cloned().unwrap_or_default(),
        actor: asker.spiffe_id.clone(),
        outcome: wire::Outcome::Success.into(),
        revision,
        trace_id: asker.trace_id.clone(),
        span_id: asker.span_id.clone(),
        details,
        ..wire::AuditEvent::default()
    }
}

/// The record that an operator states an emergency, and is let ask like an administrator.
pub(crate) fn broke_glass(desk: &Desk, asker: &Asker) -> Option<wire::AuditEvent> {
    let why = asker.emergency.as_deref()?;
    Some(wire::AuditEvent {
        time: Some(desk.clock.now().into()),
        r#type: "operator.broke_glass".to_owned(),
        actor: asker.spiffe_id.clone(),
        outcome: wire::Outcome::Success.into(),
        revision: desk.view.current().revision(),
        trace_id: asker.trace_id.clone(),
        span_id: asker.span_id.clone(),
        details: BTreeMap::from([("emergency".to_owned(), why.to_owned())]),
        ..wire::AuditEvent::default()
    })
}

/// The record that an ALLOW which is already recorded was not said.
pub(crate) fn withdrawal(asker: &Asker, ask: &Ask, spoken: &Spoken) -> wire::AuditEvent {
    let mut event = decision(asker, ask, spoken);
    event.r#type = "decision.withdrawn".to_owned();
    event
}

/// The record that a decision is not what Cedar's own authorizer says of the same question.
pub(crate) fn diverged(
    sample: &super::self_check::Sample,
    plain: &str,
    policies: &str,
    now: legate_clock::Timestamp,
) -> wire::AuditEvent {
    let mut event = event(&sample.asker, &sample.ask, "decision.diverged");
    event.time = Some(now.into());
    event.outcome = wire::Outcome::Failure.into();
    event.reason_code = sample.answer.word().to_owned();
    event.reason = cut(format!("Cedar's own authorizer says {plain}; they differ about {policies}"));
    event.revision = sample.snapshot.revision();
    event.details.insert("decision_id".to_owned(), sample.id.to_string());
    event.details.insert("authorizer".to_owned(), plain.to_owned());
    event.details.insert("policies".to_owned(), cut(policies.to_owned()));
    event
}

/// Records that a call was refused, where that can be done; the refusal does not depend on it.
pub(crate) async fn refusal(desk: &Desk, asker: &Asker, asks: &[Ask], fault: &Fault) {
    let Some(ask) = asks.first() else { return };
    let mut event = event(asker, ask, "decision.refused");
    event.time = Some(desk.clock.now().into());
    event.outcome = wire::Outcome::Denied.into();
    event.reason_code = fault.reason().to_owned();
    event.reason = cut(fault.to_string());
    event.revision = desk.view.current().revision();
    event.details.insert("questions".to_owned(), asks.len().to_string());
    event.details.extend(asker.emergency.as_deref().map(|why| ("emergency".to_owned(), why.to_owned())));
    let _ = desk.spool.write(vec![event], false).await;
}

/// Records callers who were turned away at the door, for as long as the process lives.
pub(crate) async fn refusals_forever(desk: Arc<Desk>, refusals: Arc<Refusals>) {
    loop {
        tokio::time::sleep(legate_outbox::EVERY).await;
        self::refusals(&desk, &refusals).await;
    }
}

/// Records callers who were turned away since the last time.
pub(crate) async fn refusals(desk: &Desk, refusals: &Refusals) {
    let now = desk.clock.now();
    let events: Vec<_> = refusals.take().iter().map(|one| legate_outbox::access_refused(one, now)).collect();
    // They were turned away whether or not that can be recorded.
    if !events.is_empty() && desk.spool.write(events, false).await.is_err() {
        tracing::warn!("refusals could not be recorded");
    }
}

/// An answer in a sentence, for people.
pub(crate) fn message(answer: &Answer) -> String {
    let causes: Vec<String> = answer
        .causes
        .iter()
        .map(|c| match c.name.as_str() {
            "" => c.text.clone(),
            name => format!("{name}@{}: {}", c.version, c.text),
        })
        .collect();
    let causes = causes.join("; ");
    cut(match answer.denied {
        None => format!("allowed: {causes}"),
        Some(_) if causes.is_empty() => "denied: nothing gives it".to_owned(),
        Some(_) => format!("denied: {causes}"),
    })
}
