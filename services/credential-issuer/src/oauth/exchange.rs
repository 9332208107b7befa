//! The grant of RFC 8693, read: on the journey of `flow/exchange.rs`, as over gRPC.

use super::answer::OauthError;
use super::form::Form;
use crate::convert;
use crate::flow::exchange::{Exchange, SubjectToken};

/// RFC 8693 section 2.1.
pub(super) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8693 section 3.
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(super) const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// What is asked. The actor is the client, which proved who it is; an actor token may only say the same.
pub(super) fn read(form: &Form) -> Result<Exchange, OauthError> {
    let bad = |why: &str| OauthError::request(why);
    let is_known = |name: &str| match form.get(name) {
        Some(ACCESS_TOKEN) => Ok(true),
        Some(_) => Err(bad(&format!("{name} has to be {ACCESS_TOKEN}"))),
        None => Ok(false),
    };
    let subject_token = form.get("subject_token").ok_or_else(|| bad("subject_token is missing"))?.to_owned();
    let subject_token = match form.get("subject_token_type") {
        Some(ACCESS_TOKEN) => SubjectToken::Access(subject_token),
        Some(ID_TOKEN) => SubjectToken::Identity(subject_token),
        Some(_) => return Err(bad(&format!("subject_token_type has to be {ACCESS_TOKEN} or {ID_TOKEN}"))),
        None => return Err(bad("subject_token_type is missing")),
    };
    let actor_token = form.get("actor_token");
    if is_known("actor_token_type")? != actor_token.is_some() {
        return Err(bad("actor_token and actor_token_type come together or not at all"));
    }
    is_known("requested_token_type")?;
    let target = match (form.get("resource"), form.get("audience")) {
        (Some(_), Some(_)) => return Err(bad("name the target once, by resource or by audience")),
        (resource, audience) => resource.or(audience),
    };
    Ok(Exchange {
        subject_token,
        actor_token: actor_token.map(ToOwned::to_owned),
        wish: convert::oauth_wish(target, form.get("scope"), form.get("authorization_details"))?,
        grant: None,
    })
}
