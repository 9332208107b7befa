//! The port of a witness: `add-checkpoint` for logs, and what was cosigned last for whoever watches them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use legate_boot::StartError;
use legate_clock::SystemClock;
use legate_merkle::MAX_ADD_CHECKPOINT;
use legate_mtls::{Identity, Limits, Listener};
use legate_web::Web;

use super::{Answer, Witness};

/// Where it serves.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) listen: SocketAddr,
    /// Certificate chain and private key in PEM; absent: in plaintext, on the loopback alone.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
}

/// How often a certificate's files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Logs ask one after the other, and hold one connection each.
const LIMITS: Limits = Limits {
    connections: 256,
    strangers: 256,
    one_peer: 64,
    handshakes: 64,
    handshake_deadline: Duration::from_secs(3),
};

/// Raises the port.
pub(crate) async fn serve(witness: Arc<Witness>, door: Door) -> Result<Web, StartError> {
    let clock = SystemClock::shared();
    let service = legate_web::Service {
        name: "witness",
        routes: Router::new()
            .route("/add-checkpoint", post(add_checkpoint))
            .route("/{origin_hash}/checkpoint", get(checkpoint))
            .with_state(witness),
        paths: &["/add-checkpoint", "/{origin_hash}/checkpoint"],
        limits: legate_web::Limits { body_bytes: MAX_ADD_CHECKPOINT, ..legate_web::Limits::default() },
        clock: Arc::clone(&clock),
        metrics: Arc::new(legate_rpc::Metrics::new()),
    };
    let at = |e| StartError::new(format!("--listen {}", door.listen), e);
    match &door.tls {
        None => legate_web::serve_plain(service, door.listen).await.map_err(at),
        Some((cert, key)) => {
            let identity = Identity::from_files(cert, key)?;
            drop(identity.watch(LOOK));
            let listener = Listener::bind_web(door.listen, identity, None, clock, LIMITS).await.map_err(at)?;
            legate_web::serve(service, listener).map_err(at)
        }
    }
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: Bytes) -> Response {
    // It syncs a file. Whoever does not wait for the answer finds out by a conflict.
    match tokio::task::spawn_blocking(move || witness.add_checkpoint(&body)).await {
        Ok(answer) => answer.into_response(),
        Err(error) => {
            tracing::error!(%error, "a request broke off");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn checkpoint(State(witness): State<Arc<Witness>>, Path(origin_hash): Path<String>) -> Response {
    witness.checkpoint(&origin_hash).into_response()
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, self.kind), (header::CACHE_CONTROL, "no-store")];
        (self.status, headers, self.body).into_response()
    }
}
