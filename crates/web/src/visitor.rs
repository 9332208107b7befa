//! What a handler knows of its request beside the request itself.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::StatusCode;
use http::request::Parts;
use legate_mtls::Peer;
use legate_rpc::TraceContext;
use tokio::time::Instant;

/// Who asks, as the handshake proved it, in which trace and until when. Only the chassis makes one.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub(crate) peer: Arc<Peer>,
    pub(crate) deadline: Instant,
    pub(crate) trace: TraceContext,
}

impl Visitor {
    /// The other end; of a client without a certificate no more than its address is known. Whether a certificate is still
    /// in good standing is for the handler to judge.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// When the answer has to be there.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The W3C trace that the request belongs to.
    #[must_use]
    pub fn trace(&self) -> &TraceContext {
        &self.trace
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // Missing only where a router is served without the chassis.
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
