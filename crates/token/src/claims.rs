//! What an access token says (RFC 9068 section 2.2, and Legate's own claims).

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use legate_ids::{Action, ActionPattern, Actions, AgentId, CredentialId, InstanceId, Name, SpiffeId};
use serde::{Deserialize, Serialize};

use crate::chain::{self, Chain, Parent, ParentIn, ParentOut, Subject};
use crate::confirmation::{CnfIn, CnfOut, Confirmation};
use crate::details::{DetailIn, DetailOut, Details};
use crate::json::{Object, present};
use crate::{BadClaims, MAX_LIFETIME, TokenError};

/// The most actions, or patterns of them, in a scope.
pub const MAX_SCOPES: usize = 64;

/// What the token is narrowed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Not narrowed: whatever the agent may do. Written `*`.
    All,
    /// These actions and no others: one at least, [`MAX_SCOPES`] at most. One may be a pattern such as `invoice:*`, never `*`.
    Actions(Actions),
}

impl Scope {
    /// The scope that says these; `None`: there are none, and no scope says that.
    #[must_use]
    pub fn of(actions: Actions) -> Option<Self> {
        match actions {
            none if none.is_empty() => None,
            all if all.is_all() => Some(Self::All),
            some => Some(Self::Actions(some)),
        }
    }

    /// What it stands for.
    #[must_use]
    pub fn actions(&self) -> Actions {
        match self {
            Self::All => Actions::all(),
            Self::Actions(actions) => actions.clone(),
        }
    }

    /// Whether the token may be used for `action`, as far as its scope goes.
    #[must_use]
    pub fn covers(&self, action: &Action) -> bool {
        match self {
            Self::All => true,
            Self::Actions(actions) => actions.covers(action),
        }
    }

    fn parse(text: &str) -> Result<Self, BadClaims> {
        let bad = |why| BadClaims { claim: "scope", why };
        if text == "*" {
            return Ok(Self::All);
        }
        // RFC 6749 section 3.3: single spaces between.
        let patterns = text
            .split(' ')
            .map(|one| ActionPattern::parse(one).map_err(|_| bad("is not '*' or actions with single spaces between")))
            .collect::<Result<Vec<_>, _>>()?;
        let (said, actions) = (patterns.len(), Actions::of(patterns));
        if actions.len() < said {
            return Err(bad("has an action twice"));
        }
        Self::Actions(actions).checked()
    }

    fn checked(self) -> Result<Self, BadClaims> {
        let bad = |why| BadClaims { claim: "scope", why };
        match &self {
            Self::Actions(actions) if actions.is_empty() || actions.len() > MAX_SCOPES => {
                Err(bad("has no action, or more than 64"))
            }
            Self::Actions(actions) if actions.is_all() => Err(bad("has '*' among its actions")),
            _ => Ok(self),
        }
    }
}

impl core::fmt::Display for Scope {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Actions(actions) => actions.fmt(f),
        }
    }
}

/// The claims of an access token. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `iss`: who made it; 1 to 512 printable ASCII characters.
    pub issuer: String,
    /// `aud`: the one resource server that it is meant for; 1 to 512 printable ASCII characters.
    pub audience: String,
    /// `sub`: on whose authority the agent acts: its own SPIFFE ID when autonomous, else that of another agent or a person.
    pub subject: Subject,
    /// `iat`: when it was made.
    pub issued_at: u64,
    /// `exp`: when it ends; at most [`MAX_LIFETIME`] after `iat`.
    pub expires_at: u64,
    /// `jti`: its own name; 16 to 64 of `A-Z a-z 0-9 _ -`.
    pub token_id: String,
    /// `scope`: what it is narrowed to.
    pub scope: Scope,
    /// `authorization_details` (RFC 9396): what it is narrowed to beside that; left out where it is to nothing.
    pub details: Details,
    /// `lv`: the agent's lifecycle version; the token is dead when the registry has another.
    pub lifecycle_version: u64,
    /// `ns`: the agent's namespace.
    pub namespace: Name,
    /// `agent`, and also `client_id` (RFC 9068 section 2.2; a SPIFFE ID is never one).
    pub agent: AgentId,
    /// `instance`: the running copy, where the certificate names one.
    pub instance: Option<InstanceId>,
    /// `act`, `grants`, `parents` and `groups`: by whom, and by whose leave, the agent came to act for the subject; empty when autonomous.
    pub chain: Chain,
    /// `cnf`: what the bearer has to show beside the token.
    pub confirmation: Confirmation,
    /// `cred`: the client secret or key by which it was obtained, where it was one, or the certificate where the token is not
    /// bound to that: who takes it back takes the token back.
    pub credential: Option<CredentialId>,
    /// `status` (draft-ietf-oauth-status-list-21 section 6.2): where a status list tells whether what it rests on was taken back.
    pub status: Option<Status>,
}

