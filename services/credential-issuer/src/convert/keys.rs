//! Signing keys: what is told of them, what the record says of a change, and what the registry hears.

use std::collections::BTreeMap;

use legate_clock::Timestamp;
use legate_ids::SpiffeId;
use legate_rpc::Fault;
use legate_token::KeyId;
use legate_wire::audit::{AuditEvent, Outcome};
use legate_wire::credential as wire;
use legate_wire::registry::{PublishSigningKeyRequest, SigningKeySpec, SigningKeyUse};

use super::{Call, event, micros, resource};
use crate::domain::keyring::{KeyUse, Pace, State};
use crate::domain::token::hex;
use crate::keys::KeyPlace;
use crate::store::credential::sha256;
use crate::store::signing_key::{self, Model};

/// Who changes a key.
#[derive(Clone, Debug)]
pub(crate) enum By<'a> {
    /// Its time has come.
    Clock(&'a SpiffeId),
    /// An operator.
    Call(&'a Call),
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyChange {
    Prepared,
    Activated,
    Tainted,
    Retired,
    Revoked,
}

impl KeyChange {
    const fn event(self) -> &'static str {
        match self {
            Self::Prepared => "key.prepared",
            Self::Activated => "key.activated",
            Self::Tainted => "key.tainted",
            Self::Retired => "key.retired",
            Self::Revoked => "key.revoked",
        }
    }
}

/// A key changes.
pub(crate) fn key_changed(
    by: &By<'_>,
    what: KeyChange,
    row: &Model,
    purpose: KeyUse,
    reason: &str,
    now: Timestamp,
) -> AuditEvent {
    let mut details = BTreeMap::from([("purpose".to_owned(), purpose.word().to_owned())]);
    if let Some(ends) = row.ends_at {
        details.insert("ends".to_owned(), Timestamp::from_micros(ends).to_string());
    }
    if let Some(certificate) = &row.certificate {
        details.insert("certificate_sha256".to_owned(), hex(&sha256(certificate)));
    }
    let base = match by {
        By::Call(call) => event(call, what.event(), Outcome::Success, now),
        By::Clock(me) => AuditEvent {
            time: Some(now.into()),
            r#type: what.event().to_owned(),
            actor: me.to_string(),
            outcome: Outcome::Success.into(),
            ..AuditEvent::default()
        },
    };
    AuditEvent { resource: resource("SigningKey", &row.kid), reason: reason.to_owned(), details, ..base }
}

/// What a use is called on the wire; `None`: not set.
pub(crate) fn key_purpose(number: i32) -> Result<Option<KeyUse>, Fault> {
    match wire::KeyPurpose::try_from(number) {
        Ok(wire::KeyPurpose::Unspecified) => Ok(None),
        Ok(wire::KeyPurpose::AccessToken) => Ok(Some(KeyUse::AccessTokens)),
        Ok(wire::KeyPurpose::JwtSvid) => Ok(Some(KeyUse::JwtSvids)),
        Ok(wire::KeyPurpose::WorkloadsCa) => Ok(Some(KeyUse::WorkloadsCa)),
        Ok(wire::KeyPurpose::OperatorsCa) => Ok(Some(KeyUse::OperatorsCa)),
        Err(_) => Err(Fault::invalid("purpose", "is no purpose of keys")),
    }
}

/// The same, where it has to be set.
pub(crate) fn one_key_purpose(number: i32) -> Result<KeyUse, Fault> {
    key_purpose(number)?.ok_or_else(|| Fault::invalid("purpose", "is required"))
}

/// A key's id.
pub(crate) fn kid(text: &str) -> Result<KeyId, Fault> {
    KeyId::parse(text).map_err(|e| Fault::invalid("kid", e.to_string()))
}

/// A key as operators see it.
pub(crate) fn key(row: Model, pace: Pace, place: Option<KeyPlace>) -> Result<wire::Key, Fault> {
    let (purpose, state, life) = (row.purpose()?, row.state()?, row.life()?);
    let at = |moment: Option<Timestamp>| moment.map(Into::into);
    let token = match &place {
        Some(KeyPlace::Token(token)) => token.to_string(),
        Some(KeyPlace::File) | None => String::new(),
    };
    let place = match place {
        Some(KeyPlace::File) => wire::KeyPlace::File,
        Some(KeyPlace::Token(_)) => wire::KeyPlace::Pkcs11,
        None if row.destroyed => wire::KeyPlace::Destroyed,
        None if state.is_published() => wire::KeyPlace::Missing,
        // It is over, and is destroyed at the next look.
        None => wire::KeyPlace::Unspecified,
    };
    let usable = life.usable(pace).filter(|_| state == State::Prepared);
    Ok(wire::Key {
        purpose: match purpose {
            KeyUse::AccessTokens => wire::KeyPurpose::AccessToken,
            KeyUse::JwtSvids => wire::KeyPurpose::JwtSvid,
            KeyUse::WorkloadsCa => wire::KeyPurpose::WorkloadsCa,
            KeyUse::OperatorsCa => wire::KeyPurpose::OperatorsCa,
        }
        .into(),
        state: match state {
            State::Prepared => wire::KeyState::Prepared,
            State::Active => wire::KeyState::Active,
            State::Retiring => wire::KeyState::Retiring,
            State::Tainted => wire::KeyState::Tainted,
            State::Retired => wire::KeyState::Retired,
            State::Revoked => wire::KeyState::Revoked,
        }
        .into(),
        prepare_time: at(Some(life.prepared)),
        usable_time: at(usable),
        activate_time: at(life.activated),
        rotate_time: at(life.rotates(purpose, pace)),
        end_time: at(life.ends),
        retire_time: row.retired_at.and_then(micros),
        is_published: !row.is_news()?,
        certificate: row.certificate.unwrap_or_default(),
        kid: row.kid,
        place: place.into(),
        token,
    })
}

/// The `iss` of JWT-SVIDs, where that of access tokens is this.
pub(crate) fn svid_issuer(issuer: &str) -> String {
    format!("{}/workload", issuer.trim_end_matches('/'))
}

/// What the registry is told of a key of tokens; `None` of a CA.
pub(crate) fn key_publication(row: &Model, issuer: &str) -> Result<Option<PublishSigningKeyRequest>, Fault> {
    let (r#use, issuer) = match row.purpose()? {
        KeyUse::AccessTokens => (SigningKeyUse::AccessToken, issuer.to_owned()),
        KeyUse::JwtSvids => (SigningKeyUse::JwtSvid, svid_issuer(issuer)),
        KeyUse::WorkloadsCa | KeyUse::OperatorsCa => return Ok(None),
    };
    let is_revoked = row.state == signing_key::number_of(State::Revoked);
    let spec = SigningKeySpec {
        kid: row.kid.clone(),
        issuer,
        jwk: row.public()?.to_jwk(),
        r#use: r#use.into(),
        not_before: None,
        not_after: row.ends_at.and_then(micros),
        revoke_time: row.retired_at.filter(|_| is_revoked).and_then(micros),
    };
    Ok(Some(PublishSigningKeyRequest { signing_key: Some(spec) }))
}
