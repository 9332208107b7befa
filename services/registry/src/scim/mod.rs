//! The SCIM facade: agents as a resource of SCIM 2.0 (RFC 7643, RFC 7644), by the same journeys as over gRPC.
//!
//! The resource is that of draft-wzdk-scim-agent-resource-00, a draft: it is off by default. Each namespace is a service
//! provider of its own, under `/ns/NAMESPACE/scim/v2`. Callers are operators, by their certificates alone.

mod agents;
mod answer;
mod attribute;
mod discovery;
mod draft;
mod filter;
mod json;
mod list;
mod patch;
mod query;
mod resource;
mod select;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use http::{HeaderMap, HeaderValue};
use legate_boot::Context;
use legate_ids::Name;
use legate_mtls::{Limits, Listener};
use legate_rpc::{ACCESS_DENIED, Caller, Fault, METHOD_UNKNOWN, Refusals, Rule, UNAUTHENTICATED};
use legate_web::{Visitor, Web};

use crate::domain::check;
use crate::flow::{By, Call, Desk, refusal};
use answer::ScimError;

const AGENTS: &str = "/ns/{namespace}/scim/v2/Agents";
const AGENT: &str = "/ns/{namespace}/scim/v2/Agents/{id}";
const CONFIG: &str = "/ns/{namespace}/scim/v2/ServiceProviderConfig";
const TYPES: &str = "/ns/{namespace}/scim/v2/ResourceTypes";
const TYPE: &str = "/ns/{namespace}/scim/v2/ResourceTypes/{id}";
const SCHEMAS: &str = "/ns/{namespace}/scim/v2/Schemas";
const SCHEMA: &str = "/ns/{namespace}/scim/v2/Schemas/{id}";

/// Who may come in; what he may do there his roles say.
const DOOR: Rule = Rule { method: "scim", callers: &[Caller::Operator] };

/// A request id, as `request_id` over gRPC.
const REQUEST_ID: &str = "legate-request-id";
/// A reason, as `reason` over gRPC.
const REASON: &str = "legate-reason";

/// What the handlers need.
#[derive(Clone, Debug)]
pub(crate) struct Facade {
    desk: Arc<Desk>,
    refusals: Arc<Refusals>,
    /// `https://HOST[:PORT]`.
    url: Arc<str>,
}

/// Operators are few; strangers must not take the files that the registry needs.
pub(crate) fn limits() -> Limits {
    Limits { connections: 256, strangers: 64, handshakes: 64, ..Limits::default() }
}

/// Serves the facade on a listener.
pub(crate) fn serve(listener: Listener, desk: &Arc<Desk>, url: &str, ctx: &Context) -> io::Result<Web> {
    let facade = Facade { desk: Arc::clone(desk), refusals: Arc::clone(&ctx.refusals), url: url.into() };
    let routes = Router::new()
        .route(AGENTS, get(list::list).post(agents::create))
        .route(AGENT, get(agents::get).put(agents::replace).patch(agents::patch).delete(agents::retire))
        .route(CONFIG, get(discovery::config))
        .route(TYPES, get(discovery::types))
        .route(TYPE, get(discovery::one_type))
        .route(SCHEMAS, get(discovery::schemas))
        .route(SCHEMA, get(discovery::one_schema))
        .fallback(nothing)
        .method_not_allowed_fallback(not_so)
        .with_state(facade);
    let service = legate_web::Service {
        name: crate::NAME,
        routes,
        paths: &[AGENTS, AGENT, CONFIG, TYPES, TYPE, SCHEMAS, SCHEMA],
        limits: legate_web::Limits::default(),
        clock: Arc::clone(&ctx.clock),
        metrics: Arc::clone(&ctx.metrics),
    };
    legate_web::serve(service, listener)
}

async fn nothing() -> ScimError {
    let text = "there is nothing at this path; the agents of a namespace are at /ns/NAMESPACE/scim/v2/Agents";
    ScimError::at(http::StatusCode::NOT_FOUND, Fault::refused(&METHOD_UNKNOWN, text))
}

async fn not_so() -> ScimError {
    let text = "this method is not served at this path; see ServiceProviderConfig";
    ScimError::at(http::StatusCode::METHOD_NOT_ALLOWED, Fault::refused(&METHOD_UNKNOWN, text))
}

impl Facade {
    /// Lets an operator in, and nobody else; `path` is what he asks for.
    fn admit(&self, visitor: &Visitor, path: &'static str) -> Result<(), Fault> {
        let peer = visitor.peer();
        if DOOR.admits(peer) {
            return Ok(());
        }
        let fault = match &peer.spiffe_id {
            None => Fault::refused(&UNAUTHENTICATED, "the caller showed no client certificate"),
            Some(id) => Fault::refused(&ACCESS_DENIED, format!("{id} is no operator")),
        };
        self.refusals.note(peer, path, &fault);
        Err(fault)
    }

    /// Who reads. Nobody states an emergency here: that is for people, over gRPC.
    fn reader(&self, visitor: &Visitor, path: &'static str) -> Result<By, Fault> {
        self.admit(visitor, path)?;
        Ok(By::of_peer(visitor.peer(), visitor.trace(), ""))
    }

    /// The call of a write; `asked` is what makes it this one and no other.
    fn call(
        &self,
        visitor: &Visitor,
        method: &'static str,
        headers: &HeaderMap,
        asked: &[&[u8]],
    ) -> Result<Call, Fault> {
        self.admit(visitor, method)?;
        let reason = header(headers, REASON)?.unwrap_or(method);
        refusal(check::check_reason(reason, true))?;
        // Length first, so that no two requests are the same bytes.
        let if_match = headers.get(http::header::IF_MATCH).map(HeaderValue::as_bytes).unwrap_or_default();
        let asked = asked.iter().chain([&if_match]);
        let whole: Vec<u8> =
            asked.flat_map(|part| (part.len() as u64).to_be_bytes().into_iter().chain(part.to_vec())).collect();
        let by = By::of_peer(visitor.peer(), visitor.trace(), reason);
        Call::new(by, method, &whole, header(headers, REQUEST_ID)?.unwrap_or_default())
    }

    /// Makes a write's journey, and records where it was refused.
    async fn noted<T>(
        &self,
        call: &Call,
        method: &'static str,
        journey: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let made = journey.await;
        if let Err(fault) = &made {
            self.desk.note_refusal(call, method, fault).await;
        }
        made
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

/// A namespace out of a path.
fn namespace(text: &str) -> Result<String, Fault> {
    Name::parse(text).map(|name| name.to_string()).map_err(|e| Fault::invalid("namespace", e.to_string()))
}
