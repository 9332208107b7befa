//! What was found where it should not be: read from the request, told, and recorded without what was found.

use legate_clock::Timestamp;
use legate_rpc::Fault;
use legate_token::PublicKey;
use legate_wire::audit::{AuditEvent, Outcome};
use legate_wire::credential as wire;
use wire::find_leaked_request::Found as Asked;
use zeroize::Zeroizing;

use super::{Call, comment, details, event, resource};
use crate::flow::find_leaked::{Found, Kind, Known, Told};

/// The longest token or certificate, in bytes.
const LONGEST: usize = 16 << 10;
/// The longest JWK, in bytes.
const LONGEST_JWK: usize = 4 << 10;

/// What was found, and with it why it is to be revoked, where it is.
pub(crate) fn leaked(ask: wire::FindLeakedRequest) -> Result<(Found, Option<String>), Fault> {
    let too_long = |field: &str, most: usize| Fault::invalid(field, format!("is empty, or longer than {most} bytes"));
    let found = match ask.found {
        None => return Err(Fault::invalid("found", "is empty; give text, certificate or public_jwk")),
        Some(Asked::Text(text)) if !text.is_empty() && text.len() <= LONGEST => Found::Text(Zeroizing::new(text)),
        Some(Asked::Text(text)) => {
            drop(Zeroizing::new(text));
            return Err(too_long("text", LONGEST));
        }
        Some(Asked::Certificate(der)) if !der.is_empty() && der.len() <= LONGEST => Found::Certificate(der),
        Some(Asked::Certificate(_)) => return Err(too_long("certificate", LONGEST)),
        Some(Asked::PublicJwk(jwk)) if jwk.len() > LONGEST_JWK => return Err(too_long("public_jwk", LONGEST_JWK)),
        Some(Asked::PublicJwk(jwk)) => {
            Found::Key(PublicKey::from_jwk(&jwk).map_err(|e| Fault::invalid("public_jwk", e.to_string()))?)
        }
    };
    let why = if ask.revoke { Some(comment(ask.comment)?) } else { None };
    Ok((found, why))
}

/// What is told of it.
pub(crate) fn told_of_leaked(told: Told, key: Option<wire::Key>) -> wire::FindLeakedResponse {
    let kind = match told.kind {
        Kind::None => wire::LeakedKind::Unspecified,
        Kind::ClientSecret => wire::LeakedKind::ClientSecret,
        Kind::EnrolmentToken => wire::LeakedKind::EnrolmentToken,
        Kind::AccessToken => wire::LeakedKind::AccessToken,
        Kind::Certificate => wire::LeakedKind::Certificate,
        Kind::PrivateKey => wire::LeakedKind::PrivateKey,
        Kind::IssuerKey => wire::LeakedKind::IssuerKey,
        Kind::CaCertificate => wire::LeakedKind::CaCertificate,
    };
    let is_known = told.known.is_some();
    let known = told.known.unwrap_or_default();
    wire::FindLeakedResponse {
        kind: kind.into(),
        known: is_known,
        works: is_known && known.why_not.is_none(),
        why_not: known.why_not.unwrap_or_default(),
        namespace: known.namespace,
        spiffe_id: known.spiffe_id,
        agent_id: known.agent_id,
        owners: known.owners,
        credentials: known.credentials.into_iter().map(Into::into).collect(),
        enrolment_id: known.enrolment_id,
        token_id: known.token_id,
        expire_time: known.ends.map(Into::into),
        revoked: known.is_revoked,
        revision: told.revision,
        key,
        advice: known.advice,
    }
}

/// Somebody found something that this issuer made.
pub(crate) fn leaked_found(call: &Call, kind: Kind, known: &Known, now: Timestamp) -> AuditEvent {
    let details = details([
        ("kind", kind.word().to_owned()),
        ("works", known.why_not.is_none().to_string()),
        ("spiffe_id", known.spiffe_id.clone()),
        ("peer_address", call.peer.addr.to_string()),
    ]);
    AuditEvent { details, ..about(call, known, "credential.leaked", now) }
}

/// An enrolment token was taken back.
pub(crate) fn enrolment_revoked(call: &Call, known: &Known, comment: String, now: Timestamp) -> AuditEvent {
    let details = details([("spiffe_id", known.spiffe_id.clone())]);
    AuditEvent { details, reason: comment, ..about(call, known, "enrolment.revoked", now) }
}

fn about(call: &Call, known: &Known, kind: &str, now: Timestamp) -> AuditEvent {
    let credential = known.credentials.first().map(|row| row.id.clone()).unwrap_or_default();
    let resource = match (known.enrolment_id.as_str(), known.token_id.as_str()) {
        ("", "") => match &known.key {
            Some(key) => resource("SigningKey", &key.kid),
            None => resource("Credential", &credential),
        },
        ("", token) => resource("AccessToken", token),
        (enrolment, _) => resource("Enrolment", enrolment),
    };
    AuditEvent {
        namespace: known.namespace.clone(),
        agent_id: known.agent_id.clone(),
        resource,
        credential_id: credential,
        ..event(call, kind, Outcome::Success, now)
    }
}
