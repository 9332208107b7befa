//! Raises an HTTPS port and lowers it again.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use legate_clock::Clock;
use legate_mtls::{Connections, Listener, Peer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::Limits;
use crate::door::Door;
use crate::metrics::Metrics;

/// Connections to a plaintext port at most.
const MOST_PLAIN: usize = 256;

/// After a connection that could not be accepted.
const BACK_OFF: Duration = Duration::from_millis(50);

/// What makes a port.
#[derive(Debug)]
pub struct Service {
    /// The service's name, as everywhere.
    pub name: &'static str,
    /// The handlers. What they need to know of the caller they take as a [`Visitor`](crate::Visitor).
    pub routes: Router,
    /// The paths by which requests are counted, `{PART}` for any part; all others are counted together.
    pub paths: &'static [&'static str],
    /// Bounds.
    pub limits: Limits,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where requests are counted, of all the ports of a process together.
    pub metrics: Arc<legate_rpc::Metrics>,
}

/// A running port, which is cut when it is dropped.
#[derive(Debug)]
pub struct Web {
    addr: SocketAddr,
    connections: Connections,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Serves on `listener` until [`Web::shutdown`].
///
/// # Errors
/// When the listener does not tell its address.
pub fn serve(service: Service, listener: Listener) -> io::Result<Web> {
    let addr = listener.local_addr()?;
    let connections = listener.connections();
    let (door, stop) = (door(service), CancellationToken::new());
    let task = tokio::spawn(accept(listener, door, stop.clone()));
    Ok(Web { addr, connections, stop, task })
}

/// Serves in plaintext on a loopback address, for whoever puts a server of his own in front, until [`Web::shutdown`].
///
/// # Errors
/// When the address is not a loopback address or cannot be bound.
pub async fn serve_plain(service: Service, addr: SocketAddr) -> io::Result<Web> {
    if !addr.ip().is_loopback() {
        let why = format!("plaintext is spoken on a loopback address only, not on {addr}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    let (door, stop) = (door(service), CancellationToken::new());
    let task = tokio::spawn(accept_plain(listener, door, stop.clone()));
    Ok(Web { addr, connections: Connections::default(), stop, task })
}

fn door(service: Service) -> Arc<Door> {
    let metrics = service.metrics.kept(Metrics::new);
    let Service { name, routes, paths, limits, clock, .. } = service;
    Arc::new(Door { name, routes, paths, limits, clock, metrics })
}

impl Web {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The connections that are open.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Takes no more requests, lets those under way finish for `grace`, then cuts every connection.
    pub async fn shutdown(mut self, grace: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            let cut = self.connections.cut(|_| true);
            tracing::info!(cut, "web connections were still open when the time to drain was over");
        }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: Listener, door: Arc<Door>, stop: CancellationToken) {
    let mut incoming = listener.into_incoming();
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            conn = incoming.next() => match conn {
                Some(Ok(conn)) => {
                    let peer = Arc::clone(conn.peer());
                    drop(open.spawn(connection(conn, peer, Arc::clone(&door), stop.clone())));
                }
                Some(Err(error)) => tracing::info!(%error, "a connection failed"),
                None => break,
            },
            Some(_) = open.join_next() => {}
        }
    }
    // Closes the socket, while requests under way go on.
    drop(incoming);
    while open.join_next().await.is_some() {}
}

async fn accept_plain(listener: TcpListener, door: Arc<Door>, stop: CancellationToken) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept(), if open.len() < MOST_PLAIN => match accepted {
                Ok((tcp, from)) => {
                    let peer = Arc::new(Peer::anonymous(from));
                    drop(open.spawn(connection(tcp, peer, Arc::clone(&door), stop.clone())));
                }
                Err(error) => {
                    tracing::info!(%error, "a connection failed");
                    // When files have run out, the next try would fail at once as well.
                    tokio::time::sleep(BACK_OFF).await;
                }
            },
            Some(_) = open.join_next() => {}
        }
    }
    // Closes the socket, while requests under way go on.
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// One connection, HTTP/1.1 or HTTP/2, for a bounded time.
async fn connection<S>(conn: S, peer: Arc<Peer>, door: Arc<Door>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = door.limits;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_deadline)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes.max(8 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits.pending_resets)
        .keep_alive_interval(limits.ping_after)
        .keep_alive_timeout(limits.ping_deadline);
    let asked = Arc::new(AtomicBool::new(false));
    let has_asked = Arc::clone(&asked);
    let answer = service_fn(move |request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let (door, peer) = (Arc::clone(&door), Arc::clone(&peer));
        async move { Ok::<_, Infallible>(door.answer(peer, request).await) }
    });
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(conn), answer));
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = stop.cancelled() => None,
        () = tokio::time::sleep(limits.connection_age) => None,
        // The library waits for the first words of HTTP without an end, and for those of a first stream as well.
        () = silent(&has_asked, limits.header_deadline) => return tracing::debug!("a web client asked nothing"),
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            serving.as_mut().graceful_shutdown();
            match tokio::time::timeout(limits.connection_grace, serving.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => return tracing::debug!("a web client took too long"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a web client went");
    }
}

/// Ends when nothing was asked within the time; else never.
async fn silent(has_asked: &AtomicBool, deadline: Duration) {
    tokio::time::sleep(deadline).await;
    if has_asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}
