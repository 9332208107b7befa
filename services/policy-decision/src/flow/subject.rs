//! About whom: a token is proved here, or an id is taken on the word of a caller who may give it.
//!
//! A signature that was checked once stays checked, so that is remembered by the token's SHA-256. Everything that can
//! change is judged at every call: the key, the times, the audience, the presenter, the agent's life.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use legate_clock::Timestamp;
use legate_ids::{AgentId, Principal, SpiffeId};
use legate_mtls::Trust;
use legate_token::{Claims, Confirmation, EcVerifier, Expect, Parsed, PublicKey, Scope, Signed, TokenError};
use legate_view::{
    Agent, CERTIFICATE_BACKDATE, Delegation, DelegationGrant, Delegator, Fallen, KeyUse, SigningKey, Snapshot,
    after_cutoff,
};
use parking_lot::Mutex;

use super::asker::Right;
use crate::convert::{Ask, Subject};
use crate::domain::answer::{Answer, Cause, CauseKind, Why};
use crate::domain::behalf;
use crate::domain::memory::Memory;

/// How far the clocks of issuer and verifier may be apart, in seconds.
const LEEWAY: u64 = 5;

/// What the token told, for the record. Empty for an asserted subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) instance: String,
    pub(crate) token_id: String,
    pub(crate) expires: Option<Timestamp>,
    /// To whom the token is addressed; without one, towards whom alone it is let through.
    pub(crate) audience: Option<String>,
    /// For whom it is said to act, whether or not that holds.
    pub(crate) acts_for: Option<Box<ActsFor>>,
    /// For whom it acts, where that holds.
    pub(crate) delegation: Option<Arc<Delegation>>,
    /// Whom a token names that is ours and not good (any more), for the record.
    pub(crate) named: Option<Arc<Agent>>,
    /// Why a token that is good says nothing of what is asked. Told where it would be allowed: of what its holder may not do at all,
    /// another token would say nothing either.
    pub(crate) outside: Option<&'static str>,
}

/// For whom an agent acts, as it is told and recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActsFor {
    /// `user:NAME`, or an agent's id.
    pub(crate) subject: String,
    /// Who acts and who acted before it, newest first, by agent id.
    pub(crate) chain: Vec<String>,
    /// By which grants, by id, in the same order.
    pub(crate) grants: Vec<String>,
}

impl ActsFor {
    /// What a token says; `None` when its agent acts for itself.
    fn told(claims: &Claims) -> Option<Self> {
        let id = |id: &SpiffeId| match Principal::of(id) {
            Ok(Principal::Agent { id, .. }) => id.to_string(),
            _ => id.to_string(),
        };
        (!claims.chain.is_empty()).then(|| Self {
            subject: claims.subject.agent().map_or_else(|| claims.subject.to_string(), id),
            chain: claims.chain.actors.iter().map(id).collect(),
            grants: claims.chain.grants.clone(),
        })
    }

    /// What a chain that holds says.
    fn of(delegation: &Delegation) -> Self {
        Self {
            subject: behalf::subject(delegation),
            chain: delegation.hops.iter().map(|hop| hop.delegate.id.to_string()).collect(),
            grants: delegation.hops.iter().map(|hop| hop.grant.label.id.to_string()).collect(),
        }
    }
}

/// Proves tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// By whom certificates of agents have to be signed.
    trust: Trust,
    proved: Memory<[u8; 32], Proof>,
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

/// By what a token was shown, on the word of the caller, who saw it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown {
    /// SHA-256 of the certificate.
    pub(crate) presenter: Option<[u8; 32]>,
    /// RFC 7638 thumbprint of the key of the DPoP proof.
    pub(crate) presenter_key: Option<[u8; 32]>,
}

/// Whoever holds a good token, and what it is narrowed to.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) agent: Arc<Agent>,
    pub(crate) token_id: String,
    pub(crate) scope: Scope,
    /// Whether it acts for somebody, or the token names resources: what that leaves hangs on the question.
    pub(crate) is_narrowed: bool,
}

/// A subject that is not believed: the denial, and what was known by then.
pub(crate) type NoSubject = Box<(Answer, Known)>;

fn no(why: Why, text: impl Into<String>) -> NoSubject {
    no_with(why, text, Known::default())
}

fn no_with(why: Why, text: impl Into<String>, known: Known) -> NoSubject {
    let kind = match why {
        Why::AgentUnknown => CauseKind::AgentState,
        Why::GrantNotInForce
        | Why::GrantOutsideWindow
        | Why::ChainInvalid
        | Why::ChainTooLong
        | Why::DelegatorStopped => CauseKind::Grant,
        _ => CauseKind::Token,
    };
    Box::new((Answer::deny(why, Cause::plain(kind, text)), known))
}

