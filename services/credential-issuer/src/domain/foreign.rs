//! Whom a token of an issuer outside stands for: the one declaration that speaks of it, and that one's first rule that matches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use legate_ids::{AgentId, Name};
use legate_token::{ForeignVerified, group_of_people};
use legate_view::{Snapshot, StandsFor as Said, TrustedIssuer};

/// A token is believed for so long after it was made, however long it would live.
pub(crate) const OLDEST: Duration = Duration::from_secs(3600);

/// Whom a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StandsFor {
    /// An agent, not yet known to be in good standing.
    Agent(AgentId),
    /// A person.
    Person(Person),
    /// A node of this namespace and name.
    Node(Name, Name),
}

/// A person whom a token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    /// As `user:NAME`.
    pub(crate) name: String,
    /// The groups of people that the token says it is a member of, as `group:NAME`; sorted, none twice.
    pub(crate) groups: Vec<String>,
}

/// A token with more groups than this counts for none: what is left out would be chance.
const GROUPS: usize = 256;

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
    #[error("the node that the rule names is not there")]
    NoNode,
    #[error(
        "the claim that should name the node is not there, or no node of the namespace has that name: declare one, or name nodes by another claim (a name is 1 to 63 characters of a-z, 0-9 and '-')"
    )]
    NoNodeNamed,
    #[error("the claim that should name the person is not there, or is no name: 1 to 256 bytes without white space")]
    NoPerson,
    #[error(
        "the token does not say that its e-mail address is verified (email_verified); name people by another claim, such as sub"
    )]
    Unverified,
}

/// What a token is shown for: its audience says that it was made for that, and for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// To be somebody, or to act for him.
    Identity,
    /// To make, see and end a person's own grants.
    Grants,
}

impl Use {
    /// The audiences of the issuer's tokens that are made for it.
    pub(crate) fn audiences(self, of: &TrustedIssuer) -> &[String] {
        match self {
            Self::Identity => &of.audiences,
            Self::Grants => &of.grant_audiences,
        }
    }
}

/// The one trusted issuer of the namespace that has this issuer and audience, for that use. Where another one has them for
/// whatever use, nobody can say what the token was made for.
pub(crate) fn choose<'a>(
    snapshot: &'a Snapshot,
    namespace: &Name,
    (issuer, audience): (&str, &str),
    shown_for: Use,
) -> Result<&'a Arc<TrustedIssuer>, Nobody> {
    let has = |one: &TrustedIssuer, of: Use| of.audiences(one).iter().any(|expected| expected == audience);
    let mut fitting = snapshot
        .trusted_issuers(namespace.as_str())
        .filter(|one| one.issuer == issuer && (has(one, Use::Identity) || has(one, Use::Grants)));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) if has(one, shown_for) => Ok(one),
        (Some(_) | None, None) | (None, Some(_)) => Err(Nobody::NotTrusted),
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
        Said::Node(name) => {
            let namespace = &trusted.label.namespace;
            let node = snapshot.node(namespace.as_str(), name.as_str());
            // So does a node.
            node.filter(|node| node.label.created <= trusted.label.updated).ok_or(Nobody::NoNode)?;
            Ok(StandsFor::Node(namespace.clone(), name.clone()))
        }
        // Whichever is there now: a fleet's nodes are declared later than whom they are believed by.
        Said::NodeOf(claim) => {
            let namespace = &trusted.label.namespace;
            let said = token.claim(claim).ok_or(Nobody::NoNodeNamed)?;
            let name = Name::parse(&said).map_err(|_| Nobody::NoNodeNamed)?;
            snapshot.node(namespace.as_str(), name.as_str()).ok_or(Nobody::NoNodeNamed)?;
            Ok(StandsFor::Node(namespace.clone(), name))
        }
        Said::User(claim) => {
            if is_unverified(claim, token) {
                return Err(Nobody::Unverified);
            }
            let name = person(token.claim(claim).as_deref().ok_or(Nobody::NoPerson)?)?;
            let groups = rule.groups_claim.as_ref().map(|claim| groups(claim, token)).unwrap_or_default();
            Ok(StandsFor::Person(Person { name, groups }))
        }
    }
}

/// Whether a token has all of these claims. None at all would match everything, and match nothing.
pub(super) fn match_all(claims: &BTreeMap<String, String>, token: &ForeignVerified) -> bool {
    !claims.is_empty() && claims.iter().all(|(path, wanted)| token.claim(path).is_some_and(|is| is == *wanted))
}

/// Whether the claim is an e-mail address of which the token does not say that it was verified (OpenID Connect Core 1.0
/// section 5.1): some providers let people write whatever they like there.
pub(super) fn is_unverified(claim: &str, token: &ForeignVerified) -> bool {
    claim == "email" && token.claim("email_verified").as_deref() != Some("true")
}

/// A person's name as declarations write it.
fn person(name: &str) -> Result<String, Nobody> {
    let bad = |c: char| c.is_whitespace() || legate_ids::is_deceptive(c);
    if !(1..=256).contains(&name.len()) || name.contains(bad) {
        return Err(Nobody::NoPerson);
    }
    Ok(format!("user:{name}"))
}

/// The groups that a claim lists, as declarations write them. What no declaration could name is nobody's group.
fn groups(claim: &str, token: &ForeignVerified) -> Vec<String> {
    let listed = token.texts(claim, GROUPS).unwrap_or_default();
    let named: std::collections::BTreeSet<String> = listed.into_iter().filter_map(group_of_people).collect();
    named.into_iter().collect()
}
