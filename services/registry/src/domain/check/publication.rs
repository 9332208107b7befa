//! What credential-issuer publishes: signing keys and revocations, with paths relative to the spec.

use legate_ids::{CredentialId, Principal, SpiffeId};
use legate_token::{KeyId, PublicKey};
use legate_wire::registry::{RevocationReason, RevocationSpec, SigningKeySpec, SigningKeyUse};

use super::findings::Findings;
use crate::domain::problem::Problem;
use crate::domain::text::quoted;

/// What is wrong with a public key that is to be believed.
pub(crate) fn check_signing_key(spec: &SigningKeySpec) -> Vec<Problem> {
    let mut findings = Findings::default();
    if let Err(e) = KeyId::parse(&spec.kid) {
        findings.add("kid", e.to_string());
    }
    // What a token's `iss` may be.
    let is_issuer = (1..=512).contains(&spec.issuer.len()) && spec.issuer.bytes().all(|b| b.is_ascii_graphic());
    if !is_issuer {
        findings.add("issuer", "is not 1 to 512 printable ASCII characters");
    }
    match PublicKey::from_jwk(&spec.jwk) {
        // RFC 7638: the thumbprint names the key, so nobody can publish another under its name.
        Ok(key) if key.kid().as_str() != spec.kid => findings.add("kid", "is not the RFC 7638 thumbprint of the jwk"),
        Ok(_) => {}
        Err(e) => findings.add("jwk", e.to_string()),
    }
    let uses = "SIGNING_KEY_USE_ACCESS_TOKEN or SIGNING_KEY_USE_JWT_SVID";
    findings.choice::<SigningKeyUse>("use", spec.r#use, true, uses);
    findings.window("", spec.not_before, spec.not_after);
    findings.moment("revoke_time", spec.revoke_time);
    // What it signed ends, whatever a reader makes of the other.
    if spec.revoke_time.is_some() && spec.not_after.is_none() {
        findings.add("not_after", "is needed of a key that was taken back");
    }
    findings.into()
}

/// What is wrong with a revocation. Only what a reader needs is asked for: a revocation that is refused stops nobody.
pub(crate) fn check_revocation(spec: &RevocationSpec) -> Vec<Problem> {
    let mut findings = Findings::default();
    if spec.cut_off.is_some() {
        findings.add("cut_off", "is what an operator orders of the registry");
    }
    if spec.token_id.is_empty() {
        if let Err(e) = CredentialId::parse(&spec.credential_id) {
            findings.add("credential_id", e.to_string());
        }
    } else {
        let is_word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if !(16..=64).contains(&spec.token_id.len()) || !is_word(&spec.token_id) {
            findings.add("token_id", "a jti is 16 to 64 of A-Z a-z 0-9 _ -".to_owned());
        }
        if !spec.credential_id.is_empty() || !spec.x5t_s256.is_empty() {
            findings.add("token_id", "a revocation is of a token or of a credential".to_owned());
        }
    }
    let holder = SpiffeId::parse(&spec.spiffe_id).and_then(|id| Principal::of(&id));
    match holder {
        Ok(Principal::Agent { .. } | Principal::Enforcer { .. } | Principal::Node { .. } | Principal::Operator(_)) => {}
        Ok(Principal::Service(_)) => {
            let why = format!("{} is a service, whose certificates are none of the issuer's", quoted(&spec.spiffe_id));
            findings.add("spiffe_id", why);
        }
        Err(e) => findings.add("spiffe_id", e.to_string()),
    }
    if !matches!(spec.x5t_s256.len(), 0 | 32) {
        findings.add("x5t_s256", format!("is {} bytes long; a SHA-256 has 32", spec.x5t_s256.len()));
    }
    findings.moment("expire_time", spec.expire_time);
    findings.moment("revoke_time", spec.revoke_time);
    findings.choice::<RevocationReason>("reason", spec.reason, false, "a reason of RFC 5280 section 5.3.1");
    findings.into()
}
