//! Wire messages, rows and domain values, joined: decoding may fail, encoding may not.

mod enrolment;
mod exchange;
mod federated;
mod health;
mod keys;
mod leaked;
mod oauth;
mod personal;
mod whom;
mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_clock::Timestamp;
use legate_ids::{ActionPattern, Actions, AgentId, CredentialId, InstanceId, Name, SpiffeId};
use legate_mtls::Peer;
use legate_rpc::{Fault, TraceContext};
use legate_token::{Details, MAX_SCOPES, PublicKey};
use legate_wire::audit::{ActingMode, AuditEvent, EventDecision, EventResource, Outcome};
use legate_wire::credential as wire;
use legate_wire::registry::{CredentialMethod, PublishRevocationRequest, RevocationReason, RevocationSpec};
use tokio::time::Instant;

pub(crate) use enrolment::{enrolment_created, enrolment_repeated, identity_enrolment_repeated, with_evidence};
pub(crate) use exchange::{delegation, exchange, introspection, scopes, token_exchanged};
pub(crate) use federated::{bundle_changed, bundle_unreached, told_bundle};
pub(crate) use health::{health, page_of_health};
pub(crate) use keys::{
    By, KeyChange, key, key_changed, key_publication, key_purpose, kid, one_key_purpose, svid_issuer,
};
pub(crate) use leaked::{enrolment_revoked, leaked, leaked_found, told_of_leaked};
pub(crate) use personal::{personal_grants, proven_person};
pub(crate) use whom::{level, touched};
pub(crate) use workload::{Told, attest, jwt_svid, jwt_svid_issued, spoken, svid_issued, svid_repeated};

use crate::domain::certificate::CertificatePlan;
use crate::domain::holder::Named;
use crate::domain::instance::State;
use crate::domain::token::{self, TokenPlan, Wish, hex};
use crate::error::AUTHORIZATION_DETAILS_REFUSED;
use crate::flow::foreign::Evidence;
use crate::store::credential::{self, sha256};
use crate::store::instance;

pub(crate) use oauth::{
    client, client_created, client_replaced, oauth_wish, retired_used, token_publication, token_revoked,
};

/// The longest text that people give as a reason, in bytes.
const LONGEST_REASON: usize = 1024;
/// The longest audience, in bytes.
const LONGEST_AUDIENCE: usize = 512;

/// Who calls, in which trace, until when.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) peer: Arc<Peer>,
    pub(crate) trace: TraceContext,
    pub(crate) deadline: Instant,
    /// The emergency that an operator states.
    pub(crate) emergency: Option<Arc<str>>,
    /// The agent that proved itself otherwise than by the certificate of the call.
    pub(crate) client: Option<SpiffeId>,
}

impl Call {
    /// Who acts, for the record.
    fn actor(&self) -> String {
        self.client.as_ref().map_or_else(|| self.peer.id_text().to_owned(), ToString::to_string)
    }
}

/// Whom an enrolment token shall be for.
pub(crate) fn holder(holder: Option<wire::create_enrolment_token_request::Holder>) -> Result<Named, Fault> {
    use wire::create_enrolment_token_request::Holder;
    match holder {
        Some(Holder::AgentId(id)) => {
            AgentId::parse(&id).map(Named::Agent).map_err(|e| Fault::invalid("agent_id", e.to_string()))
        }
        Some(Holder::EnforcementPoint(point)) => {
            let name = |field, text: &str| Name::parse(text).map_err(|e| Fault::invalid(field, e.to_string()));
            Ok(Named::EnforcementPoint {
                namespace: name("enforcement_point.namespace", &point.namespace)?,
                name: name("enforcement_point.name", &point.name)?,
            })
        }
        Some(Holder::Node(node)) => {
            let name = |field, text: &str| Name::parse(text).map_err(|e| Fault::invalid(field, e.to_string()));
            Ok(Named::Node {
                namespace: name("node.namespace", &node.namespace)?,
                name: name("node.name", &node.name)?,
            })
        }
        None => Err(Fault::invalid("holder", "set agent_id, enforcement_point or node")),
    }
}

/// A text for people, without anything that a terminal or a table could stumble over.
pub(crate) fn reason(field: &str, text: String) -> Result<String, Fault> {
    // No less than the registry refuses: a revocation that it would not take for its comment would stop nobody.
    if text.len() > LONGEST_REASON || text.chars().any(legate_ids::is_deceptive) {
        let why = "1,024 bytes at most, without control, invisible or direction-changing characters";
        return Err(Fault::invalid(field, why));
    }
    Ok(text)
}

/// A reason that has to be given.
pub(crate) fn comment(text: String) -> Result<String, Fault> {
    if text.trim().is_empty() {
        return Err(Fault::invalid("comment", "say why, for the record"));
    }
    reason("comment", text)
}

