//! On whose behalf, and through whom: the subject, the actors (RFC 8693 section 4.1), their grants and the tokens before this one.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use legate_ids::{AgentId, CredentialId, Name, Principal, SpiffeId, is_deceptive};
use serde::{Deserialize, Serialize};

use crate::BadClaims;
use crate::claims::word;
use crate::confirmation::{CnfIn, CnfOut, Confirmation};
use crate::json::{Object, present};

/// The longest chain of actors. Issuers keep to less.
pub(crate) const MAX_ACTORS: usize = 8;
/// The longest name of a person or of a group of people, in bytes.
const MAX_PERSON: usize = 256;
/// The most groups of people that one token names.
pub const MAX_GROUPS: usize = 16;

/// On whose authority a token is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An agent's. Written as its SPIFFE ID.
    Agent(SpiffeId),
    /// A person's, by name as grants and bindings have it. Written `user:NAME`; it means whoever has the name in the
    /// token's namespace.
    Person(String),
}

impl Subject {
    /// Reads a subject.
    ///
    /// # Errors
    /// When it is neither the SPIFFE ID of an agent of ours nor `user:` and a name of 1 to 256 bytes without white space
    /// and without control, invisible or direction-changing characters.
    pub fn parse(text: &str) -> Result<Self, BadClaims> {
        let bad = BadClaims { claim: "sub", why: "is neither the SPIFFE ID of an agent nor user:NAME" };
        if let Some(name) = text.strip_prefix("user:") {
            return is_name(name).then(|| Self::Person(name.into())).ok_or(bad);
        }
        let id = SpiffeId::parse(text).map_err(|_| bad)?;
        agent_in(&id).ok_or(bad)?;
        Ok(Self::Agent(id))
    }

    /// The agent, where it is one.
    #[must_use]
    pub fn agent(&self) -> Option<&SpiffeId> {
        match self {
            Self::Agent(id) => Some(id),
            Self::Person(_) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => f.write_str(id.as_str()),
            Self::Person(name) => write!(f, "user:{name}"),
        }
    }
}

/// Whether a person or a group of people can be called that.
fn is_name(name: &str) -> bool {
    (1..=MAX_PERSON).contains(&name.len()) && !name.chars().any(|c| c.is_whitespace() || is_deceptive(c))
}

/// A group of people as grants and bindings have it, `group:NAME`, where it can be called that: as persons are.
#[must_use]
pub fn group_of_people(name: &str) -> Option<String> {
    is_name(name).then(|| alloc::format!("group:{name}"))
}

/// How an agent came to act for another: everybody between it and the subject. All lists have the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// `act`: who acts, and who did before it, up to the one that the subject let act. Agents of the token's namespace;
    /// the first is the token's own agent. None stands in it twice, nor is one the subject.
    pub actors: Vec<SpiffeId>,
    /// `grants`: the id of the delegation grant by which each of the actors acts for the one before it; one for each
    /// actor; 1 to 128 of `A-Z a-z 0-9 _ -`.
    pub grants: Vec<String>,
    /// `parents`: the tokens of this issuer that were exchanged, one for another, for this one. Whoever takes one of them
    /// back takes this one back too. One for each actor, but a person's own token is not this issuer's and has no place here.
    pub parents: Vec<Parent>,
    /// `groups`: the groups of people, as `group:NAME`, that the person for whom it acts was proved to be a member of; those
    /// that count in the token's namespace. Sorted, none twice; at most [`MAX_GROUPS`]. Of an agent there are none.
    pub groups: Vec<String>,
}

/// A token that was exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its `jti`.
    pub token_id: String,
    /// Its `lv`: the lifecycle version of the agent that held it.
    pub lifecycle_version: u64,
    /// Its `cnf`: what it was bound to.
    pub confirmation: Confirmation,
    /// Its `cred`: the client secret or key by which it was obtained, where it was one, or the certificate where it was not
    /// bound to that.
    pub credential: Option<CredentialId>,
}

