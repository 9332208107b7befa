//! What an access token says (RFC 9068 section 2.2, and Legate's own claims).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_ids::{Action, AgentId, InstanceId, Name};
use serde::{Deserialize, Serialize};

use crate::json::{Object, present};
use crate::{BadClaims, MAX_LIFETIME, TokenError};

/// The most actions in a scope.
const MAX_SCOPES: usize = 64;
/// The longest chain of actors.
const MAX_ACTORS: usize = 8;

/// What the token is narrowed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Not narrowed: whatever the agent may do. Written `*`.
    All,
    /// These actions and no others; one at least.
    Actions(Vec<Action>),
}

impl Scope {
    /// Whether the token may be used for `action`, as far as its scope goes.
    #[must_use]
    pub fn covers(&self, action: &Action) -> bool {
        match self {
            Self::All => true,
            Self::Actions(actions) => actions.contains(action),
        }
    }

    fn parse(text: &str) -> Result<Self, BadClaims> {
        let bad = |why| BadClaims { claim: "scope", why };
        if text == "*" {
            return Ok(Self::All);
        }
        // RFC 6749 section 3.3: single spaces between.
        let actions = text
            .split(' ')
            .map(|one| Action::parse(one).map_err(|_| bad("is not '*' or actions with single spaces between")))
            .collect::<Result<Vec<_>, _>>()?;
        Self::Actions(actions).checked()
    }

    fn checked(self) -> Result<Self, BadClaims> {
        let bad = |why| BadClaims { claim: "scope", why };
        if let Self::Actions(actions) = &self {
            if actions.is_empty() || actions.len() > MAX_SCOPES {
                return Err(bad("has no action, or more than 64"));
            }
            if (1..actions.len()).any(|i| actions[..i].contains(&actions[i])) {
                return Err(bad("has an action twice"));
            }
        }
        Ok(self)
    }

