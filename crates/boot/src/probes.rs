//! The plaintext loopback port for health and metrics: `/livez`, `/readyz`, `/metrics`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use legate_rpc::Metrics;
use tokio_util::sync::CancellationToken;

/// A deep check: says what is wrong, if anything.
pub type Check = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The deep checks of a service, by name.
#[derive(Default)]
pub struct Checks(Vec<(&'static str, Check)>);

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Checks {
    /// No checks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check.
    #[must_use]
    pub fn with<F>(mut self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.0.push((name, Box::new(move || Box::pin(check()))));
        self
    }
}

/// A check that takes longer has failed.
const CHECK_DEADLINE: Duration = Duration::from_secs(2);

/// The running port.
#[derive(Debug)]
pub struct Probes {
    addr: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    metrics: Arc<Metrics>,
    checks: Checks,
}

impl Probes {
    /// Listens on a loopback address.
    ///
    /// # Errors
    /// When the address is not a loopback address (the port is plaintext) or cannot be bound.
    pub async fn start(addr: SocketAddr, metrics: Arc<Metrics>, checks: Checks) -> io::Result<Self> {
        if !addr.ip().is_loopback() {
            let why = format!("probes speak plaintext, so they listen on a loopback address only, not on {addr}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = tokio::net::TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_text))
            .with_state(Arc::new(Shared { metrics, checks }));
        let ended = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(ended).await {
                tracing::error!(%error, "the probe port has ended");
            }
        });
        Ok(Self { addr, stop, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops listening.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(Duration::from_millis(500), &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut text = String::new();
    let mut ready = true;
    for (name, check) in &shared.checks.0 {
        let found = tokio::time::timeout(CHECK_DEADLINE, check()).await;
        match found.unwrap_or_else(|_| Err("no answer within 2 s".into())) {
            Ok(()) => text += &format!("ok      {name}\n"),
            Err(why) => {
                ready = false;
                text += &format!("not ok  {name}: {why}\n");
            }
        }
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text + if ready { "ready\n" } else { "not ready\n" })
}

async fn metrics_text(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn fetch(addr: SocketAddr, path: &str) -> String {
        let mut tcp = tokio::net::TcpStream::connect(addr).await.unwrap();
        let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        tcp.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn tells_what_is_not_ready() {
        let checks =
            Checks::new().with("disk", || async { Ok(()) }).with("database", || async { Err("gone".to_owned()) });
        let loopback = "127.0.0.1:0".parse().unwrap();
        let probes = Probes::start(loopback, Arc::new(Metrics::new()), checks).await.unwrap();
        let ready = fetch(probes.addr(), "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("not ok  database: gone"), "{ready}");
        assert!(fetch(probes.addr(), "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(probes.addr(), "/metrics").await.contains("# EOF"));
        probes.shutdown().await;
    }

    #[tokio::test]
    async fn refuses_addresses_that_others_reach() {
        let open = "0.0.0.0:0".parse().unwrap();
        assert!(Probes::start(open, Arc::new(Metrics::new()), Checks::new()).await.is_err());
    }
}
