//! What a runtime, a backend or a program for people links: keys, enrolment, tokens, questions.

mod decision;
mod error;
pub mod guard;
mod key;
mod reasons;
pub mod reporter;
mod runtime;
mod source;
mod tokens;
pub mod tools;

pub use decision::{Builder, Decided, Decision, Denied, NotAllowed, Permit, Question, Undecided, Why};
pub use error::ClientError;
pub use key::{RuntimeKey, chain_pem};
pub use legate_mtls::{Allow, ClientConfig, ServerConfig};
pub use reasons::REASONS;
pub use runtime::{Enrolled, LoggedIn, Runtime, enrol, enrol_with_identity_token, login};
pub use source::IdentitySource;
pub use tokens::TokenSource;

use std::sync::Arc;
use std::time::Duration;

use legate_clock::{Clock, SystemClock};
use legate_mtls::{Expect, Identity, Trust};
use legate_rpc::{Client, Dial, Fault, dial, dial_breaking_glass};

/// One service's address, and whom we believe.
#[derive(Clone, Debug)]
pub struct Remote {
    /// `https://HOST:PORT`.
    pub endpoint: String,
    /// Whom we believe.
    pub trust: Trust,
    /// The service that has to answer, such as `registry`.
    pub service: &'static str,
}

impl Remote {
    /// A channel to the service, as `identity`; it connects at the first call.
    ///
    /// # Errors
    /// When the endpoint is not `https://HOST:PORT`.
    pub fn dial(&self, identity: Identity) -> Result<Client, Fault> {
        self.dial_with(identity, SystemClock::shared())
    }

    /// The same by a given clock.
    ///
    /// # Errors
    /// When the endpoint is not `https://HOST:PORT`.
    pub fn dial_with(&self, identity: Identity, clock: Arc<dyn Clock>) -> Result<Client, Fault> {
        dial(self.how(identity, clock))
    }

    /// A channel for an operator in an emergency: every call states it, and `why`.
    ///
    /// # Errors
    /// When the endpoint is not `https://HOST:PORT`, or `why` is not 1 to 200 printable ASCII characters.
    pub fn dial_breaking_glass(&self, identity: Identity, why: &str) -> Result<Client, Fault> {
        dial_breaking_glass(self.how(identity, SystemClock::shared()), why)
    }

    fn how(&self, identity: Identity, clock: Arc<dyn Clock>) -> Dial {
        Dial {
            endpoint: self.endpoint.clone(),
            identity,
            trust: self.trust.clone(),
            expect: Expect::Service(self.service),
            timeout: Duration::from_secs(5),
            clock,
        }
    }
}
