//! Who is at the other end of the socket, as the kernel says it: never as it says itself.
//!
//! A connection is held together with a pidfd of the process that made it. What `/proc` tells by number is believed only if the
//! process still lived after it was read, so that a number that was given to another process meanwhile deceives nobody.

mod cgroup;
mod digest;
mod look;
mod peer;
mod process;
mod token;

use std::sync::Arc;
use std::time::Duration;

use legate_rpc::Fault;
use legate_wire::registry::{AttestationSelector, AttestationSelectorType as Type};

use crate::error::{PROCESS_CHANGED, PROCESS_GONE, PROCESS_NOT_READ, PROCESS_NOT_SEEN};
use cgroup::Place;
use digest::Digests;
use token::Tokens;

pub(crate) use look::Looks;
pub(crate) use peer::Newcomer;
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
    /// What it runs was not read in time.
    #[error(
        "what the process runs could not be read in time: its file system does not answer, or much of its user's is being read"
    )]
    NotRead,
}

/// When to ask again where something was not read.
const AGAIN: Duration = Duration::from_secs(2);

impl From<Unseen> for Fault {
    fn from(unseen: Unseen) -> Self {
        let reason = match unseen {
            Unseen::Gone => &PROCESS_GONE,
            Unseen::Changed => &PROCESS_CHANGED,
            Unseen::NotSeen => &PROCESS_NOT_SEEN,
            Unseen::NotRead => return Self::unavailable(&PROCESS_NOT_READ, unseen.to_string(), AGAIN),
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
    looks: Looks,
    digests: Digests,
    tokens: Tokens,
}

impl Attestor {
    /// Looks for tokens there as well, and takes turns with whoever has the same.
    #[must_use]
    pub(crate) fn new(tokens: Vec<TokenSource>, looks: Looks) -> Self {
        Self { looks, digests: Digests::default(), tokens: Tokens::new(tokens) }
    }

    /// Turns at looking at processes.
    pub(crate) fn looks(&self) -> &Looks {
        &self.looks
    }

    /// Everything that can be said now of the process at the other end. Its program is read only where somebody asks for the hash of what
    /// has these selectors: whoever runs it says how long that takes.
    ///
    /// # Errors
    /// [`Unseen`] when it is gone, is not what connected, cannot be seen, or not in time.
    pub async fn attest(
        &self,
        peer: &Peer,
        asks_for_hash: impl Fn(&[AttestationSelector]) -> bool,
    ) -> Result<Attested, Unseen> {
        let mut seen = peer.look(&self.looks).await?;
        let mut selectors = Vec::with_capacity(8);
        attest(&mut selectors, Type::UnixUid, &seen.uid.to_string());
        attest(&mut selectors, Type::UnixGid, &seen.gid.to_string());
        if let Some(path) = &seen.path {
            attest(&mut selectors, Type::UnixPath, path);
        }
        if let Some(group) = &seen.cgroup {
            attest(&mut selectors, Type::Cgroup, group);
            let place = Place::of(group);
            if let Some(unit) = place.unit {
                attest(&mut selectors, Type::SystemdUnit, unit);
            }
            if let Some(id) = place.container {
                attest(&mut selectors, Type::ContainerId, id);
            }
        }
        let key = seen.key;
        let is_asked = asks_for_hash(&selectors) || self.tokens.ask_for_hash(&selectors);
        if let Some((exe, meta)) = seen.exe.take().filter(|_| is_asked)
            && let Some(digest) = self.digests.of(seen.uid, exe, &meta).await?
        {
            attest(&mut selectors, Type::UnixSha256, &digest);
        }
        let tokens = self.tokens.of(&seen, &selectors).await;
        // It still lives, so its number was its own all the while.
        peer.lives()?;
        Ok(Attested { key, selectors: selectors.into(), tokens: tokens.into() })
    }
}

/// What no policy can ask for is not told, so that nobody meets it in a record.
fn attest(to: &mut Vec<AttestationSelector>, of: Type, value: &str) {
    if (1..=LONGEST).contains(&value.len()) && !value.chars().any(legate_ids::is_deceptive) {
        to.push(AttestationSelector { r#type: of.into(), value: value.to_owned() });
    }
}

/// Whether all of these are there but the hash of the program, which is one of them.
pub(crate) fn lacks_only_the_hash(
    asked: &[AttestationSelector],
    is_there: impl Fn(&AttestationSelector) -> bool,
) -> bool {
    let is_hash = |one: &AttestationSelector| one.r#type() == Type::UnixSha256;
    asked.iter().any(is_hash) && asked.iter().all(|one| is_hash(one) || is_there(one))
}

#[cfg(test)]
mod tests;
