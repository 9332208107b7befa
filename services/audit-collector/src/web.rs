//! The log over HTTPS (C2SP tlog-tiles): the checkpoint, tiles and entry bundles, to whoever can connect.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use legate_merkle::{TILE_HEIGHT, TILE_WIDTH, TileId, TileKind};
use legate_mtls::{Conn, Limits, Listener};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;

use crate::log::{Log, read_tile};

/// Readers of the log are few; strangers must not take the files that the log needs.
pub(crate) fn limits() -> Limits {
    Limits { connections: 256, handshakes: 64, ..Limits::default() }
}

/// Headers have to be there within this, also those of the next request on the same connection.
const HEADERS: Duration = Duration::from_secs(5);

/// A connection is asked to end after this, and is cut after the second.
const LIFE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// A full tile or bundle never changes, and a partial one of a width does not either.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-cache");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const NO_SNIFF: (header::HeaderName, HeaderValue) =
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// The port, which serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Web {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Web {
    /// Serves the log on a listener.
    pub(crate) fn start(listener: Listener, log: Log) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(log);
        let mut incoming = listener.into_incoming();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    conn = incoming.next() => match conn {
                        Some(Ok(conn)) => drop(connections.spawn(serve(conn, router.clone()))),
                        Some(Err(error)) => tracing::info!(%error, "a connection failed"),
                        None => return,
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { addr, task })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, HTTP/1.1 or HTTP/2, for a bounded time.
async fn serve(conn: Conn, router: Router) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_headers(64).max_buf_size(16 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(32)
        .max_header_list_size(16 << 10)
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let serving = builder.serve_connection(TokioIo::new(conn), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    let ended = match tokio::time::timeout(LIFE.0, serving.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            serving.as_mut().graceful_shutdown();
            match tokio::time::timeout(LIFE.1, serving.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => return tracing::debug!("a reader of the log took too long"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a reader of the log went");
    }
}

async fn answer(State(log): State<Log>, method: Method, uri: Uri) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
    }
    let nothing =
        || (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, NOT_KEPT)], "not part of this log\n").into_response();
    // The path as it was sent: an escape is not one of the characters of any name here.
    let Some(path) = uri.path().strip_prefix('/').filter(|_| uri.query().is_none()) else {
        return nothing();
    };
    let published = log.published().borrow().clone();
    if path == "checkpoint" {
        let headers = [(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, NOT_KEPT), NO_SNIFF];
        return (headers, published.note).into_response();
    }
    let Some(tile) = TileId::parse(path).ok().filter(|tile| is_within(*tile, published.size)) else {
        return nothing();
    };
    match log.reading(move |log| read_tile(log.dir(), tile)).await {
        Ok(Ok(bytes)) => {
            let headers = [(header::CONTENT_TYPE, BYTES), (header::CACHE_CONTROL, FOR_EVER), NO_SNIFF];
            (headers, bytes).into_response()
        }
        // Only the widths that a checkpoint had are kept until the tile is full.
        Ok(Err(e)) if e.kind() == io::ErrorKind::NotFound => nothing(),
        failed => {
            tracing::error!(%tile, ?failed, "a tile cannot be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Whether the tree of `size` leaves has everything in the tile.
fn is_within(tile: TileId, size: u64) -> bool {
    let level = match tile.kind {
        TileKind::Entries => 0,
        TileKind::Hashes(level) => level,
    };
    let row = size.checked_shr(u32::from(level) * TILE_HEIGHT).unwrap_or(0);
    let end = tile.index.checked_mul(TILE_WIDTH).and_then(|first| first.checked_add(tile.width.into()));
    end.is_some_and(|end| end <= row)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_tile_is_served_when_a_checkpoint_covers_all_of_it() {
        let within = |path: &str, size| is_within(TileId::parse(path).unwrap(), size);
        assert!(within("tile/0/000", 256) && !within("tile/0/000", 255));
        assert!(within("tile/0/000.p/7", 7) && !within("tile/0/000.p/7", 6));
        assert!(within("tile/entries/001.p/4", 260) && !within("tile/entries/001.p/5", 260));
        assert!(within("tile/1/000.p/1", 256) && !within("tile/1/000.p/1", 255));
        assert!(!within("tile/7/x999/x999/x999/x999/x999/999", u64::MAX));
    }
}