/// A duration that is there, not negative, and not absurd.
pub(crate) fn duration(field: &str, d: Option<prost_types::Duration>) -> Result<Option<Duration>, Fault> {
    d.map(|d| Duration::try_from(d).map_err(|_| Fault::invalid(field, "is negative or out of range"))).transpose()
}

/// What an agent asks for in a token.
pub(crate) fn wish(ask: wire::IssueTokenRequest) -> Result<Wish, Fault> {
    let audience = ask.audience;
    if audience.is_empty() || audience.len() > LONGEST_AUDIENCE || !audience.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Fault::invalid(
            "audience",
            "1 to 512 printable ASCII characters; one audience of an enforcement point",
        ));
    }
    if ask.scopes.len() > MAX_SCOPES {
        return Err(Fault::invalid("scopes", "64 at most"));
    }
    let read = |(i, text): (usize, &String)| {
        ActionPattern::parse(text).map_err(|e| Fault::invalid(format!("scopes[{i}]"), e.to_string()))
    };
    let actions = ask.scopes.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    let ttl = token::ttl(duration("ttl", ask.ttl)?)?;
    let details = authorization_details(&ask.authorization_details, &audience)?;
    Ok(Wish { audience, actions: Actions::of(actions), details, ttl })
}

/// The authorization details of a token for `audience` (RFC 9396 section 2); empty: none.
pub(crate) fn authorization_details(text: &str, audience: &str) -> Result<Details, Fault> {
    if text.is_empty() {
        return Ok(Details::default());
    }
    let refused = |e: legate_token::BadClaims| Fault::refused(&AUTHORIZATION_DETAILS_REFUSED, e.to_string());
    let details = Details::read(text).map_err(refused)?;
    // A token that is handed to an agent is for the places to which that one exchanges it.
    if SpiffeId::parse(audience).is_err() {
        check_details(&details, audience)?;
    }
    Ok(details)
}

/// Whether a token with these is good for anything where it is addressed to.
pub(crate) fn check_details(details: &Details, audience: &str) -> Result<(), Fault> {
    let why = "the authorization details name other locations than the token's audience";
    details.admit(audience).then_some(()).ok_or_else(|| Fault::refused(&AUTHORIZATION_DETAILS_REFUSED, why))
}

/// A reason of RFC 5280 that this version knows.
pub(crate) fn revocation_reason(number: i32) -> Result<RevocationReason, Fault> {
    RevocationReason::try_from(number).map_err(|_| Fault::invalid("reason", "no reason of RFC 5280 section 5.3.1"))
}

/// A credential's id.
pub(crate) fn credential_id(text: &str) -> Result<CredentialId, Fault> {
    CredentialId::parse(text).map_err(|e| Fault::invalid("credential_id", e.to_string()))
}

fn micros(at: i64) -> Option<prost_types::Timestamp> {
    Some(Timestamp::from_micros(at).into())
}

/// What a credential is.
fn credential_type(kind: i32) -> wire::CredentialType {
    match kind {
        credential::SECRET => wire::CredentialType::ClientSecret,
        credential::KEY => wire::CredentialType::ClientKey,
        _ => wire::CredentialType::X509Svid,
    }
}

impl From<credential::Model> for wire::Credential {
    fn from(row: credential::Model) -> Self {
        let state = match row.state {
            credential::RECORDED => wire::CredentialState::Recorded,
            credential::ISSUED => wire::CredentialState::Issued,
            credential::REVOKED => wire::CredentialState::Revoked,
            _ => wire::CredentialState::Unspecified,
        };
        let kind = credential_type(row.kind);
        let key = row.public_key.as_deref().and_then(|key| PublicKey::from_sec1(key).ok());
        Self {
            serial: if row.kind == credential::CERTIFICATE { row.serial } else { String::new() },
            key_id: key.map(|key| key.kid().to_string()).unwrap_or_default(),
            id: row.id,
            r#type: kind.into(),
            spiffe_id: row.spiffe_id,
            agent_id: row.agent_id,
            namespace: row.namespace,
            x5t_s256: row.x5t_s256.map(|x5t| Base64UrlUnpadded::encode_string(&x5t)).unwrap_or_default(),
            not_before: micros(row.not_before),
            not_after: micros(row.not_after),
            lifecycle_version: u64::try_from(row.lifecycle_version).unwrap_or(0),
            state: state.into(),
            revoke_time: row.revoked_at.and_then(micros),
            revocation_reason: row.revocation_reason.unwrap_or(0),
            issue_time: micros(row.issued_at),
            instance_id: row.instance_id,
        }
    }
}

