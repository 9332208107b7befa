//! A tool server that needs no secret of its callers: it knows them by the X.509-SVID of their connection, and policy-decision says what each may do.
//!
//! It is an enforcement point, enrolled by a one-time token on standard input; its certificate is renewed for as long as it runs. Every agent of
//! its own namespace may connect, and nobody else; what an agent may not do never reaches a tool.
//! From the environment it takes `LISTEN` (`127.0.0.1:0` where it is not set), `LEGATE_ISSUER`, `LEGATE_POLICY` and `LEGATE_CA`, which are in the `env` of
//! `legate dev`, and `LEGATE_TRUST_DOMAIN` (`dev.legate`). When it is ready it prints its address and its SPIFFE ID.

#[path = "tool_server.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own; how it serves is taken from it")]
pub mod tool_server;

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;

use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::Method;
use legate_client::guard::{BadRoute, Guard, Routes};
use legate_client::{Allow, Decision, IdentitySource, Permit, Remote};
use legate_ids::{Principal, TrustDomain};
use legate_mtls::{Limits, Trust};

type Failed = Box<dyn Error + Send + Sync>;

/// The tools, behind the guard.
pub fn app(decision: Decision) -> Result<Router, BadRoute> {
    let routes = Routes::new().route(Method::GET, "/plans/{id}", "plan:read", "Plan", "{id}")?.route(
        Method::POST,
        "/plans/{id}/run",
        "plan:run",
        "Plan",
        "{id}",
    )?;
    let tools = Router::new().route("/plans/{id}", get(read)).route("/plans/{id}/run", post(run));
    Ok(tools.layer(Guard::new(decision, routes).by_certificate()))
}

async fn read(Path(id): Path<String>, Extension(permit): Extension<Permit>) -> String {
    format!("plan {id}, read for {} by {}\n", permit.agent_id(), permit.decision_id())
}

async fn run(Path(id): Path<String>, Extension(permit): Extension<Permit>) -> String {
    format!("plan {id}, run for {} by {}\n", permit.agent_id(), permit.decision_id())
}

/// The agents of the server's own namespace.
pub fn callers(source: &IdentitySource) -> Result<Allow, Failed> {
    let id = source.spiffe_id().ok_or("the server is nobody")?;
    match Principal::of(&id)? {
        Principal::Enforcer { namespace, .. } => Ok(Allow::nobody().agents_of(namespace)),
        _ => Err(format!("{id} is no enforcement point").into()),
    }
}

fn setting(name: &str) -> Result<String, Failed> {
    std::env::var(name).map_err(|_| format!("{name} is not set").into())
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let domain = std::env::var("LEGATE_TRUST_DOMAIN").unwrap_or_else(|_| "dev.legate".into());
    let trust = Trust::from_files(TrustDomain::parse(&domain)?, &PathBuf::from(setting("LEGATE_CA")?), None)?;
    let issuer = Remote { endpoint: setting("LEGATE_ISSUER")?, trust: trust.clone(), service: "credential-issuer" };
    let mut token = String::new();
    std::io::stdin().read_line(&mut token)?;
    let enrolled = legate_client::enrol(&issuer, token.trim()).await?;
    let source = IdentitySource::enrolled(&issuer, &enrolled)?;

    let policy = setting("LEGATE_POLICY")?;
    let decision = Decision::builder(policy.split(','), source.identity().clone(), trust).build()?;
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:0".into()).parse()?;
    let listener = source.listen(listen, callers(&source)?, Limits::default()).await?;
    let id = source.spiffe_id().ok_or("the server is nobody")?;
    writeln!(std::io::stdout(), "ready {} {id}", listener.local_addr()?)?;
    tool_server::serve(listener, app(decision)?).await;
    Ok(())
}
