//! A token of an issuer outside is believed in one namespace: whose it is, that it is signed, and whom it stands for.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::Name;
use legate_rpc::Fault;
use legate_token::{ForeignExpect, ForeignToken, ForeignVerified, MAX_LEEWAY};
use legate_view::{Snapshot, TrustedIssuer};

use super::Desk;
use crate::domain::foreign::{self, Nobody, OLDEST, StandsFor, Use};
use crate::domain::login;
use crate::error::{AGAIN, ISSUER_KEYS_UNAVAILABLE, of_foreign};
use crate::store::used_token;

/// What a token proved, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    pub(crate) stands_for: StandsFor,
    pub(crate) evidence: Evidence,
    pub(crate) sign_in: SignIn,
}

/// What a token says of how its subject signed in (OpenID Connect Core 1.0 section 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SignIn {
    /// `auth_time`.
    pub(crate) at: Option<Timestamp>,
    /// `acr`; empty: none.
    pub(crate) how: String,
    /// `nonce`; empty: none.
    pub(crate) nonce: String,
    /// The trusted issuer, by id and version.
    pub(crate) trusted: (String, u32),
}

/// The longest `acr` and `nonce` that are read, in bytes.
const LONGEST_SAID: usize = 256;

impl SignIn {
    fn of(token: &ForeignVerified, trusted: &TrustedIssuer) -> Self {
        let said = |claim: &str| {
            let text = token.claim(claim).unwrap_or_default();
            if text.len() <= LONGEST_SAID && !text.chars().any(legate_ids::is_deceptive) {
                text.into_owned()
            } else {
                String::new()
            }
        };
        Self {
            at: token.signed_in_at().and_then(|at| i64::try_from(at).ok()).map(Timestamp::from_secs),
            how: said("acr"),
            nonce: said("nonce"),
            trusted: (trusted.label.id.to_string(), trusted.label.version),
        }
    }
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
    /// How many tokens of the issuer may be kept as used.
    pub(crate) most_used: u32,
}

/// How many tokens of an identity provider of operators may be kept as used.
const MOST_OF_PROVIDER: u32 = 1_000_000;

impl Evidence {
    /// Of a token of a trusted issuer.
    fn of(token: &ForeignVerified, trusted: &TrustedIssuer) -> Self {
        let namespace = trusted.label.namespace.to_string();
        Self::from(token, namespace, trusted.label.to_string(), trusted.max_used_tokens)
    }

    /// Of a token of an identity provider of operators.
    pub(super) fn of_provider(token: &ForeignVerified, provider: &Name) -> Self {
        Self::from(token, String::new(), provider.to_string(), MOST_OF_PROVIDER)
    }

    fn from(token: &ForeignVerified, namespace: String, trusted_by: String, most_used: u32) -> Self {
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
            most_used,
        }
    }

    /// Whose share of the used tokens it takes: the trusted issuer's, whatever its version, or the provider's.
    fn share(&self) -> &str {
        self.trusted_by.split('@').next().unwrap_or_default()
    }

    /// The row that makes sure the token is used once: for `credential_id`, by the request of this SHA-256.
    pub(crate) fn used(&self, now: Timestamp, request_sha256: &[u8], credential_id: &str) -> used_token::Model {
        used_token::Model {
            once: self.once.to_vec(),
            used_at: now.micros(),
            expires_at: self.expires.micros(),
            request_sha256: request_sha256.to_vec(),
            credential_id: credential_id.to_owned(),
            trusted: self.share().to_owned(),
            bucket: used_token::bucket(&self.once),
        }
    }
}

/// Believes a token in a namespace, that is shown to be somebody or to act for him; see [`prove_for`].
pub(crate) async fn prove(desk: &Desk, namespace: &str, token: &str) -> Result<(Proven, u64), Fault> {
    prove_for(desk, namespace, token, Use::Identity).await
}

/// Believes a token in a namespace, or says why not; with the registry's revision. That it is used once is for the caller to
/// see to, in the transaction that records what it makes of it ([`Evidence::used`]).
pub(crate) async fn prove_for(
    desk: &Desk,
    namespace: &str,
    token: &str,
    shown_for: Use,
) -> Result<(Proven, u64), Fault> {
    let namespace = Name::parse(namespace).map_err(|e| Fault::invalid("namespace", e.to_string()))?;
    let (verified, trusted) = verified(desk, &namespace, token, shown_for).await?;
    // The keys may have taken their time; whom the issuer may speak for is judged by what is declared now.
    let (stands_for, revision) = desk
        .look(|snapshot| {
            let still = unchanged(snapshot, &namespace, &verified, &trusted, shown_for)?;
            Ok(foreign::stands_for(snapshot, still, &verified)?)
        })
        .await?;
    let evidence = Evidence::of(&verified, &trusted);
    Ok((Proven { stands_for, evidence, sign_in: SignIn::of(&verified, &trusted) }, revision))
}

/// Believes a token of a process in a namespace, whomever it may stand for: attestation policies ask for what it says.
pub(crate) async fn vouched(desk: &Desk, namespace: &Name, token: &str) -> Result<(ForeignVerified, Evidence), Fault> {
    let (verified, trusted) = verified(desk, namespace, token, Use::Identity).await?;
    desk.look(|snapshot| unchanged(snapshot, namespace, &verified, &trusted, Use::Identity).map(drop)).await?;
    let evidence = Evidence::of(&verified, &trusted);
    Ok((verified, evidence))
}

/// The trusted issuer of a token, as it is declared now, where that is as it was when the token was checked.
fn unchanged<'a>(
    snapshot: &'a Snapshot,
    namespace: &Name,
    token: &ForeignVerified,
    trusted: &Arc<TrustedIssuer>,
    shown_for: Use,
) -> Result<&'a Arc<TrustedIssuer>, Fault> {
    let still = foreign::choose(snapshot, namespace, (token.issuer(), token.audience()), shown_for)?;
    if is_same(still, trusted) {
        return Ok(still);
    }
    let why = "the trusted issuer was declared anew while its token was being checked";
    Err(Fault::unavailable(&ISSUER_KEYS_UNAVAILABLE, why, AGAIN))
}

/// A token that an issuer trusted by the namespace signed for us, and that is good now.
async fn verified(
    desk: &Desk,
    namespace: &Name,
    token: &str,
    shown_for: Use,
) -> Result<(ForeignVerified, Arc<TrustedIssuer>), Fault> {
    let token = ForeignToken::parse(token).map_err(of_foreign)?;
    let issuer = token.claimed_issuer().map_err(of_foreign)?;
    let audience = token.claimed_audience().map_err(of_foreign)?;
    // By such a token whoever has it becomes an operator; so nobody is to hand one to an agent, or to show it for one.
    let providers = desk.logins.as_ref().map_or(&[][..], |logins| &logins.providers);
    if login::choose(providers, issuer, audience).is_ok() {
        return Err(Nobody::OfOperators.into());
    }
    let (trusted, _) = desk
        .look(|snapshot| {
            foreign::choose(snapshot, namespace, (issuer, audience), shown_for).cloned().map_err(Fault::from)
        })
        .await?;
    let signed = desk.federation.check(namespace.as_str(), &token, &trusted.keys).await?;
    let expect = ForeignExpect {
        issuer: &trusted.issuer,
        audiences: shown_for.audiences(&trusted),
        max_age: OLDEST.as_secs(),
        leeway: MAX_LEEWAY,
    };
    Ok((signed.verify(&expect, desk.seconds()).map_err(of_foreign)?, trusted))
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