/// An instance that was read, and where it stands.
pub(crate) fn instance((row, state): (instance::Model, State)) -> wire::Instance {
    let state = match state {
        State::Live => wire::InstanceState::Live,
        State::CutOff => wire::InstanceState::CutOff,
        State::Revoked => wire::InstanceState::Revoked,
        State::Ended => wire::InstanceState::Ended,
    };
    let method = match row.method {
        instance::BY_TOKEN => CredentialMethod::EnrolmentToken,
        instance::BY_ISSUER => CredentialMethod::TrustedIssuer,
        instance::BY_ATTESTATION => CredentialMethod::Attestation,
        _ => CredentialMethod::Unspecified,
    };
    wire::Instance {
        id: row.id,
        spiffe_id: row.spiffe_id,
        agent_id: row.agent_id,
        namespace: row.namespace,
        state: state.into(),
        method: method.into(),
        proof: row.proof,
        node: row.node,
        attestation_policy: row.attestation_policy,
        start_time: micros(row.started_at),
        renew_time: micros(row.renewed_at),
        end_time: micros(row.ends_at),
        lifecycle_version: u64::try_from(row.lifecycle_version).unwrap_or(0),
        revoke_time: row.revoked_at.and_then(micros),
        revocation_reason: row.revocation_reason.unwrap_or(0),
    }
}

/// An instance's id.
pub(crate) fn instance_id(text: &str) -> Result<InstanceId, Fault> {
    InstanceId::parse(text).map_err(|e| Fault::invalid("instance_id", e.to_string()))
}

/// The states that a list is asked for.
pub(crate) fn states(numbers: &[i32]) -> Result<Vec<State>, Fault> {
    let read = |(i, number): (usize, &i32)| match wire::InstanceState::try_from(*number) {
        Ok(wire::InstanceState::Live) => Ok(State::Live),
        Ok(wire::InstanceState::CutOff) => Ok(State::CutOff),
        Ok(wire::InstanceState::Revoked) => Ok(State::Revoked),
        Ok(wire::InstanceState::Ended) => Ok(State::Ended),
        Ok(wire::InstanceState::Unspecified) | Err(_) => Err(Fault::invalid(format!("states[{i}]"), "is no state")),
    };
    numbers.iter().enumerate().map(read).collect()
}

/// What the registry is told of a revocation.
pub(crate) fn publication(
    row: &credential::Model,
    call: &Call,
    reason: RevocationReason,
    comment: &str,
    now: Timestamp,
) -> PublishRevocationRequest {
    PublishRevocationRequest {
        revocation: Some(RevocationSpec {
            credential_id: row.id.clone(),
            spiffe_id: row.spiffe_id.clone(),
            x5t_s256: row.x5t_s256.clone().unwrap_or_default(),
            expire_time: micros(row.not_after),
            revoke_time: Some(now.into()),
            reason: reason.into(),
            ..RevocationSpec::default()
        }),
        namespace: row.namespace.clone(),
        actor: call.peer.id_text().to_owned(),
        comment: comment.to_owned(),
    }
}

/// What every event of a call has in common.
fn event(call: &Call, kind: &str, outcome: Outcome, now: Timestamp) -> AuditEvent {
    AuditEvent {
        time: Some(now.into()),
        r#type: kind.to_owned(),
        actor: call.actor(),
        outcome: outcome.into(),
        trace_id: call.trace.trace_id.clone(),
        span_id: call.trace.span_id.clone(),
        ..AuditEvent::default()
    }
}

fn details<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

