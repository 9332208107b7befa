//! A tool server that policy-decision guards: axum over mutual TLS; what an agent may not do never reaches a handler.
//!
//! It is an enforcement point of its namespace, and asks with that certificate; to its own callers it shows the one of its host name.
//! From the environment it takes `LISTEN` (`127.0.0.1:8443` where it is not set), `LISTEN_CERT` and `LISTEN_KEY`, and for asking `LEGATE_POLICY` (`https://HOST:PORT`, several with commas), `LEGATE_TRUST_DOMAIN`, `LEGATE_CA` (services' CA), `LEGATE_WORKLOADS_CA`,
//! `LEGATE_CERT` and `LEGATE_KEY`.

use std::error::Error;
use std::path::PathBuf;

use axum::Extension;
use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use futures_util::StreamExt as _;
use http::Method;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use legate_client::guard::{BadRoute, Guard, Routes};
use legate_client::{Decision, Permit};
use legate_clock::SystemClock;
use legate_mtls::{Identity, Limits, Listener, Trust};
use tower::ServiceExt as _;

/// The server's tools, behind the guard.
pub fn app(decision: Decision) -> Result<Router, BadRoute> {
    let routes = Routes::new()
        .route(Method::GET, "/projects/{project}/invoices/{id}", "invoice:read", "Invoice", "{project}/{id}")?
        .route(Method::POST, "/projects/{project}/invoices/{id}/pay", "invoice:pay", "Invoice", "{project}/{id}")?;
    let tools = Router::new()
        .route("/projects/{project}/invoices/{id}", get(read))
        .route("/projects/{project}/invoices/{id}/pay", axum::routing::post(read));
    Ok(tools.layer(Guard::new(decision, routes)))
}

/// A tool; the permit says for whom it works.
async fn read(Path((project, id)): Path<(String, String)>, Extension(permit): Extension<Permit>) -> String {
    format!("{project}/{id} for {} by {}", permit.agent_id(), permit.decision_id())
}

/// Serves until the listener ends. The handshake's peer goes with every request, and the guard finds it there.
pub async fn serve(listener: Listener, app: Router) {
    let mut incoming = listener.into_incoming();
    while let Some(conn) = incoming.next().await {
        let Ok(conn) = conn else { continue };
        let (peer, app) = (conn.peer().clone(), app.clone());
        let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer.clone());
            app.clone().oneshot(request)
        });
        tokio::spawn(async move {
            let served = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(conn), service).await;
            // How a connection ended is the caller's affair.
            drop(served);
        });
    }
}

fn setting(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let file = |name| setting(name).map(PathBuf::from);
    let domain = legate_ids::TrustDomain::parse(&setting("LEGATE_TRUST_DOMAIN")?)?;
    let trust = Trust::from_files(domain, &file("LEGATE_CA")?, Some(&file("LEGATE_WORKLOADS_CA")?))?;
    let point = Identity::from_files(&file("LEGATE_CERT")?, &file("LEGATE_KEY")?)?;
    let policy = setting("LEGATE_POLICY")?;
    let decision = Decision::builder(policy.split(','), point, trust.clone()).build()?;
    let host = Identity::from_files(&file("LISTEN_CERT")?, &file("LISTEN_KEY")?)?;
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8443".into()).parse()?;
    let listener = Listener::bind_web(listen, host, Some(trust), SystemClock::shared(), Limits::default()).await?;
    serve(listener, app(decision)?).await;
    Ok(())
}
