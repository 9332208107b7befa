//! A token of an issuer outside is believed in one namespace: whose it is, that it is signed, and whom it stands for.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::Name;
use legate_rpc::Fault;
use legate_token::{ForeignExpect, ForeignToken, ForeignVerified, MAX_LEEWAY};
use legate_view::TrustedIssuer;

use super::Desk;
use crate::domain::foreign::{self, Nobody, OLDEST, StandsFor};
use crate::domain::login;
use crate::error::{AGAIN, ISSUER_KEYS_UNAVAILABLE, of_foreign};
use crate::store::used_token;

/// What a token proved, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    pub(crate) stands_for: StandsFor,
    pub(crate) evidence: Evidence,
}

/// What was shown, as the audit trail keeps it; nothing of it lets anybody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The namespace that trusts the issuer; empty for an identity provider of operators.
    pub(crate) namespace: String,
    /// The trusted issuer, `NAMESPACE/NAME@VERSION`, or the identity provider, as the configuration calls it.
    pub(crate) trusted_by: String,
    /// `iss`.
    pub(crate) issuer: String,
    /// `aud`.
    pub(crate) audience: String,
    /// `sub`.
    pub(crate) subject: String,
    /// `jti`, where the token has one.
    pub(crate) token_id: Option<String>,
    /// What the token is known by where it may be used once.
    pub(crate) once: [u8; 32],
    /// `iat`, as early as it can have been by our clock: what was made before a stop must not pass for made after it.
    pub(crate) issued: Timestamp,
    /// `exp`: nothing that rests on the token alone outlives it.
    pub(crate) expires: Timestamp,
}

impl Evidence {
    /// Of a token of a trusted issuer.
    fn of(token: &ForeignVerified, trusted: &TrustedIssuer) -> Self {
        Self::from(token, trusted.label.namespace.to_string(), trusted.label.to_string())
    }

    /// Of a token of an identity provider of operators.
    pub(super) fn of_provider(token: &ForeignVerified, provider: &Name) -> Self {
        Self::from(token, String::new(), provider.to_string())
    }

    fn from(token: &ForeignVerified, namespace: String, trusted_by: String) -> Self {
        let at = |seconds: u64| Timestamp::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        Self {
            namespace,
            trusted_by,
            issuer: token.issuer().to_owned(),
            audience: token.audience().to_owned(),
            subject: token.subject().to_owned(),
            token_id: token.token_id().map(Into::into),
            once: token.once(),
            issued: at(token.issued_at().saturating_sub(MAX_LEEWAY)),
            expires: at(token.expires_at()),
        }
    }

    /// The row that makes sure the token is used once: for `credential_id`, by the request of this SHA-256.
    pub(crate) fn used(&self, now: Timestamp, request_sha256: &[u8], credential_id: &str) -> used_token::Model {
        used_token::Model {
            once: self.once.to_vec(),
            used_at: now.micros(),
            expires_at: self.expires.micros(),
            request_sha256: request_sha256.to_vec(),
            credential_id: credential_id.to_owned(),
        }
    }
}

/// Believes a token in a namespace, or says why not; with the registry's revision. That it is used once is for the caller to
/// see to, in the transaction that records what it makes of it ([`Evidence::used`]).
pub(crate) async fn prove(desk: &Desk, namespace: &str, token: &str) -> Result<(Proven, u64), Fault> {
    let namespace = Name::parse(namespace).map_err(|e| Fault::invalid("namespace", e.to_string()))?;
    let token = ForeignToken::parse(token).map_err(of_foreign)?;
    let issuer = token.claimed_issuer().map_err(of_foreign)?;
    let audience = token.claimed_audience().map_err(of_foreign)?;
    // By such a token whoever has it becomes an operator; so nobody is to hand one to an agent, or to show it for one.
    let providers = desk.logins.as_ref().map_or(&[][..], |logins| &logins.providers);
    if login::choose(providers, issuer, audience).is_ok() {
        return Err(Nobody::OfOperators.into());
    }
    let (trusted, _) = desk
        .look(|snapshot| foreign::choose(snapshot, &namespace, issuer, audience).cloned().map_err(Fault::from))
        .await?;
    let signed = desk.federation.check(&token, &trusted.keys).await?;
    let expect = ForeignExpect {
        issuer: &trusted.issuer,
        audiences: &trusted.audiences,
        max_age: OLDEST.as_secs(),
        leeway: MAX_LEEWAY,
    };
    let verified = signed.verify(&expect, desk.seconds()).map_err(of_foreign)?;
    // The keys may have taken their time; whom the issuer may speak for is judged by what is declared now.
    let (stands_for, revision) = desk
        .look(|snapshot| {
            let still = foreign::choose(snapshot, &namespace, verified.issuer(), verified.audience())?;
            if !is_same(still, &trusted) {
                let why = "the trusted issuer was declared anew while its token was being checked";
                return Err(Fault::unavailable(&ISSUER_KEYS_UNAVAILABLE, why, AGAIN));
            }
            Ok(foreign::stands_for(snapshot, still, &verified)?)
        })
        .await?;
    let evidence = Evidence::of(&verified, &trusted);
    Ok((Proven { stands_for, evidence }, revision))
}

/// Just before an answer leaves: whether the issuer is trusted as it was.
pub(crate) fn still(desk: &Desk, evidence: &Evidence) -> Result<(), Fault> {
    let snapshot = desk.fresh()?.snapshot;
    let is_there =
        snapshot.trusted_issuers(&evidence.namespace).any(|one| one.label.to_string() == evidence.trusted_by);
    is_there.then_some(()).ok_or_else(|| Nobody::NotTrusted.into())
}

fn is_same(one: &Arc<TrustedIssuer>, other: &Arc<TrustedIssuer>) -> bool {
    one.label.id == other.label.id && one.label.version == other.label.version && one.keys == other.keys
}
