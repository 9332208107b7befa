//! Whether an access token whose signature and times are good still stands: its agent, its certificate, and everything before it.
//!
//! One rule for all who are shown tokens: whoever decides by one and whoever says what became of it ask here.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::{AgentId, CredentialId, Principal, SpiffeId};
use legate_token::{Claims, Confirmation, Subject};

use crate::agent::Agent;
use crate::delegation::{Broken, Delegation};
use crate::life::Stop;
use crate::snapshot::{Snapshot, after_cutoff};

/// A token that stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Who holds it.
    pub agent: Arc<Agent>,
    /// For whom, and through whom, it acts; `None`: for itself.
    pub delegation: Option<Delegation>,
}

/// Why a token does not stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fallen {
    /// The certificate that it is bound to was revoked.
    #[error("the certificate that the token is bound to was revoked")]
    Certificate,
    /// The client secret or key by which it was obtained was revoked.
    #[error("the credential by which the token was obtained was revoked")]
    Credential,
    /// It is bound to nothing, and its holder's credential policy does not let such tokens be given (any more).
    #[error("the token is bound to no key, which its agent's credential policy does not allow")]
    Unbound,
    /// The token itself was taken back.
    #[error("the token was revoked")]
    Revoked,
    /// No such agent is known.
    #[error("no agent {0} is known here")]
    Unknown(AgentId),
    /// The agent that holds it does not work.
    #[error("the agent {0} does not work now")]
    Stopped(AgentId, Stop),
    /// It was issued in an earlier life of the agent.
    #[error("the token was issued in an earlier life of the agent")]
    Outlived,
    /// Everything by which agents act for the person was taken back after it was issued.
    #[error("what was issued for agents to act for {0} was revoked after the token was issued")]
    Subject(String),
    /// A token that was exchanged for it, or what that one was bound to, was taken back, or is of an earlier life of its holder.
    #[error("a token that was exchanged for this one no longer stands: {0}")]
    Parent(&'static str),
    /// The chain does not hold.
    #[error("{0}")]
    Chain(#[from] Broken),
}

impl Snapshot {
    /// Whether the token of these claims, which were signed and are within their times, still stands at `now`.
    ///
    /// # Errors
    /// Why it does not.
    pub fn token_standing(&self, claims: &Claims, now: Timestamp) -> Result<Standing, Fallen> {
        let is_revoked = |confirmation: &Confirmation| {
            confirmation.certificate().is_some_and(|x5t| self.certificate_revocation(x5t).is_some())
        };
        let is_taken_back = |credential: &Option<CredentialId>| {
            credential.as_ref().is_some_and(|id| self.revocation(id.as_str()).is_some())
        };
        if self.token_revocation(&claims.token_id).is_some() {
            return Err(Fallen::Revoked);
        }
        if is_revoked(&claims.confirmation) {
            return Err(Fallen::Certificate);
        }
        if is_taken_back(&claims.credential) {
            return Err(Fallen::Credential);
        }
        // Believed only as long as the policy lets such tokens be given.
        let may_bear =
            |agent: &Agent| self.credential_policy_of(agent).ok().flatten().is_some_and(|policy| policy.may_bear);
        let known = |id: &AgentId| self.agent(id).filter(|agent| agent.label.namespace == claims.namespace);
        let agent = known(&claims.agent).ok_or_else(|| Fallen::Unknown(claims.agent.clone()))?;
        if claims.confirmation == Confirmation::Bearer && !may_bear(agent) {
            return Err(Fallen::Unbound);
        }
        let life = self.life_of(agent, now);
        if let Some(stop) = life.stop {
            return Err(Fallen::Stopped(claims.agent.clone(), stop));
        }
        let issued = Timestamp::from_secs(i64::try_from(claims.issued_at).unwrap_or(i64::MAX));
        if life.lifecycle_version != claims.lifecycle_version || !after_cutoff(issued, life.cutoff()) {
            return Err(Fallen::Outlived);
        }
        if let Subject::Person(_) = &claims.subject {
            let person = claims.subject.to_string();
            if !after_cutoff(issued, self.subject_cutoff(claims.namespace.as_str(), &person)) {
                return Err(Fallen::Subject(person));
            }
        }
        if claims.chain.is_empty() {
            return Ok(Standing { agent: Arc::clone(agent), delegation: None });
        }
        for (holder, parent) in claims.chain.holders(&claims.subject) {
            if self.token_revocation(&parent.token_id).is_some() {
                return Err(Fallen::Parent("it was revoked"));
            }
            if is_taken_back(&parent.credential) {
                return Err(Fallen::Parent("the credential by which it was obtained was revoked"));
            }
            if is_revoked(&parent.confirmation) {
                return Err(Fallen::Parent("the certificate that it was bound to was revoked"));
            }
            let Some(holder) = agent_of(holder).and_then(|id| known(&id)) else {
                return Err(Fallen::Parent("its holder is not known here"));
            };
            if parent.confirmation == Confirmation::Bearer && !may_bear(holder) {
                return Err(Fallen::Parent(
                    "it was bound to no key, which its holder's credential policy does not allow",
                ));
            }
            let life = self.life_of(holder, now);
            if let Some(stop) = life.stop {
                return Err(Broken::Stopped(holder.id.to_string(), Some(stop)).into());
            }
            // It was exchanged while it stood, so what was issued for it is no older than it.
            if life.lifecycle_version != parent.lifecycle_version || !after_cutoff(issued, life.cutoff()) {
                return Err(Fallen::Parent("it was issued in an earlier life of its holder"));
            }
        }
        let actors: Vec<AgentId> = claims.chain.actors.iter().filter_map(agent_of).collect();
        let groups = &claims.chain.groups;
        let chain = self.delegation(&claims.namespace, &claims.subject, groups, &actors, &claims.chain.grants, now)?;
        Ok(Standing { agent: Arc::clone(agent), delegation: Some(chain) })
    }
}

fn agent_of(id: &SpiffeId) -> Option<AgentId> {
    match Principal::of(id) {
        Ok(Principal::Agent { id, .. }) => Some(id),
        _ => None,
    }
}
