//! `/oauth2/introspect` (RFC 7662).

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_token::{Claims, Confirmation, Details};
use legate_web::Visitor;
use serde::Serialize;
use serde_json::Value;

use super::answer::{OauthError, private};
use super::form::Form;
use super::{Facade, INTROSPECT, call};
use crate::flow::live;

/// What is told of an active token. Members that say nothing are left out: strict clients stumble over null.
#[derive(Serialize)]
struct Active<'a> {
    active: bool,
    iss: &'a str,
    sub: String,
    aud: &'a str,
    client_id: &'a str,
    scope: String,
    /// RFC 9396 section 9.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_details: Option<Value>,
    token_type: &'static str,
    iat: u64,
    exp: u64,
    jti: &'a str,
    ns: &'a str,
    agent: &'a str,
    lv: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<Act<'a>>>,
    /// The groups of people that the person for whom it is was proved to be a member of.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Cnf>,
}

/// Who acts, newest outermost (RFC 8693 section 4.1).
#[derive(Serialize)]
struct Act<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<Act<'a>>>,
}

#[derive(Serialize)]
enum Cnf {
    #[serde(rename = "x5t#S256")]
    Certificate(String),
    #[serde(rename = "jkt")]
    Key(String),
}

/// Of a token that is not active nothing more is said (RFC 7662 section 2.2).
#[derive(Serialize)]
struct Inactive {
    active: bool,
}

pub(super) async fn introspect(
    State(facade): State<Facade>,
    visitor: Visitor,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Result<Response, OauthError> {
    let form = Form::read(&headers, uri.query(), &body)?;
    let call = call(&visitor);
    let asker = facade.asker(&call, &headers, &form, INTROSPECT).await?;
    let token = form.get("token").ok_or_else(|| OauthError::request("token is missing"))?;
    let found = Box::pin(live::introspect(&facade.desk, &call, &asker, token)).await?;
    Ok(match &found {
        Some(live) => private(&active(&live.claims)),
        None => private(&Inactive { active: false }),
    })
}

/// RFC 9449 section 5 and RFC 8705 section 3: only a token that is bound to a key of its own is of another type.
pub(super) fn token_type(confirmation: &Confirmation) -> &'static str {
    match confirmation {
        Confirmation::Key(_) => "DPoP",
        Confirmation::Certificate(_) | Confirmation::Bearer => "Bearer",
    }
}

/// Authorization details as they are told; `None`: there are none.
pub(super) fn details(of: &Details) -> Option<Value> {
    if of.is_empty() { None } else { serde_json::from_str(&of.to_string()).ok() }
}

fn active(claims: &Claims) -> Active<'_> {
    let actors = claims.chain.actors.iter().rev();
    Active {
        active: true,
        iss: &claims.issuer,
        sub: claims.subject.to_string(),
        aud: &claims.audience,
        client_id: claims.agent.as_str(),
        scope: claims.scope.to_string(),
        authorization_details: details(&claims.details),
        token_type: token_type(&claims.confirmation),
        iat: claims.issued_at,
        exp: claims.expires_at,
        jti: &claims.token_id,
        ns: claims.namespace.as_str(),
        agent: claims.agent.as_str(),
        lv: claims.lifecycle_version,
        instance: claims.instance.as_ref().map(legate_ids::InstanceId::as_str),
        act: actors.fold(None, |act, actor| Some(Box::new(Act { sub: actor.as_str(), act }))),
        groups: &claims.chain.groups,
        cnf: match &claims.confirmation {
            Confirmation::Certificate(x5t) => Some(Cnf::Certificate(Base64UrlUnpadded::encode_string(x5t))),
            Confirmation::Key(jkt) => Some(Cnf::Key(Base64UrlUnpadded::encode_string(jkt))),
            Confirmation::Bearer => None,
        },
    }
}