impl Chain {
    /// Whether the agent acts for nobody but itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actors.is_empty()
    }

    /// The agents in it whose tokens were exchanged, each with that token, newest first.
    pub fn holders<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = (&'a SpiffeId, &'a Parent)> {
        self.actors.iter().skip(1).chain(subject.agent()).zip(&self.parents)
    }

    pub(crate) fn check(&self, subject: &Subject, namespace: &Name, agent: &AgentId) -> Result<(), BadClaims> {
        let bad = |claim, why| BadClaims { claim, why };
        // A value that was made and not read could be anything.
        if Subject::parse(&alloc::format!("{subject}"))? != *subject {
            return Err(bad("sub", "is neither the SPIFFE ID of an agent nor user:NAME"));
        }
        if self.actors.len() > MAX_ACTORS {
            return Err(bad("act", "is nested more than 8 deep"));
        }
        let mut before: Vec<AgentId> = Vec::new();
        for id in self.actors.iter().chain(subject.agent()) {
            let Some((of, one)) = agent_in(id) else { return Err(bad("act", "names somebody who is no agent")) };
            if of != *namespace {
                return Err(bad("act", "names an agent of another namespace"));
            }
            if before.contains(&one) {
                return Err(bad("act", "names an agent twice, or its subject"));
            }
            before.push(one);
        }
        if before.first() != Some(agent) {
            return Err(bad(if self.is_empty() { "sub" } else { "act" }, "is not the agent of the token"));
        }
        if self.grants.len() != self.actors.len() {
            return Err(bad("grants", "are not as many as the actors"));
        }
        for grant in &self.grants {
            word("grants", grant, 1..=128)?;
        }
        let exchanged = match subject {
            Subject::Agent(_) => self.actors.len(),
            // The check above let no person through without an actor.
            Subject::Person(_) => self.actors.len().saturating_sub(1),
        };
        if self.parents.len() != exchanged {
            return Err(bad("parents", "are not as many as the tokens that were exchanged"));
        }
        for parent in &self.parents {
            word("parents", &parent.token_id, 16..=64)?;
        }
        if !self.groups.is_empty() && subject.agent().is_some() {
            return Err(bad("groups", "are of an agent, and only people are members of them"));
        }
        let is_group = |text: &String| text.strip_prefix("group:").is_some_and(is_name);
        if self.groups.len() > MAX_GROUPS || !self.groups.iter().all(is_group) {
            return Err(bad("groups", "are more than 16, or not group:NAME"));
        }
        if !self.groups.is_sorted_by(|one, next| one < next) {
            return Err(bad("groups", "are not sorted, or name one twice"));
        }
        Ok(())
    }
}

/// Which agent of which namespace it is, where it is one.
fn agent_in(id: &SpiffeId) -> Option<(Name, AgentId)> {
    match Principal::of(id) {
        Ok(Principal::Agent { namespace, id, .. }) => Some((namespace, id)),
        _ => None,
    }
}

#[derive(Serialize)]
pub(crate) struct ParentOut<'a> {
    jti: &'a str,
    lv: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<CnfOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cred: Option<&'a str>,
}

impl<'a> ParentOut<'a> {
    pub(crate) fn of(parent: &'a Parent) -> Self {
        Self {
            jti: &parent.token_id,
            lv: parent.lifecycle_version,
            cnf: CnfOut::of(&parent.confirmation),
            cred: parent.credential.as_ref().map(CredentialId::as_str),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ParentIn {
    jti: String,
    lv: u64,
    #[serde(default, deserialize_with = "present")]
    cnf: Option<Object<CnfIn>>,
    #[serde(default, deserialize_with = "present")]
    cred: Option<String>,
}

impl ParentIn {
    pub(crate) fn read(self) -> Result<Parent, BadClaims> {
        let confirmation = self.cnf.map_or(Ok(Confirmation::Bearer), |Object(cnf)| cnf.read());
        let bad = |_| BadClaims { claim: "parents", why: "name a token with a cnf that is not of its form" };
        let credential = self.cred.map(|text| CredentialId::parse(&text));
        Ok(Parent {
            token_id: self.jti,
            lifecycle_version: self.lv,
            confirmation: confirmation.map_err(bad)?,
            credential: credential
                .transpose()
                .map_err(|_| BadClaims { claim: "parents", why: "name no credential" })?,
        })
    }
}
