//! What this authorization server can do (RFC 8414), and the keys that verify its tokens.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::Facade;
use super::answer::{json, raw};
use crate::domain::keyring::KeyUse;

/// Clients look again after this.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=300");

const METHODS: &[&str] = &["private_key_jwt", "tls_client_auth", "client_secret_basic", "client_secret_post"];
const ALGORITHMS: &[&str] = &["ES256"];

#[derive(Serialize)]
struct Metadata<'a> {
    issuer: &'a str,
    token_endpoint: String,
    jwks_uri: String,
    introspection_endpoint: String,
    revocation_endpoint: String,
    grant_types_supported: &'static [&'static str],
    response_types_supported: &'static [&'static str],
    token_endpoint_auth_methods_supported: &'static [&'static str],
    token_endpoint_auth_signing_alg_values_supported: &'static [&'static str],
    introspection_endpoint_auth_methods_supported: &'static [&'static str],
    introspection_endpoint_auth_signing_alg_values_supported: &'static [&'static str],
    revocation_endpoint_auth_methods_supported: &'static [&'static str],
    revocation_endpoint_auth_signing_alg_values_supported: &'static [&'static str],
    dpop_signing_alg_values_supported: &'static [&'static str],
    tls_client_certificate_bound_access_tokens: bool,
}

pub(super) async fn metadata(State(facade): State<Facade>) -> Response {
    let issuer = facade.desk.issuer.as_str();
    let at = |path: &str| format!("{issuer}{path}");
    let told = Metadata {
        issuer,
        token_endpoint: at(super::TOKEN),
        jwks_uri: at(super::JWKS),
        introspection_endpoint: at(super::INTROSPECT),
        revocation_endpoint: at(super::REVOKE),
        grant_types_supported: super::GRANTS,
        // There is no authorization endpoint: agents have no browser.
        response_types_supported: &[],
        token_endpoint_auth_methods_supported: METHODS,
        token_endpoint_auth_signing_alg_values_supported: ALGORITHMS,
        introspection_endpoint_auth_methods_supported: METHODS,
        introspection_endpoint_auth_signing_alg_values_supported: ALGORITHMS,
        revocation_endpoint_auth_methods_supported: METHODS,
        revocation_endpoint_auth_signing_alg_values_supported: ALGORITHMS,
        dpop_signing_alg_values_supported: ALGORITHMS,
        tls_client_certificate_bound_access_tokens: true,
    };
    json(StatusCode::OK, &told, KEPT)
}

pub(super) async fn jwks(State(facade): State<Facade>) -> Response {
    raw(StatusCode::OK, legate_token::jwk_set(&facade.desk.keys.published(KeyUse::AccessTokens)), KEPT)
}
