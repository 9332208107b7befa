//! What verifies workloads, for whoever takes JWT-SVIDs or certificates and asks nobody else: an issuer's metadata with its keys, as
//! providers' workload federation reads them, and a SPIFFE bundle.
//!
//! The issuer of JWT-SVIDs is another than that of access tokens, with keys of its own: what one signed is never good for the other.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use base64ct::{Base64, Encoding as _};
use legate_rpc::Fault;
use legate_token::PublicKey;
use serde::Serialize;
use serde_json::{Value, json};

use super::Facade;
use super::answer::{OauthError, json, raw};
use crate::domain::keyring::KeyUse;
use crate::keys::key_of;

/// Whoever keeps what is served here looks again after so many seconds.
const REFRESH: u32 = 300;
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// OpenID Connect Discovery 1.0 section 3, as far as there is something to say: there are no logins, so no endpoints.
#[derive(Serialize)]
struct Metadata<'a> {
    issuer: &'a str,
    jwks_uri: String,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 1],
    claims_supported: [&'static str; 6],
}

pub(super) async fn metadata(State(facade): State<Facade>) -> Response {
    let issuer = facade.desk.svid_issuer();
    let told = Metadata {
        issuer: &issuer,
        jwks_uri: format!("{}{}", facade.desk.issuer.trim_end_matches('/'), super::WORKLOAD_JWKS),
        response_types_supported: ["id_token"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["ES256"],
        claims_supported: ["iss", "sub", "aud", "iat", "exp", "jti"],
    };
    json(StatusCode::OK, &told, KEPT)
}

pub(super) async fn jwks(State(facade): State<Facade>) -> Response {
    raw(StatusCode::OK, legate_token::jwk_set(&facade.desk.keys.published(KeyUse::JwtSvids)), KEPT)
}

/// SPIFFE Trust Domain and Bundle, section 4: the trust domain's own keys, in the form in which domains tell each other.
pub(super) async fn bundle(State(facade): State<Facade>) -> Result<Response, OauthError> {
    let (authority, keys, sequence) = facade.desk.keys.bundle()?;
    let roots = authority.roots().into_iter().map(|der| x509(&der));
    let jwts = keys.iter().map(|key| member(key, "jwt-svid"));
    let keys = roots.chain(jwts).collect::<Result<Vec<Value>, Fault>>()?;
    let told = json!({ "keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": REFRESH });
    Ok(json(StatusCode::OK, &told, KEPT))
}

/// Section 4.2.2: a CA certificate, alone in x5c.
fn x509(der: &[u8]) -> Result<Value, Fault> {
    let key = key_of(der).ok_or_else(|| Fault::broken("a CA certificate of ours whose key cannot be read"))?;
    let mut found = member(&key, "x509-svid")?;
    if let Some(members) = found.as_object_mut() {
        members.remove("kid");
        members.insert("x5c".to_owned(), json!([Base64::encode_string(der)]));
    }
    Ok(found)
}

fn member(key: &PublicKey, of: &str) -> Result<Value, Fault> {
    let mut found: Value = serde_json::from_str(&key.to_jwk()).map_err(Fault::broken)?;
    if let Some(members) = found.as_object_mut() {
        members.remove("alg");
        members.insert("use".to_owned(), json!(of));
    }
    Ok(found)
}
