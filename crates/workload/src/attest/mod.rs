//! Who is at the other end of the socket, as the kernel says it: never as it says itself.
//!
//! A connection is held together with a pidfd of the process that made it. What `/proc` tells by number is believed only if the
//! process still lived after it was read, so that a number that was given to another process meanwhile deceives nobody.

mod cgroup;
mod digest;
mod peer;
mod process;
mod token;

use std::sync::Arc;

use legate_rpc::Fault;
use legate_wire::registry::{AttestationSelector, AttestationSelectorType as Type};

use crate::error::{PROCESS_CHANGED, PROCESS_GONE, PROCESS_NOT_SEEN};
use cgroup::Place;
use digest::Digests;
use token::Tokens;

pub use peer::Peer;
pub use process::ProcessKey;
pub(crate) use token::ProcessToken;
#[cfg(test)]
pub(crate) use token::tests as tests_of_tokens;
pub use token::{TokenPlace, TokenSource};

/// Why it is not known who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    /// It ended.
    #[error("the process that made the connection has ended")]
    Gone,
    /// It runs another program, or as another user, than when it connected.
    #[error("the process runs another program, or as another user, than when it made the connection")]
    Changed,
    /// The kernel does not say which process it is.
    #[error("the process cannot be seen from here: it runs in a PID namespace that is not below the node helper's")]
    NotSeen,
}

impl From<Unseen> for Fault {
    fn from(unseen: Unseen) -> Self {
        let reason = match unseen {
            Unseen::Gone => &PROCESS_GONE,
            Unseen::Changed => &PROCESS_CHANGED,
            Unseen::NotSeen => &PROCESS_NOT_SEEN,
        };
        Self::refused(reason, unseen.to_string())
    }
}

/// A process, and everything that was attested of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attested {
    /// Which process, running which program.
    pub key: ProcessKey,
    /// What was attested.
    pub selectors: Arc<[AttestationSelector]>,
    /// The tokens that its platform gave it.
    pub(crate) tokens: Arc<[ProcessToken]>,
}

/// The longest value of a selector, in bytes: what an attestation policy may ask for.
const LONGEST: usize = 512;

/// Looks at processes.
#[derive(Debug, Default)]
pub struct Attestor {
    digests: Digests,
    tokens: Tokens,
}

impl Attestor {
    /// Looks for tokens there as well.
    #[must_use]
    pub fn new(tokens: Vec<TokenSource>) -> Self {
        Self { digests: Digests::default(), tokens: Tokens::new(tokens) }
    }

    /// Everything that can be said now of the process at the other end.
    ///
    /// # Errors
    /// [`Unseen`] when it is gone, is not what connected, or cannot be seen.
    pub async fn attest(&self, peer: &Peer) -> Result<Attested, Unseen> {
        let mut seen = peer.look()?;
        let mut selectors = Vec::with_capacity(8);
        let mut attest = |of: Type, value: &str| {
            // What no policy can ask for is not told, so that nobody meets it in a record.
            if (1..=LONGEST).contains(&value.len()) && !value.chars().any(legate_ids::is_deceptive) {
                selectors.push(AttestationSelector { r#type: of.into(), value: value.to_owned() });
            }
        };
        attest(Type::UnixUid, &seen.uid.to_string());
        attest(Type::UnixGid, &seen.gid.to_string());
        if let Some(path) = &seen.path {
            attest(Type::UnixPath, path);
        }
        if let Some(group) = &seen.cgroup {
            attest(Type::Cgroup, group);
            let place = Place::of(group);
            if let Some(unit) = place.unit {
                attest(Type::SystemdUnit, unit);
            }
            if let Some(id) = place.container {
                attest(Type::ContainerId, id);
            }
        }
        let key = seen.key;
        if let Some(exe) = seen.exe.take()
            && let Some(digest) = self.digests.of(exe).await
        {
            attest(Type::UnixSha256, &digest);
        }
        let tokens = self.tokens.of(&seen, &selectors).await;
        // It still lives, so its number was its own all the while.
        peer.lives()?;
        Ok(Attested { key, selectors: selectors.into(), tokens: tokens.into() })
    }
}

#[cfg(test)]
mod tests;
