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

/// The deep checks of a service, by name: of what it needs to be ready, and of what it cannot come back from unless it is started anew.
#[derive(Default)]
pub struct Checks {
    ready: Vec<(&'static str, Check)>,
    alive: Vec<(&'static str, Check)>,
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.ready.iter().chain(&self.alive).map(|(name, _)| name)).finish()
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
        self.ready.push((name, Box::new(move || Box::pin(check()))));
        self
    }

    /// Adds a check of what only a restart mends: `/livez` asks it as well.
    #[must_use]
    pub fn with_alive<F>(mut self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.alive.push((name, Box::new(move || Box::pin(check()))));
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
            .route("/livez", get(livez))
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

async fn livez(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let (text, is_alive) = found(&shared.checks.alive).await;
    if is_alive { (StatusCode::OK, "ok\n".to_owned()) } else { (StatusCode::SERVICE_UNAVAILABLE, text) }
}

async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let (alive, is_alive) = found(&shared.checks.alive).await;
    let (text, is_ready) = found(&shared.checks.ready).await;
    let (status, last) = match is_alive && is_ready {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    };
    (status, alive + &text + last)
}

/// What each check finds, and whether all is well.
async fn found(checks: &[(&'static str, Check)]) -> (String, bool) {
    let (mut text, mut is_well) = (String::new(), true);
    for (name, check) in checks {
        let found = tokio::time::timeout(CHECK_DEADLINE, check()).await;
        match found.unwrap_or_else(|_| Err("no answer within 2 s".into())) {
            Ok(()) => text += &format!("ok      {name}\n"),
            Err(why) => {
                is_well = false;
                text += &format!("not ok  {name}: {why}\n");
            }
        }
    }
    (text, is_well)
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
    async fn what_only_a_restart_mends_is_told_by_both() {
        let checks = Checks::new().with_alive("loop", || async { Err("hangs".to_owned()) });
        let probes = Probes::start("127.0.0.1:0".parse().unwrap(), Arc::new(Metrics::new()), checks).await.unwrap();
        for path in ["/livez", "/readyz"] {
            let told = fetch(probes.addr(), path).await;
            assert!(told.starts_with("HTTP/1.1 503") && told.contains("not ok  loop: hangs"), "{told}");
        }
        probes.shutdown().await;
    }

    #[tokio::test]
    async fn refuses_addresses_that_others_reach() {
        let open = "0.0.0.0:0".parse().unwrap();
        assert!(Probes::start(open, Arc::new(Metrics::new()), Checks::new()).await.is_err());
    }
}
