//! What was taken back: credentials, their certificates, and single tokens.

use std::sync::Arc;

use crate::record::{Revocation, Revoked};
use crate::shards::Shards;
use crate::snapshot::Snapshot;

/// Every revocation that is not forgotten yet, by what it is of.
#[derive(Clone, Debug)]
pub(crate) struct Revocations {
    credentials: Shards<Arc<Revocation>>,
    certificates: Shards<Arc<Revocation>>,
    tokens: Shards<Arc<Revocation>>,
}

impl Revocations {
    pub(crate) fn new() -> Self {
        Self { credentials: Shards::new(), certificates: Shards::new(), tokens: Shards::new() }
    }

    /// Takes one in, or forgets it.
    pub(crate) fn apply(&mut self, revocation: &Arc<Revocation>, forgotten: bool) {
        let (all, name) = match &revocation.what {
            Revoked::Credential(id) => (&mut self.credentials, id.as_str()),
            Revoked::Token(id) => (&mut self.tokens, id.as_str()),
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

impl Snapshot {
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
