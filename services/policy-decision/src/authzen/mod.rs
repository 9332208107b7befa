//! AuthZEN over HTTPS (OpenID Authorization API 1.0): the same journeys as over gRPC, for enforcement points that speak the standard.
//!
//! A caller shows its certificate, as over gRPC; no header is believed about who it is. The subject is an agent, named on the
//! caller's word or proved by its access token.

mod answer;
mod configuration;
mod entity;
mod evaluation;
mod json;
mod search;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use legate_boot::Context;
use legate_mtls::{Limits, Listener};
use legate_rpc::{ACCESS_DENIED, Fault, METHOD_UNKNOWN, Refusals, UNAUTHENTICATED};
use legate_web::{Visitor, Web};

use crate::access::AUTHZEN_ACCESS;
use crate::flow::{Asker, Desk};
use answer::AuthzenError;

const CONFIGURATION: &str = "/.well-known/authzen-configuration";
const EVALUATION: &str = "/access/v1/evaluation";
const EVALUATIONS: &str = "/access/v1/evaluations";
const SUBJECTS: &str = "/access/v1/search/subject";
const RESOURCES: &str = "/access/v1/search/resource";
const ACTIONS: &str = "/access/v1/search/action";

/// How a caller names its request (section 10.1.7); it comes back, and is the correlation id of what is recorded.
const REQUEST_ID: &str = "x-request-id";
/// Nothing is answered by an older state of the registry than this revision, as `at_least_revision` over gRPC.
const AT_LEAST: &str = "legate-at-least-revision";
/// The most of a request's id that is recorded, in bytes.
const MAX_CORRELATION: usize = 128;
/// The largest body; a whole batch has to fit.
const MAX_BODY: usize = 1 << 20;

/// What the handlers need.
#[derive(Clone, Debug)]
struct Facade {
    desk: Arc<Desk>,
    refusals: Arc<Refusals>,
    /// `https://HOST[:PORT]`.
    url: Arc<str>,
}

/// Callers have certificates, but for who reads the configuration.
pub(crate) fn limits() -> Limits {
    Limits { strangers: 64, ..Limits::default() }
}

/// Serves AuthZEN on a listener.
pub(crate) fn serve(listener: Listener, desk: &Arc<Desk>, url: &str, ctx: &Context) -> io::Result<Web> {
    let facade = Facade { desk: Arc::clone(desk), refusals: Arc::clone(&ctx.refusals), url: url.into() };
    let routes = Router::new()
        .route(CONFIGURATION, get(configuration::configuration))
        .route(EVALUATION, post(evaluation::evaluation))
        .route(EVALUATIONS, post(evaluation::evaluations))
        .route(SUBJECTS, post(search::subjects))
        .route(RESOURCES, post(search::resources))
        .route(ACTIONS, post(search::actions))
        .fallback(nothing)
        .method_not_allowed_fallback(not_so)
        .layer(from_fn(name_again))
        .with_state(facade);
    let service = legate_web::Service {
        name: crate::NAME,
        routes,
        paths: &[CONFIGURATION, EVALUATION, EVALUATIONS, SUBJECTS, RESOURCES, ACTIONS],
        limits: legate_web::Limits {
            body_bytes: MAX_BODY,
            streams_per_connection: 256,
            connection_age: std::time::Duration::from_secs(600),
            ..legate_web::Limits::default()
        },
        clock: Arc::clone(&ctx.clock),
        metrics: Arc::clone(&ctx.metrics),
    };
    legate_web::serve(service, listener)
}

async fn nothing() -> AuthzenError {
    let text = "there is nothing at this path; see /.well-known/authzen-configuration";
    AuthzenError::at(StatusCode::NOT_FOUND, Fault::refused(&METHOD_UNKNOWN, text))
}

async fn not_so() -> AuthzenError {
    let text = "this method is not served at this path: questions are sent by POST, the configuration is read by GET";
    AuthzenError::at(StatusCode::METHOD_NOT_ALLOWED, Fault::refused(&METHOD_UNKNOWN, text))
}

/// Puts the name of the request on its answer, as it came (section 10.1.7).
async fn name_again(request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).cloned();
    let mut answer = next.run(request).await;
    if let Some(id) = id {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    answer
}

impl Facade {
    /// Lets in whom the access table lists; what it may ask the journey judges.
    fn admit(&self, visitor: &Visitor, path: &'static str) -> Result<Asker, Fault> {
        let peer = visitor.peer();
        if AUTHZEN_ACCESS.iter().any(|rule| rule.method == path && rule.admits(peer)) {
            return Ok(Asker::of_peer(Arc::clone(peer), visitor.trace(), visitor.deadline()));
        }
        let fault = match &peer.spiffe_id {
            None => Fault::refused(&UNAUTHENTICATED, "the caller showed no client certificate"),
            Some(id) => Fault::refused(&ACCESS_DENIED, format!("{id} may not ask for decisions")),
        };
        self.refusals.note(peer, path, &fault);
        Err(fault)
    }
}

/// What the headers say of a request.
#[derive(Clone, Debug, Default)]
struct Asked {
    correlation: String,
    at_least_revision: u64,
}

impl Asked {
    fn of(headers: &HeaderMap) -> Result<Self, Fault> {
        let correlation = header(headers, REQUEST_ID)?.unwrap_or_default();
        let at_least = header(headers, AT_LEAST)?.map(|text| {
            text.parse().map_err(|_| Fault::invalid(AT_LEAST, "is a revision of the registry, a whole number"))
        });
        // Printable ASCII, so every byte is a place to cut at.
        let correlation = correlation.chars().take(MAX_CORRELATION).collect();
        Ok(Self { correlation, at_least_revision: at_least.transpose()?.unwrap_or(0) })
    }
}

/// A header that came once at most.
fn header<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Fault> {
    let mut all = headers.get_all(name).iter();
    let Some(first) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(Fault::invalid(name, "came several times; send it once"));
    }
    first.to_str().map(Some).map_err(|_| Fault::invalid(name, "has to be printable ASCII"))
}
