//! `/oauth2/bc-authorize` (OpenID CIBA Core 1.0 section 7): a client asks for what a person has to approve.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse as _, Response};
use legate_ids::ActionPattern;
use legate_web::Visitor;
use serde::Serialize;

use super::answer::{OauthError, private};
use super::form::Form;
use super::{BACKCHANNEL, Facade, call};
use crate::convert;
use crate::domain::holder::Holder;
use crate::flow::backchannel::{Request, ask};

/// Section 10.1.
pub(super) const CIBA: &str = "urn:openid:params:grant-type:ciba";

/// What openID's clients send always, and is no action.
const OPENID: &str = "openid";
/// The longest message that is shown to an approver, in bytes.
const LONGEST_MESSAGE: usize = 200;
/// Seconds that a client may let its request wait.
const EXPIRY: std::ops::RangeInclusive<u64> = 30..=86_400;
/// Parameters that mean something that is not done here: who sends one would take it for done.
const NOT_DONE: [&str; 4] = ["request", "authorization_details", "id_token_hint", "login_hint_token"];

#[derive(Serialize)]
struct Answer {
    auth_req_id: String,
    expires_in: u64,
    interval: u64,
}

pub(super) async fn authorize(
    State(facade): State<Facade>,
    visitor: Visitor,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    Box::pin(answer(&facade, &visitor, &headers, &uri, &body)).await.unwrap_or_else(OauthError::into_response)
}

async fn answer(
    facade: &Facade,
    visitor: &Visitor,
    headers: &HeaderMap,
    uri: &Uri,
    body: &[u8],
) -> Result<Response, OauthError> {
    let form = Form::read(headers, uri.query(), body)?;
    let mut call = call(visitor);
    let (_, holder) = Box::pin(facade.client(&call, headers, &form, BACKCHANNEL)).await?;
    call.client = Some(holder.spiffe_id.clone());
    let request = read(&form, &holder)?;
    let asked = Box::pin(ask(&facade.desk, &call, &holder, request)).await?;
    let (auth_req_id, expires_in, interval) = (asked.auth_req_id, asked.expires_in, asked.interval);
    Ok(private(&Answer { auth_req_id, expires_in, interval }))
}

/// What is asked for, in section 7.1's words.
fn read(form: &Form, holder: &Holder) -> Result<Request, OauthError> {
    if let Some(name) = NOT_DONE.iter().find(|name| form.get(name).is_some()) {
        return Err(OauthError::request(format!("{name} is not supported here; see backchannel in the metadata")));
    }
    // The end-user of the standard is whoever approves in the agent's namespace; nobody else can be named.
    let namespace = holder.namespace.as_str();
    match form.get("login_hint") {
        None => {
            return Err(OauthError::request(format!(
                "login_hint is missing: give {namespace}, whose approvers are asked"
            )));
        }
        Some(hint) if hint == namespace => {}
        Some(_) => {
            let why =
                format!("login_hint has to be {namespace}, the namespace of the client, whose approvers are asked");
            return Err(OauthError::plain("unknown_user_id", why));
        }
    }
    let scope: Vec<&str> = form.get("scope").unwrap_or_default().split(' ').filter(|one| *one != OPENID).collect();
    let wish = convert::oauth_wish(form.get("resource"), Some(&scope.join(" ")), None)?;
    if wish.actions.is_empty() {
        return Err(OauthError::plain("invalid_scope", "scope is missing: say the actions that are to be approved"));
    }
    if wish.actions.iter().any(ActionPattern::is_wildcard) {
        return Err(OauthError::plain("invalid_scope", "a person approves actions one by one; scope has a pattern"));
    }
    let binding_message = form.get("binding_message").unwrap_or_default();
    if binding_message.len() > LONGEST_MESSAGE || binding_message.chars().any(legate_ids::is_deceptive) {
        let why = format!("binding_message is {LONGEST_MESSAGE} bytes at most, of printable characters on one line");
        return Err(OauthError::plain("invalid_binding_message", why));
    }
    let patience = match form.get("requested_expiry") {
        None => None,
        Some(text) => {
            let seconds = text.parse().ok().filter(|seconds| EXPIRY.contains(seconds));
            let seconds = seconds.ok_or_else(|| OauthError::request("requested_expiry is 30 to 86400 seconds"))?;
            Some(Duration::from_secs(seconds))
        }
    };
    Ok(Request { wish, binding_message: binding_message.to_owned(), patience })
}