fn resource(kind: &str, id: &str) -> Option<EventResource> {
    Some(EventResource { r#type: kind.to_owned(), id: id.to_owned(), ..EventResource::default() })
}

/// An operator states an emergency, and acts as an administrator in this call.
pub(crate) fn broke_glass(call: &Call, now: Timestamp) -> Option<AuditEvent> {
    let why = call.emergency.as_deref()?;
    let details = details([("emergency", why.to_owned())]);
    Some(AuditEvent { details, ..event(call, "operator.broke_glass", Outcome::Success, now) })
}

/// A certificate is about to be signed.
pub(crate) fn credential_issued(
    call: &Call,
    plan: &CertificatePlan,
    to_be_signed: &[u8],
    origin: &str,
    revision: u64,
) -> AuditEvent {
    let actor = if call.peer.spiffe_id.is_some() { call.peer.id_text() } else { plan.spiffe_id.as_str() };
    AuditEvent {
        actor: actor.to_owned(),
        namespace: plan.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
        agent_id: plan.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        instance_id: plan.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        resource: resource("Credential", plan.credential.as_str()),
        credential_id: plan.credential.to_string(),
        revision,
        details: details([
            ("origin", origin.to_owned()),
            ("spiffe_id", plan.spiffe_id.to_string()),
            ("serial", hex(&plan.serial)),
            ("to_be_signed_sha256", hex(&sha256(to_be_signed))),
            ("key_sha256", hex(&sha256(plan.key.as_sec1()))),
            ("not_after", plan.not_after.to_string()),
            ("lifecycle_version", plan.lifecycle_version.to_string()),
            ("peer_address", call.peer.addr.to_string()),
        ]),
        ..event(call, "credential.issued", Outcome::Success, plan.issued)
    }
}

/// A token is about to be signed.
pub(crate) fn token_issued(
    call: &Call,
    plan: &TokenPlan,
    decision_id: String,
    revision: u64,
    now: Timestamp,
) -> AuditEvent {
    let claims = &plan.claims;
    AuditEvent {
        namespace: claims.namespace.to_string(),
        agent_id: claims.agent.to_string(),
        instance_id: claims.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        acting_mode: ActingMode::Autonomous.into(),
        resource: resource("AccessToken", &claims.token_id),
        decision: Some(EventDecision { decision_id, allowed: true, ..EventDecision::default() }),
        revision,
        details: details([
            ("audience", claims.audience.clone()),
            ("scope", cut(claims.scope.to_string())),
            ("authorization_details", cut(claims.details.to_string())),
            ("expires", Timestamp::from_secs(i64::try_from(claims.expires_at).unwrap_or(i64::MAX)).to_string()),
            ("key_id", plan.unsigned.kid().to_string()),
            ("to_be_signed_sha256", hex(&plan.unsigned.digest())),
            ("lifecycle_version", claims.lifecycle_version.to_string()),
        ]),
        ..event(call, "token.issued", Outcome::Success, now)
    }
}

/// A credential was taken back.
pub(crate) fn credential_revoked(
    call: &Call,
    row: &credential::Model,
    reason: RevocationReason,
    comment: &str,
    now: Timestamp,
) -> AuditEvent {
    AuditEvent {
        namespace: row.namespace.clone(),
        agent_id: row.agent_id.clone(),
        instance_id: row.instance_id.clone(),
        resource: resource("Credential", &row.id),
        credential_id: row.id.clone(),
        reason: comment.to_owned(),
        details: details([
            ("spiffe_id", row.spiffe_id.clone()),
            ("serial", row.serial.clone()),
            ("revocation_reason", reason.as_str_name().to_owned()),
        ]),
        ..event(call, "credential.revoked", Outcome::Success, now)
    }
}

/// The key of a credential that was taken back before turned out to be compromised.
pub(crate) fn key_compromised(call: &Call, row: &credential::Model, comment: &str, now: Timestamp) -> AuditEvent {
    let revoked = credential_revoked(call, row, RevocationReason::KeyCompromise, comment, now);
    AuditEvent { r#type: "credential.key_compromised".to_owned(), ..revoked }
}

/// A running copy of an agent was taken back, with everything that it holds.
pub(crate) fn instance_revoked(
    call: &Call,
    row: &instance::Model,
    reason: RevocationReason,
    comment: &str,
    now: Timestamp,
) -> AuditEvent {
    AuditEvent {
        namespace: row.namespace.clone(),
        agent_id: row.agent_id.clone(),
        instance_id: row.id.clone(),
        resource: resource("Instance", &row.id),
        reason: comment.to_owned(),
        details: details([
            ("spiffe_id", row.spiffe_id.clone()),
            ("revocation_reason", reason.as_str_name().to_owned()),
        ]),
        ..event(call, "instance.revoked", Outcome::Success, now)
    }
}

/// Somebody who is known was refused.
pub(crate) fn refused(
    call: &Call,
    kind: &str,
    about: Option<(&SpiffeId, &Name, &str)>,
    fault: &Fault,
    now: Timestamp,
) -> AuditEvent {
    let (spiffe_id, namespace, agent) = about.map_or_else(Default::default, |(id, namespace, agent)| {
        (id.to_string(), namespace.to_string(), agent.to_owned())
    });
    AuditEvent {
        namespace,
        agent_id: agent,
        reason_code: fault.reason().to_owned(),
        reason: match fault {
            Fault::Refused(r) | Fault::Unavailable(r) => cut(r.message.clone()),
            Fault::Broken(_) => String::new(),
        },
        details: details([("spiffe_id", spiffe_id), ("peer_address", call.peer.addr.to_string())]),
        ..event(call, kind, Outcome::Denied, now)
    }
}

/// An operator whose token was believed was refused all the same.
pub(crate) fn login_refused(
    call: &Call,
    operator: &SpiffeId,
    evidence: &Evidence,
    fault: &Fault,
    now: Timestamp,
) -> AuditEvent {
    let mut event = with_evidence(refused(call, "login.refused", None, fault, now), evidence);
    event.details.insert("spiffe_id".to_owned(), operator.to_string());
    event
}

/// Texts in events are 4,096 bytes at most.
fn cut(mut text: String) -> String {
    if text.len() > 4096 {
        let mut end = 4096;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}
