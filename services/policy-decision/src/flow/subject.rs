//! About whom: a token is proved here, or an id is taken on the word of a caller who may give it.
//!
//! A signature that was checked once stays checked, so that is remembered by the token's SHA-256. Everything that can
//! change is judged at every call: the key, the times, the audience, the presenter, the agent's life.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use legate_clock::Timestamp;
use legate_ids::{Principal, SpiffeId};
use legate_token::{Claims, EcVerifier, Expect, Parsed, PublicKey, Signed, TokenError};
use legate_view::{Agent, KeyUse, SigningKey, Snapshot, after_cutoff};
use parking_lot::Mutex;

use super::asker::Right;
use crate::convert::{Ask, Subject};
use crate::domain::answer::{Answer, Cause, CauseKind, Why};
use crate::store::proved::Proved;

/// How far the clocks of issuer and verifier may be apart, in seconds.
const LEEWAY: u64 = 5;

/// What the token told, for the record. Empty for an asserted subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) instance: String,
    pub(crate) token_id: String,
    pub(crate) expires: Option<Timestamp>,
    /// Whom a token names that is ours and not good (any more), for the record.
    pub(crate) named: Option<Arc<Agent>>,
}

/// Proves tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    proved: Proved<Proof>,
    keys: Mutex<HashMap<String, Ready>>,
}

/// A key as the registry holds it, and ready for use.
type Ready = (Arc<SigningKey>, Arc<Verifier>);

/// A signature that held, and the key by which it did.
#[derive(Debug)]
struct Proof {
    signed: Signed,
    jwk: String,
}

/// A public key, by aws-lc-rs.
struct Verifier(UnparsedPublicKey<[u8; 65]>);

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl EcVerifier for Verifier {
    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify(message, signature).is_ok()
    }
}

/// A subject that is not believed: the denial, and what was known by then.
pub(crate) type NoSubject = (Box<Answer>, Known);

fn no(why: Why, text: impl Into<String>) -> NoSubject {
    no_with(why, text, Known::default())
}

fn no_with(why: Why, text: impl Into<String>, known: Known) -> NoSubject {
    let kind = match why {
        Why::AgentUnknown => CauseKind::AgentState,
        _ => CauseKind::Token,
    };
    (Box::new(Answer::deny(why, Cause::plain(kind, text))), known)
}

impl Tokens {
    /// Remembers `capacity` proved tokens at most.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { proved: Proved::new(capacity), keys: Mutex::new(HashMap::new()) }
    }

    /// How many proved tokens are remembered.
    pub(crate) fn len(&self) -> usize {
        self.proved.len()
    }

    /// The agent that is asked about, by its token or on the caller's word.
    pub(crate) fn subject(
        &self,
        snapshot: &Snapshot,
        right: &Right,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<(Arc<Agent>, Known), NoSubject> {
        // Agents of other namespaces are not shown, whatever proves them.
        let visible = |agent: &&Arc<Agent>| right.shows(&agent.label.namespace);
        let token = match &ask.subject {
            Subject::Asserted(id) => {
                let agent = snapshot.agent(id).filter(visible);
                let agent = agent.ok_or_else(|| no(Why::AgentUnknown, format!("no agent {id} is known here")))?;
                return Ok((Arc::clone(agent), Known::default()));
            }
            Subject::Token(token) => token,
        };
        let proof = self.prove(snapshot, token)?;
        let claims = proof.signed.claims();
        let known = Known {
            instance: claims.instance.as_ref().map_or_else(String::new, ToString::to_string),
            token_id: claims.token_id.clone(),
            expires: i64::try_from(claims.expires_at).ok().map(Timestamp::from_secs),
            named: None,
        };
        match judge(snapshot, right, ask, &proof, now) {
            Ok(agent) => Ok((Arc::clone(agent), known)),
            // Of a token for somebody else's audience nothing is told; of one that is no good, nothing is believed.
            Err((why @ (Why::TokenAudience | Why::TokenInvalid | Why::AgentUnknown), text)) => {
                Err(no_with(why, text, known))
            }
            Err((why, text)) => {
                let of_namespace = |agent: &&Arc<Agent>| agent.label.namespace == claims.namespace;
                let named = snapshot.agent(&claims.agent).filter(of_namespace).filter(visible).cloned();
                Err(no_with(why, text, Known { named, ..known }))
            }
        }
    }

    /// A token whose signature holds under a key that the registry holds now.
    fn prove(&self, snapshot: &Snapshot, token: &str) -> Result<Arc<Proof>, NoSubject> {
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        let hash = <[u8; 32]>::try_from(hash.as_ref()).map_err(|_| no(Why::TokenInvalid, "no hash"))?;
        if let Some(proof) = self.proved.get(&hash) {
            // The key may have been taken back, or replaced, since.
            let key = self.key(snapshot, proof.signed.kid().as_str())?;
            if key.jwk == proof.jwk {
                return Ok(proof);
            }
        }
        let invalid = |e: TokenError| no(Why::TokenInvalid, e.to_string());
        let parsed = Parsed::parse(token).map_err(invalid)?;
        let key = self.key(snapshot, parsed.kid().as_str())?;
        let verifier = self.verifier(key)?;
        let signed = parsed.check_signature(&*verifier).map_err(invalid)?;
        let proof = Arc::new(Proof { signed, jwk: key.jwk.clone() });
        self.proved.insert(hash, Arc::clone(&proof));
        Ok(proof)
    }

    fn key<'a>(&self, snapshot: &'a Snapshot, kid: &str) -> Result<&'a Arc<SigningKey>, NoSubject> {
        snapshot
            .signing_key(kid)
            .filter(|key| key.purpose == KeyUse::AccessToken)
            .ok_or_else(|| no(Why::TokenKeyUnknown, "the token names a key that is not known here"))
    }

    /// The key ready to verify; reading a JWK costs more than using it.
    fn verifier(&self, key: &Arc<SigningKey>) -> Result<Arc<Verifier>, NoSubject> {
        if let Some((known, verifier)) = self.keys.lock().get(&key.kid)
            && Arc::ptr_eq(known, key)
        {
            return Ok(Arc::clone(verifier));
        }
        let public = PublicKey::from_jwk(&key.jwk)
            .ok()
            .filter(|public| public.kid().as_str() == key.kid)
            .ok_or_else(|| no(Why::TokenKeyUnknown, "the key of the token cannot be read"))?;
        let verifier = Arc::new(Verifier(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, *public.as_sec1())));
        let mut keys = self.keys.lock();
        // A handful of keys is in use at a time.
        if keys.len() >= 64 {
            keys.clear();
        }
        keys.insert(key.kid.clone(), (Arc::clone(key), Arc::clone(&verifier)));
        Ok(verifier)
    }
}