impl Tokens {
    /// Remembers `capacity` proved tokens at most.
    pub(crate) fn new(capacity: usize, trust: Trust) -> Self {
        Self { trust, proved: Memory::new(capacity), keys: Mutex::new(HashMap::new()) }
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
                return on_its_word(snapshot, right, ask, Arc::clone(agent), Known::default(), now);
            }
            Subject::Certificate(chain) => {
                let (agent, known) = self.certified(snapshot, right, chain, now)?;
                return on_its_word(snapshot, right, ask, agent, known, now);
            }
            Subject::Token(token) => token,
        };
        let proof = self.prove(snapshot, token)?;
        let claims = proof.signed.claims();
        let known = Known {
            instance: claims.instance.as_ref().map_or_else(String::new, ToString::to_string),
            token_id: claims.token_id.clone(),
            expires: i64::try_from(claims.expires_at).ok().map(Timestamp::from_secs),
            audience: Some(claims.audience.clone()),
            acts_for: ActsFor::told(claims).map(Box::new),
            ..Known::default()
        };
        match judge(snapshot, right, ask, &proof, now) {
            Ok((agent, None, outside)) => on_its_word(snapshot, right, ask, agent, Known { outside, ..known }, now),
            Ok((agent, Some(_), _)) if ask.on_behalf_of.is_some() => {
                let text = "the token says itself for whom the agent acts; leave on_behalf_of out";
                Err(no_with(Why::ChainInvalid, text, Known { named: Some(agent), ..known }))
            }
            Ok((agent, Some(delegation), outside)) => {
                Ok((agent, Known { delegation: Some(Arc::new(delegation)), outside, ..known }))
            }
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

    /// Whom a certificate names that was shown to the caller, where it is good now.
    fn certified(
        &self,
        snapshot: &Snapshot,
        right: &Right,
        chain: &[u8],
        now: Timestamp,
    ) -> Result<(Arc<Agent>, Known), NoSubject> {
        let peer = self.trust.shown_in_der(chain, now).map_err(|e| no(Why::CertificateInvalid, e.to_string()))?;
        let Some(Principal::Agent { namespace, id, instance }) = &peer.principal else {
            return Err(no(Why::CertificateInvalid, "the certificate is not an agent's"));
        };
        let known = Known {
            instance: instance.as_ref().map_or_else(String::new, ToString::to_string),
            expires: Some(peer.not_after),
            ..Known::default()
        };
        let shown = |agent: &&Arc<Agent>| right.shows(&agent.label.namespace) && agent.label.namespace == *namespace;
        let Some(agent) = snapshot.agent(id).filter(shown) else {
            return Err(no_with(Why::AgentUnknown, format!("no agent {id} is known here"), known));
        };
        // Of an agent that is stopped now, its state is said rather than that of the certificate: whoever judges it next does that.
        let life = snapshot.life_of(agent, now);
        let issued = peer.not_before.plus(CERTIFICATE_BACKDATE);
        let (why, text) = if snapshot.certificate_revocation(&peer.x5t_s256).is_some() {
            (Why::CredentialRevoked, "the certificate was revoked")
        } else if life.stop.is_none() && !after_cutoff(issued, life.cutoff()) {
            (Why::CertificateOutlived, "the certificate is of an earlier life of the agent")
        } else {
            return Ok((Arc::clone(agent), known));
        };
        Err(no_with(why, text, Known { named: Some(Arc::clone(agent)), ..known }))
    }

    /// Whoever holds a token, where it is good for something.
    pub(crate) fn holder(
        &self,
        snapshot: &Snapshot,
        right: &Right,
        token: &str,
        shown: Shown,
        now: Timestamp,
    ) -> Result<Holder, NoSubject> {
        let proof = self.prove(snapshot, token)?;
        let claims = proof.signed.claims();
        let (agent, delegation) = stands(snapshot, right, shown, &proof, now).map_err(|(why, text)| no(why, text))?;
        Ok(Holder {
            agent,
            token_id: claims.token_id.clone(),
            scope: claims.scope.clone(),
            is_narrowed: delegation.is_some() || !claims.details.is_empty(),
        })
    }

    /// Whose a token is, where its signature holds; whether it is good for anything is not looked at.
    pub(crate) fn agent_of(&self, snapshot: &Snapshot, token: &str) -> Option<AgentId> {
        self.prove(snapshot, token).ok().map(|proof| proof.signed.claims().agent.clone())
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

/// For whom the agent acts on the caller's word, where it says so; its right to say so was looked at before.
fn on_its_word(
    snapshot: &Snapshot,
    right: &Right,
    ask: &Ask,
    agent: Arc<Agent>,
    known: Known,
    now: Timestamp,
) -> Result<(Arc<Agent>, Known), NoSubject> {
    let Some(said) = &ask.on_behalf_of else { return Ok((agent, known)) };
    let named = said.grant.as_ref();
    let of_name = |grant: &&Arc<DelegationGrant>| named.is_none_or(|name| grant.label.name == *name);
    let candidates = snapshot.delegation_grants_to(&agent).iter().filter(of_name);
    let mut chosen: Option<(Delegation, bool)> = None;
    let mut why_not = None;
    for grant in candidates {
        let found = match snapshot.delegation_by(grant, now) {
            Ok(found) if found.hops.first().is_some_and(|hop| hop.delegate.id == agent.id) => found,
            Ok(_) => continue,
            Err(why) => {
                why_not.get_or_insert(why);
                continue;
            }
        };
        if found.subject().map(Delegator::as_text).as_deref() != Some(said.subject.as_str()) {
            continue;
        }
        // The first that lets it through; where none does, the first there is.
        let towards = right.towards(known.audience.as_deref());
        let fits = behalf::through(&found, &ask.question, towards.as_deref(), now).is_ok();
        if chosen.as_ref().is_none_or(|(_, before)| fits && !before) {
            chosen = Some((found, fits));
        }
    }
    match (chosen, why_not) {
        (Some((delegation, _)), _) => {
            let acts_for = Some(Box::new(ActsFor::of(&delegation)));
            Ok((agent, Known { acts_for, delegation: Some(Arc::new(delegation)), ..known }))
        }
        (None, why_not) => {
            let acts_for = ActsFor { subject: said.subject.clone(), chain: vec![agent.id.to_string()], grants: vec![] };
            let known = Known { acts_for: Some(Box::new(acts_for)), named: Some(Arc::clone(&agent)), ..known };
            let (why, text) = why_not.map_or_else(
                || (Why::ChainInvalid, format!("no grant lets {} act for {}", agent.label.name, said.subject)),
                |why| behalf::broken(&why),
            );
            Err(Box::new((Answer::deny(why, Cause::plain(CauseKind::Grant, text)), known)))
        }
    }
}

/// Whether whoever shows the token holds what it is bound to, on the word of the caller, who saw it.
fn is_bound(shown: Shown, claims: &Claims) -> Result<(), &'static str> {
    match &claims.confirmation {
        // RFC 8705 section 3.
        Confirmation::Certificate(x5t) if shown.presenter == Some(*x5t) => Ok(()),
        Confirmation::Certificate(_) => Err("the token is bound to another certificate than its presenter's"),
        // RFC 9449 section 7.
        Confirmation::Key(jkt) if shown.presenter_key == Some(*jkt) => Ok(()),
        Confirmation::Key(_) => Err("the token is bound to another key than that of its presenter's DPoP proof"),
        // Whether the policy lets such tokens be given is part of their standing.
        Confirmation::Bearer => Ok(()),
    }
}

/// An agent by its token: for whom it acts, and why the token says nothing of what is asked, where it does not.
type Stands = (Arc<Agent>, Option<Delegation>, Option<&'static str>);

/// Judges what may have changed since the token was signed, or since it was last seen.
fn judge(
    snapshot: &Snapshot,
    right: &Right,
    ask: &Ask,
    proof: &Proof,
    now: Timestamp,
) -> Result<Stands, (Why, String)> {
    let shown = Shown { presenter: ask.presenter, presenter_key: ask.presenter_key };
    let (agent, delegation) = stands(snapshot, right, shown, proof, now)?;
    let (claims, question) = (proof.signed.claims(), &ask.question);
    let resource = (&question.resource_type, &question.resource_id);
    let outside = if !claims.scope.covers(&question.action) {
        Some("the token is narrowed to other actions")
    } else if !claims.details.cover(&question.action, resource, &claims.audience) {
        Some("the token's authorization details are for other actions or resources")
    } else {
        None
    };
    Ok((agent, delegation, outside))
}

/// Judges a token whatever it is used for; the agent, and for whom it acts.
fn stands(
    snapshot: &Snapshot,
    right: &Right,
    shown: Shown,
    proof: &Proof,
    now: Timestamp,
) -> Result<(Arc<Agent>, Option<Delegation>), (Why, String)> {
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
    if let Err(why) = is_bound(shown, claims) {
        return refuse(Why::TokenBinding, why);
    }
    let unknown = || Err((Why::AgentUnknown, format!("no agent {} is known here", claims.agent)));
    if !right.shows(&claims.namespace) {
        return unknown();
    }
    match snapshot.token_standing(claims, now) {
        Ok(standing) => Ok((standing.agent, standing.delegation)),
        // What stops the agent says more than the token's age, and is judged next.
        Err(Fallen::Stopped(id, _)) => match snapshot.agent(&id) {
            Some(agent) => Ok((Arc::clone(agent), None)),
            None => unknown(),
        },
        Err(Fallen::Unknown(_)) => unknown(),
        Err(fallen @ (Fallen::Certificate | Fallen::Credential | Fallen::Revoked | Fallen::Subject(_))) => {
            Err((Why::CredentialRevoked, fallen.to_string()))
        }
        Err(fallen @ Fallen::Unbound) => Err((Why::TokenBinding, fallen.to_string())),
        Err(fallen @ Fallen::Outlived) => Err((Why::TokenOutlived, fallen.to_string())),
        Err(fallen @ Fallen::Parent(_)) => Err((Why::ParentTokenFallen, fallen.to_string())),
        Err(Fallen::Chain(why)) => Err(behalf::broken(&why)),
    }
}