    fn to_text(&self) -> String {
        match self {
            Self::All => "*".into(),
            Self::Actions(actions) => {
                let mut text = String::new();
                for (i, action) in actions.iter().enumerate() {
                    if i > 0 {
                        text.push(' ');
                    }
                    text.push_str(action.as_str());
                }
                text
            }
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
    /// `sub`: on whose authority the agent acts: its own SPIFFE ID when autonomous; 1 to 2,048 printable ASCII characters.
    pub subject: String,
    /// `iat`: when it was made.
    pub issued_at: u64,
    /// `exp`: when it ends; at most [`MAX_LIFETIME`] after `iat`.
    pub expires_at: u64,
    /// `jti`: its own name; 16 to 64 of `A-Z a-z 0-9 _ -`.
    pub token_id: String,
    /// `scope`: what it is narrowed to.
    pub scope: Scope,
    /// `lv`: the agent's lifecycle version; the token is dead when the registry has another.
    pub lifecycle_version: u64,
    /// `ns`: the agent's namespace.
    pub namespace: Name,
    /// `agent`, and also `client_id` (RFC 9068 section 2.2; a SPIFFE ID is never one).
    pub agent: AgentId,
    /// `instance`: the running copy, where the certificate names one.
    pub instance: Option<InstanceId>,
    /// `grant`: the delegation grant, where the agent acts for another; 1 to 128 of `A-Z a-z 0-9 _ -`.
    pub grant: Option<String>,
    /// `act` (RFC 8693 section 4.1): who acts, newest first; empty when autonomous. Printable ASCII, 8 at most.
    pub actors: Vec<String>,
    /// `cnf.x5t#S256` (RFC 8705 section 3.1): SHA-256 of the DER certificate whose key the bearer has to hold.
    pub certificate: [u8; 32],
}

impl Claims {
    /// Whether no value is out of its range.
    ///
    /// # Errors
    /// The first bad claim.
    pub fn check(&self) -> Result<(), TokenError> {
        printable("iss", &self.issuer, 512)?;
        printable("aud", &self.audience, 512)?;
        printable("sub", &self.subject, 2048)?;
        word("jti", &self.token_id, 16..=64)?;
        if let Some(grant) = &self.grant {
            word("grant", grant, 1..=128)?;
        }
        if self.actors.len() > MAX_ACTORS {
            return Err(BadClaims { claim: "act", why: "is nested more than 8 deep" }.into());
        }
        for actor in &self.actors {
            printable("act", actor, 2048)?;
        }
        self.scope.clone().checked()?;
        match self.expires_at.checked_sub(self.issued_at) {
            Some(1..=MAX_LIFETIME) => Ok(()),
            _ => Err(TokenError::Lifetime),
        }
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, TokenError> {
        let certificate = Base64UrlUnpadded::encode_string(&self.certificate);
        let act = self.actors.iter().rev().fold(None, |inner, actor| Some(Box::new(ActOut { sub: actor, act: inner })));
        let out = Out {
            iss: &self.issuer,
            sub: &self.subject,
            aud: &self.audience,
            client_id: self.agent.as_str(),
            iat: self.issued_at,
            exp: self.expires_at,
            jti: &self.token_id,
            scope: self.scope.to_text(),
            lv: self.lifecycle_version,
            ns: self.namespace.as_str(),
            agent: self.agent.as_str(),
            instance: self.instance.as_ref().map(InstanceId::as_str),
            grant: self.grant.as_deref(),
            act,
            cnf: CnfOut { x5t: &certificate },
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
        let mut certificate = [0u8; 32];
        match Base64UrlUnpadded::decode(&read.cnf.0.x5t, &mut certificate) {
            Ok(bytes) if bytes.len() == 32 => {}
            _ => return Err(bad("cnf").into()),
        }
        let mut actors = Vec::new();
        let mut next = read.act;
        while let Some(one) = next {
            if actors.len() == MAX_ACTORS {
                return Err(BadClaims { claim: "act", why: "is nested more than 8 deep" }.into());
            }
            let Object(one) = *one;
            actors.push(one.sub);
            next = one.act;
        }
        let claims = Self {
            issuer: read.iss,
            audience: read.aud,
            subject: read.sub,
            issued_at: read.iat,
            expires_at: read.exp,
            token_id: read.jti,
            scope: Scope::parse(&read.scope)?,
            lifecycle_version: read.lv,
            namespace: Name::parse(&read.ns).map_err(|_| bad("ns"))?,
            agent,
            instance: instance.transpose()?,
            grant: read.grant,
            actors,
            certificate,
        };
        claims.check()?;
        Ok(claims)
    }
}

fn printable(claim: &'static str, text: &str, most: usize) -> Result<(), BadClaims> {
    let good = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let why = "is empty, too long, or has characters that are not printable ASCII";
    good.then_some(()).ok_or(BadClaims { claim, why })
}

fn word(claim: &'static str, text: &str, lengths: core::ops::RangeInclusive<usize>) -> Result<(), BadClaims> {
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
    lv: u64,
    ns: &'a str,
    agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<ActOut<'a>>>,
    cnf: CnfOut<'a>,
}

#[derive(Serialize)]
struct ActOut<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<ActOut<'a>>>,
}

#[derive(Serialize)]
struct CnfOut<'a> {
    #[serde(rename = "x5t#S256")]
    x5t: &'a str,
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
    lv: u64,
    ns: String,
    agent: String,
    #[serde(default, deserialize_with = "present")]
    instance: Option<String>,
    #[serde(default, deserialize_with = "present")]
    grant: Option<String>,
    #[serde(default, deserialize_with = "present")]
    act: Option<Box<Object<ActIn>>>,
    cnf: Object<CnfIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActIn {
    sub: String,
    #[serde(default, deserialize_with = "present")]
    act: Option<Box<Object<ActIn>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CnfIn {
    #[serde(rename = "x5t#S256")]
    x5t: String,
}

impl core::fmt::Display for Scope {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.to_text())
    }
}
