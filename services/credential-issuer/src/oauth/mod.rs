//! The OAuth facade: the same journeys as over gRPC, for ordinary HTTPS clients.
//!
//! RFC 6749 client credentials, 8693 token exchange, 7523 and 8705 client authentication, 8707 resource, 9068 tokens, 9449
//! DPoP, 7662 introspection, 7009 revocation, 8414 metadata; OpenID CIBA in poll mode. A client is an agent; its `client_id` is the agent's id.
//! Beside it what verifies workloads (`/workload`).

mod answer;
mod asker;
mod attempts;
mod backchannel;
mod exchange;
mod form;
mod introspect;
mod metadata;
mod revoke;
mod status;
mod token;
mod workload;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use legate_boot::Context;
use legate_mtls::{Limits, Listener};
use legate_rpc::Refusals;
use legate_view::ViewStanding;
use legate_web::{Visitor, Web};

use crate::flow::{Call, Desk};
use attempts::Attempts;

const TOKEN: &str = "/oauth2/token";
const BACKCHANNEL: &str = "/oauth2/bc-authorize";
const INTROSPECT: &str = "/oauth2/introspect";
const REVOKE: &str = "/oauth2/revoke";
const STATUS: &str = "/oauth2/status/{LIST}";
const JWKS: &str = "/oauth2/jwks";
const METADATA: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";
const WORKLOAD_OPENID: &str = "/workload/.well-known/openid-configuration";
const WORKLOAD_JWKS: &str = "/workload/jwks";
const WORKLOAD_BUNDLE: &str = "/workload/bundle";

/// The grants that are served.
const GRANTS: &[&str] = &[token::CLIENT_CREDENTIALS, exchange::TOKEN_EXCHANGE, token::JWT_BEARER, backchannel::CIBA];

/// What the handlers need.
#[derive(Clone, Debug)]
pub(crate) struct Facade {
    desk: Arc<Desk>,
    standing: ViewStanding,
    refusals: Arc<Refusals>,
    attempts: Arc<Attempts>,
}

/// Most clients of this port show no certificate, so strangers may take more of it than of the other.
pub(crate) fn limits() -> Limits {
    Limits { connections: 4_096, strangers: 3_072, one_peer: 512, handshakes: 256, ..Limits::default() }
}

/// Serves the facade on a listener.
pub(crate) fn serve(listener: Listener, desk: &Arc<Desk>, standing: ViewStanding, ctx: &Context) -> io::Result<Web> {
    let facade = Facade {
        desk: Arc::clone(desk),
        standing,
        refusals: Arc::clone(&ctx.refusals),
        attempts: Arc::new(Attempts::new(Arc::clone(&ctx.clock))),
    };
    let routes = Router::new()
        .route(TOKEN, post(token::token))
        .route(BACKCHANNEL, post(backchannel::authorize))
        .route(INTROSPECT, post(introspect::introspect))
        .route(REVOKE, post(revoke::revoke))
        .route(STATUS, get(status::list))
        .route(JWKS, get(metadata::jwks))
        .route(METADATA, get(metadata::metadata))
        .route(OPENID, get(metadata::metadata))
        .route(WORKLOAD_OPENID, get(workload::metadata))
        .route(WORKLOAD_JWKS, get(workload::jwks))
        .route(WORKLOAD_BUNDLE, get(workload::bundle))
        .with_state(facade);
    let service = legate_web::Service {
        name: crate::NAME,
        routes,
        paths: &[
            TOKEN,
            BACKCHANNEL,
            INTROSPECT,
            REVOKE,
            STATUS,
            JWKS,
            METADATA,
            OPENID,
            WORKLOAD_OPENID,
            WORKLOAD_JWKS,
            WORKLOAD_BUNDLE,
        ],
        limits: legate_web::Limits::default(),
        clock: Arc::clone(&ctx.clock),
        metrics: Arc::clone(&ctx.metrics),
    };
    legate_web::serve(service, listener)
}

/// A request as a journey sees it. Nobody states an emergency here: that is for people, over gRPC.
fn call(visitor: &Visitor) -> Call {
    Call {
        peer: Arc::clone(visitor.peer()),
        trace: visitor.trace().clone(),
        deadline: visitor.deadline(),
        emergency: None,
        client: None,
    }
}