/// A place in a status list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `idx`: the place, counted from 0.
    pub index: u32,
    /// `uri`: where the list is; 1 to 512 printable ASCII characters.
    pub uri: String,
}

impl Claims {
    /// Whether no value is out of its range.
    ///
    /// # Errors
    /// The first bad claim.
    pub fn check(&self) -> Result<(), TokenError> {
        printable("iss", &self.issuer, 512)?;
        printable("aud", &self.audience, 512)?;
        if let Some(status) = &self.status {
            printable("status", &status.uri, 512)?;
        }
        word("jti", &self.token_id, 16..=64)?;
        self.chain.check(&self.subject, &self.namespace, &self.agent)?;
        self.scope.clone().checked()?;
        self.details.check()?;
        match self.expires_at.checked_sub(self.issued_at) {
            Some(1..=MAX_LIFETIME) => Ok(()),
            _ => Err(TokenError::Lifetime),
        }
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, TokenError> {
        let subject = self.subject.to_string();
        let actors = self.chain.actors.iter().rev();
        let act = actors.fold(None, |inner, actor| Some(Box::new(ActOut { sub: actor.as_str(), act: inner })));
        let out = Out {
            iss: &self.issuer,
            sub: &subject,
            aud: &self.audience,
            client_id: self.agent.as_str(),
            iat: self.issued_at,
            exp: self.expires_at,
            jti: &self.token_id,
            scope: self.scope.to_string(),
            authorization_details: self.details.out(),
            lv: self.lifecycle_version,
            ns: self.namespace.as_str(),
            agent: self.agent.as_str(),
            instance: self.instance.as_ref().map(InstanceId::as_str),
            act,
            grants: &self.chain.grants,
            parents: self.chain.parents.iter().map(ParentOut::of).collect(),
            groups: &self.chain.groups,
            cnf: CnfOut::of(&self.confirmation),
            cred: self.credential.as_ref().map(CredentialId::as_str),
            status: self.status.as_ref().map(|at| StatusOut { status_list: PlaceOut { idx: at.index, uri: &at.uri } }),
        };
        serde_json::to_vec(&out).map_err(|_| TokenError::Claims)
    }

    pub(crate) fn from_json(json: &[u8]) -> Result<Self, TokenError> {
        let Object::<In>(read) = serde_json::from_slice(json).map_err(|_| TokenError::Claims)?;
        let bad = |claim| BadClaims { claim, why: "is not of its form" };
        let agent = AgentId::parse(&read.agent).map_err(|_| bad("agent"))?;
        if read.client_id != read.agent {
            return Err(BadClaims { claim: "client_id", why: "is not the agent" }.into());
        }
        let instance = read.instance.map(|text| InstanceId::parse(&text).map_err(|_| bad("instance")));
        let mut actors = Vec::new();
        let mut next = read.act;
        while let Some(one) = next {
            // Before it is read on: a stranger's nesting is bounded by the JSON reader, ours by this.
            if actors.len() == chain::MAX_ACTORS {
                return Err(BadClaims { claim: "act", why: "is nested more than 8 deep" }.into());
            }
            let Object(one) = *one;
            actors.push(SpiffeId::parse(&one.sub).map_err(|_| bad("act"))?);
            next = one.act;
        }
        let parents = read.parents.unwrap_or_default();
        let parents = parents.into_iter().map(|Object(one)| one.read()).collect::<Result<Vec<Parent>, _>>()?;
        let grants = read.grants.unwrap_or_default();
        let chain = Chain { actors, grants, parents, groups: read.groups.unwrap_or_default() };
        let claims = Self {
            issuer: read.iss,
            audience: read.aud,
            subject: Subject::parse(&read.sub)?,
            issued_at: read.iat,
            expires_at: read.exp,
            token_id: read.jti,
            scope: Scope::parse(&read.scope)?,
            details: read.authorization_details.map_or(Ok(Details::default()), Details::of)?,
            lifecycle_version: read.lv,
            namespace: Name::parse(&read.ns).map_err(|_| bad("ns"))?,
            agent,
            instance: instance.transpose()?,
            chain,
            confirmation: read.cnf.map_or(Ok(Confirmation::Bearer), |Object(cnf)| cnf.read())?,
            credential: read.cred.map(|text| CredentialId::parse(&text).map_err(|_| bad("cred"))).transpose()?,
            status: read
                .status
                .map(|Object(StatusIn { status_list: Object(at) })| Status { index: at.idx, uri: at.uri }),
        };
        claims.check()?;
        Ok(claims)
    }
}

pub(crate) fn printable(claim: &'static str, text: &str, most: usize) -> Result<(), BadClaims> {
    let good = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let why = "is empty, too long, or has characters that are not printable ASCII";
    good.then_some(()).ok_or(BadClaims { claim, why })
}

pub(crate) fn word(
    claim: &'static str,
    text: &str,
    lengths: core::ops::RangeInclusive<usize>,
) -> Result<(), BadClaims> {
    let character = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let good = lengths.contains(&text.len()) && text.bytes().all(character);
    let why = "is empty, too short, too long, or has characters other than letters, digits, '_' and '-'";
    good.then_some(()).ok_or(BadClaims { claim, why })
}

#[derive(Serialize)]
struct Out<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    client_id: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
    scope: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_details: Vec<DetailOut>,
    lv: u64,
    ns: &'a str,
    agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<ActOut<'a>>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    grants: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parents: Vec<ParentOut<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<CnfOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cred: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StatusOut<'a>>,
}

