//! Whom a token of an issuer outside stands for: the one declaration that speaks of it, and that one's first rule that matches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use legate_ids::{AgentId, Name};
use legate_token::ForeignVerified;
use legate_view::{Snapshot, StandsFor as Said, TrustedIssuer};

/// A token is believed for so long after it was made, however long it would live.
pub(crate) const OLDEST: Duration = Duration::from_secs(3600);

/// Whom a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StandsFor {
    /// An agent, not yet known to be in good standing.
    Agent(AgentId),
    /// A person, as `user:NAME`.
    Person(String),
}

/// Why a token stands for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nobody {
    #[error("no trusted issuer of the namespace has the token's iss and its one aud")]
    NotTrusted,
    #[error(
        "tokens of this iss and aud make operators, and stand for nobody in a namespace; have one made for another aud"
    )]
    OfOperators,
    #[error(
        "several trusted issuers of the namespace have the token's iss and aud, so nobody can say whose rules hold"
    )]
    Ambiguous,
    #[error("no rule of the trusted issuer matches the token's claims")]
    NoRule,
    #[error(
        "the first rule of the trusted issuer that matches the token's claims stands for nobody: its agent was retired"
    )]
    Retired,
    #[error("the agent that the rule names is not there")]
    NoAgent,
    #[error("the claim that should name the person is not there, or is no name: 1 to 256 bytes without white space")]
    NoPerson,
    #[error("the token says that its e-mail address is not verified")]
    Unverified,
}

/// The one trusted issuer of the namespace that has this issuer and audience.
pub(crate) fn choose<'a>(
    snapshot: &'a Snapshot,
    namespace: &Name,
    issuer: &str,
    audience: &str,
) -> Result<&'a Arc<TrustedIssuer>, Nobody> {
    let mut fitting = snapshot
        .trusted_issuers(namespace.as_str())
        .filter(|one| one.issuer == issuer && one.audiences.iter().any(|expected| expected == audience));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Nobody::NotTrusted),
        (Some(_), Some(_)) => Err(Nobody::Ambiguous),
    }
}

/// Whom the token stands for by the rules of its issuer.
pub(crate) fn stands_for(
    snapshot: &Snapshot,
    trusted: &TrustedIssuer,
    token: &ForeignVerified,
) -> Result<StandsFor, Nobody> {
    // The first that matches, also where it stands for nobody: a later one is not meant for these tokens.
    let rule = trusted.rules.iter().find(|rule| match_all(&rule.claims, token)).ok_or(Nobody::NoRule)?;
    match rule.stands_for.as_ref().ok_or(Nobody::Retired)? {
        Said::Agent(name) => {
            let agent = snapshot.agent_named(trusted.label.namespace.as_str(), name.as_str());
            // An agent made later under a name that became free inherits nothing.
            let agent = agent.filter(|agent| agent.label.created <= trusted.label.updated).ok_or(Nobody::NoAgent)?;
            Ok(StandsFor::Agent(agent.id.clone()))
        }
        Said::User(claim) => {
            if is_unverified(claim, token) {
                return Err(Nobody::Unverified);
            }
            person(token.claim(claim).as_deref().ok_or(Nobody::NoPerson)?)
        }
    }
}

/// Whether a token has all of these claims. None at all would match everything, and match nothing.
pub(super) fn match_all(claims: &BTreeMap<String, String>, token: &ForeignVerified) -> bool {
    !claims.is_empty() && claims.iter().all(|(path, wanted)| token.claim(path).is_some_and(|is| is == *wanted))
}

/// Whether the claim is an e-mail address of which the token says that nobody has verified it.
pub(super) fn is_unverified(claim: &str, token: &ForeignVerified) -> bool {
    claim == "email" && token.claim("email_verified").is_some_and(|verified| verified != "true")
}

/// A person's name as declarations write it.
fn person(name: &str) -> Result<StandsFor, Nobody> {
    let bad = |c: char| c.is_whitespace() || legate_ids::is_deceptive(c);
    if !(1..=256).contains(&name.len()) || name.contains(bad) {
        return Err(Nobody::NoPerson);
    }
    Ok(StandsFor::Person(format!("user:{name}")))
}
