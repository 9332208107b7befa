//! What was taken back: credentials, their certificates, single tokens, and everything that was issued to some up to a moment.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::Name;

use crate::agent::Agent;
use crate::record::{Level, Revocation, Revoked};
use crate::shards::Shards;
use crate::snapshot::{Snapshot, key};

/// Every revocation that is not forgotten yet, by what it is of.
#[derive(Clone, Debug)]
pub(crate) struct Revocations {
    credentials: Shards<Arc<Revocation>>,
    certificates: Shards<Arc<Revocation>>,
    tokens: Shards<Arc<Revocation>>,
    /// By class (`NAMESPACE/NAME`) and namespace (`NAME`).
    cutoffs: Shards<Timestamp>,
    /// By namespace, or none, and owner: `NAMESPACE/user:NAME`, `/user:NAME`.
    of_owners: Shards<Timestamp>,
    /// By namespace, or none, and person.
    of_subjects: Shards<Timestamp>,
}

impl Revocations {
    pub(crate) fn new() -> Self {
        Self {
            credentials: Shards::new(),
            certificates: Shards::new(),
            tokens: Shards::new(),
            cutoffs: Shards::new(),
            of_owners: Shards::new(),
            of_subjects: Shards::new(),
        }
    }

    /// Takes one in, or forgets it.
    pub(crate) fn apply(&mut self, revocation: &Arc<Revocation>, forgotten: bool) {
        let (all, name) = match &revocation.what {
            Revoked::Credential(id) => (&mut self.credentials, id.as_str()),
            Revoked::Token(id) => (&mut self.tokens, id.as_str()),
            Revoked::Issued(level, at) => {
                let (all, name) = self.of_level(level);
                if forgotten {
                    all.remove(&name)
                } else {
                    all.insert(&name, *at)
                };
                return;
            }
        };
        let certificate = revocation.x5t_s256.as_ref().map(hex);
        if forgotten {
            all.remove(name);
            certificate.map(|x5t| self.certificates.remove(&x5t));
        } else {
            all.insert(name, Arc::clone(revocation));
            certificate.map(|x5t| self.certificates.insert(&x5t, Arc::clone(revocation)));
        }
    }
}

impl Revocations {
    fn of_level(&mut self, level: &Level) -> (&mut Shards<Timestamp>, String) {
        let place = |namespace: &Option<Name>, who: &str| key(namespace.as_ref().map_or("", Name::as_str), who);
        match level {
            Level::Class(namespace, class) => (&mut self.cutoffs, key(namespace.as_str(), class.as_str())),
            Level::Namespace(name) => (&mut self.cutoffs, name.to_string()),
            Level::Owner(namespace, owner) => (&mut self.of_owners, place(namespace, owner)),
            Level::Subject(namespace, person) => (&mut self.of_subjects, place(namespace, person)),
        }
    }

    /// Up to when everything is taken back that was issued to a class (`NAMESPACE/NAME`) or a namespace (its name).
    pub(crate) fn cutoff(&self, place: &str) -> Option<Timestamp> {
        // Nothing of the kind is ordered on most days; then nothing is looked for.
        if self.cutoffs.len() == 0 { None } else { self.cutoffs.get(place).copied() }
    }

    /// The same of whoever answers for the agent technically.
    pub(crate) fn cutoff_of_owners(&self, agent: &Agent) -> Option<Timestamp> {
        let namespace = agent.label.namespace.as_str();
        agent.people.owners.iter().filter_map(|owner| of_person(&self.of_owners, namespace, owner)).max()
    }
}

fn of_person(all: &Shards<Timestamp>, namespace: &str, who: &str) -> Option<Timestamp> {
    if all.len() == 0 {
        return None;
    }
    all.get(&key(namespace, who)).max(all.get(&key("", who))).copied()
}

impl Snapshot {
    /// Up to when everything is taken back by which agents of the namespace act for the person, `user:NAME`.
    #[must_use]
    pub fn subject_cutoff(&self, namespace: &str, person: &str) -> Option<Timestamp> {
        of_person(&self.revocations.of_subjects, namespace, person)
    }

    /// The revocation of a credential, where there is one.
    #[must_use]
    pub fn revocation(&self, credential_id: &str) -> Option<&Arc<Revocation>> {
        self.revocations.credentials.get(credential_id)
    }

    /// The revocation of a certificate by the SHA-256 of its DER, where there is one.
    #[must_use]
    pub fn certificate_revocation(&self, x5t_s256: &[u8; 32]) -> Option<&Arc<Revocation>> {
        // Nothing is revoked on most days; then the text is not worth making.
        if self.revocations.certificates.len() == 0 {
            return None;
        }
        self.revocations.certificates.get(&hex(x5t_s256))
    }

    /// The revocation of one access token by its `jti`, where there is one.
    #[must_use]
    pub fn token_revocation(&self, token_id: &str) -> Option<&Arc<Revocation>> {
        self.revocations.tokens.get(token_id)
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(64), |mut text, b| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{b:02x}");
        text
    })
}
