//! What the audit trail keeps of enrolments, and of tokens of issuers outside.

use legate_clock::Timestamp;
use legate_wire::audit::{AuditEvent, Outcome};

use super::{Call, details, event, resource};
use crate::domain::holder::Named;
use crate::flow::foreign::Evidence;
use crate::store::{enrolment, used_token};

/// An enrolment token was made.
pub(crate) fn enrolment_created(call: &Call, row: &enrolment::Model, reason: &str, now: Timestamp) -> AuditEvent {
    AuditEvent {
        namespace: row.namespace.clone(),
        agent_id: row.agent_id.clone(),
        resource: resource("EnrolmentToken", &row.id),
        reason: reason.to_owned(),
        details: details([
            ("spiffe_id", row.spiffe_id.clone()),
            ("expires", Timestamp::from_micros(row.expires_at).to_string()),
        ]),
        ..event(call, "enrolment.created", Outcome::Success, now)
    }
}

/// The certificate of a spent token is given again: its answer was lost.
pub(crate) fn enrolment_repeated(call: &Call, row: &enrolment::Model, now: Timestamp) -> AuditEvent {
    AuditEvent {
        actor: row.spiffe_id.clone(),
        namespace: row.namespace.clone(),
        agent_id: row.agent_id.clone(),
        resource: resource("EnrolmentToken", &row.id),
        credential_id: row.credential_id.clone().unwrap_or_default(),
        details: details([("peer_address", call.peer.addr.to_string())]),
        ..event(call, "enrolment.repeated", Outcome::Success, now)
    }
}

/// What a token of an issuer outside proved, beside what came of it.
pub(crate) fn with_evidence(mut event: AuditEvent, evidence: &Evidence) -> AuditEvent {
    event.details.extend(details([
        ("trusted_issuer", evidence.trusted_by.clone()),
        ("token_issuer", evidence.issuer.clone()),
        ("token_audience", evidence.audience.clone()),
        ("token_subject", evidence.subject.clone()),
        ("token_id", evidence.token_id.clone().unwrap_or_default()),
    ]));
    event
}

/// The certificate of a used identity token is given again, to an agent or to an operator: its answer was lost.
pub(crate) fn identity_enrolment_repeated(
    call: &Call,
    named: Option<&Named>,
    evidence: &Evidence,
    used: &used_token::Model,
    now: Timestamp,
) -> AuditEvent {
    let agent_id = match named {
        Some(Named::Agent(id)) => id.to_string(),
        Some(Named::EnforcementPoint { .. } | Named::Node { .. }) | None => String::new(),
    };
    let event = AuditEvent {
        namespace: evidence.namespace.clone(),
        agent_id,
        resource: resource("Credential", &used.credential_id),
        credential_id: used.credential_id.clone(),
        details: details([("peer_address", call.peer.addr.to_string())]),
        ..event(call, "enrolment.repeated", Outcome::Success, now)
    };
    with_evidence(event, evidence)
}