#[derive(Serialize)]
struct StatusOut<'a> {
    status_list: PlaceOut<'a>,
}

#[derive(Serialize)]
struct PlaceOut<'a> {
    idx: u32,
    uri: &'a str,
}

#[derive(Serialize)]
struct ActOut<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<ActOut<'a>>>,
}

/// A claim that is not known here could be one that narrows the token, so it is refused and not ignored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct In {
    iss: String,
    sub: String,
    aud: String,
    client_id: String,
    iat: u64,
    exp: u64,
    jti: String,
    scope: String,
    #[serde(default, deserialize_with = "present")]
    authorization_details: Option<Vec<Object<DetailIn>>>,
    lv: u64,
    ns: String,
    agent: String,
    #[serde(default, deserialize_with = "present")]
    instance: Option<String>,
    #[serde(default, deserialize_with = "present")]
    act: Option<Box<Object<ActIn>>>,
    #[serde(default, deserialize_with = "present")]
    grants: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    parents: Option<Vec<Object<ParentIn>>>,
    #[serde(default, deserialize_with = "present")]
    groups: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    cnf: Option<Object<CnfIn>>,
    #[serde(default, deserialize_with = "present")]
    cred: Option<String>,
    #[serde(default, deserialize_with = "present")]
    status: Option<Object<StatusIn>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusIn {
    status_list: Object<PlaceIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaceIn {
    idx: u32,
    uri: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActIn {
    sub: String,
    #[serde(default, deserialize_with = "present")]
    act: Option<Box<Object<ActIn>>>,
}