/// Judges what may have changed since the token was signed, or since it was last seen.
fn judge<'a>(
    snapshot: &'a Snapshot,
    right: &Right,
    ask: &Ask,
    proof: &Proof,
    now: Timestamp,
) -> Result<&'a Arc<Agent>, (Why, String)> {
    let claims = proof.signed.claims();
    let refuse = |why, text: &str| Err((why, text.to_owned()));
    let Some(key) = snapshot.signing_key(proof.signed.kid().as_str()) else {
        return refuse(Why::TokenKeyUnknown, "the token names a key that is not known here");
    };
    let secs = u64::try_from(now.secs()).unwrap_or(0);
    let issued = Timestamp::from_secs(i64::try_from(claims.issued_at).unwrap_or(i64::MAX));
    let audience = right.audiences().get(&claims.audience);
    let expect = Expect {
        issuer: &key.issuer,
        // Of somebody else's audience only that is said, and not whether the rest would hold.
        audience: audience.map_or("", String::as_str),
        leeway: LEEWAY,
    };
    match proof.signed.verify(&expect, secs) {
        Ok(_) => {}
        Err(e @ TokenError::Audience) => return Err((Why::TokenAudience, e.to_string())),
        Err(e @ (TokenError::Expired | TokenError::NotYet)) => return Err((Why::TokenExpired, e.to_string())),
        Err(e) => return Err((Why::TokenInvalid, e.to_string())),
    }
    if key.not_before.is_some_and(|from| issued < from) || key.not_after.is_some_and(|end| now > end) {
        return refuse(Why::TokenInvalid, "the key of the token does not cover its time");
    }
    is_autonomous(claims)?;
    // RFC 8705 section 3: whoever shows the token has to hold the key of the certificate that it is bound to.
    if ask.presenter != Some(claims.certificate) {
        return refuse(Why::TokenBinding, "the token is bound to another certificate than its presenter's");
    }
    if snapshot.certificate_revocation(&claims.certificate).is_some() {
        return refuse(Why::CredentialRevoked, "the certificate that the token is bound to was revoked");
    }
    let agent = snapshot
        .agent(&claims.agent)
        .filter(|agent| agent.label.namespace == claims.namespace)
        .filter(|agent| right.shows(&agent.label.namespace));
    let Some(agent) = agent else {
        return Err((Why::AgentUnknown, format!("no agent {} is known here", claims.agent)));
    };
    // What stops the agent says more than the token's age, and is judged next.
    let life = snapshot.life_of(agent, now);
    if life.stop.is_none()
        && (life.lifecycle_version != claims.lifecycle_version || !after_cutoff(issued, life.cutoff()))
    {
        return refuse(Why::TokenOutlived, "the token was issued in an earlier life of the agent");
    }
    if !claims.scope.covers(&ask.question.action) {
        return refuse(Why::TokenScope, "the token is narrowed to other actions");
    }
    Ok(agent)
}

/// Delegation is not evaluated here yet, so a token that acts for another is not believed.
fn is_autonomous(claims: &Claims) -> Result<(), (Why, String)> {
    let is_own = SpiffeId::parse(&claims.subject)
        .and_then(|id| Principal::of(&id))
        .is_ok_and(|subject| {
            matches!(subject, Principal::Agent { namespace, id, .. } if namespace == claims.namespace && id == claims.agent)
        });
    if is_own && claims.actors.is_empty() && claims.grant.is_none() {
        return Ok(());
    }
    Err((Why::TokenInvalid, "the token is not the agent's own: acting for another is not evaluated".into()))
}
