//! What a handler knows of its call: proof that the caller may make it.

use std::sync::Arc;

use legate_mtls::Peer;
use tokio::time::Instant;

use crate::{Fault, TraceContext, UNAUTHENTICATED};

/// The caller is who it says, in good standing, and listed in the method's row. Only the chassis makes one.
#[derive(Clone, Debug)]
pub struct Permit {
    pub(crate) peer: Arc<Peer>,
    pub(crate) method: &'static str,
    pub(crate) deadline: Instant,
    pub(crate) trace: TraceContext,
    pub(crate) emergency: Option<Arc<str>>,
}

impl Permit {
    /// The permit of a request that came through the chassis.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the request did not.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Fault> {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Fault::refused(&UNAUTHENTICATED, "the call did not come through the access table"))
    }

    /// The caller.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The caller, to be kept.
    #[must_use]
    pub fn shared_peer(&self) -> Arc<Peer> {
        Arc::clone(&self.peer)
    }

    /// The method that is called.
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// When the answer has to be there.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The emergency that the caller states, in its own words ([`BREAK_GLASS`](crate::BREAK_GLASS)). Whether it may
    /// state one is for the handler to judge.
    #[must_use]
    pub fn emergency(&self) -> Option<&str> {
        self.emergency.as_deref()
    }

    /// The W3C trace that the call belongs to.
    #[must_use]
    pub fn trace(&self) -> &TraceContext {
        &self.trace
    }
}

/// Says whether a peer whose certificate is good is still in good standing: its agent active, its credential not revoked.
#[tonic::async_trait]
pub trait Standing: Send + Sync + std::fmt::Debug {
    /// Checks a peer, at every call.
    ///
    /// # Errors
    /// The refusal to send.
    async fn check(&self, peer: &Peer) -> Result<(), Fault>;
}

/// For services that know nothing of standing.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysGood;

#[tonic::async_trait]
impl Standing for AlwaysGood {
    async fn check(&self, _: &Peer) -> Result<(), Fault> {
        Ok(())
    }
}
