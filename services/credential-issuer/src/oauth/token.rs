//! `/oauth2/token` (RFC 6749 section 3.2): an agent gets an access token.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse as _, Response};
use legate_token::Confirmation;
use legate_web::Visitor;
use serde::Serialize;
use serde_json::Value;

use super::answer::{OauthError, private};
use super::backchannel::CIBA;
use super::exchange::{self, ACCESS_TOKEN, TOKEN_EXCHANGE};
use super::form::Form;
use super::introspect::{details, token_type};
use super::{Facade, TOKEN, call};
use crate::convert;
use crate::domain::holder::Holder;
use crate::domain::token::Wish;
use crate::error::CREDENTIAL_NOT_GOOD;
use crate::flow::authenticate::{By, Client, Use, recorded_certificate};
use crate::flow::backchannel::redeem;
use crate::flow::dpop::Proved;
use crate::flow::exchange::{Exchange, exchange_as};
use crate::flow::issue_token::{Asking, issue};
use crate::flow::{Call, dpop};

/// RFC 7523 section 2.1.
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// RFC 6749 section 4.4.
pub(super) const CLIENT_CREDENTIALS: &str = "client_credentials";

#[derive(Serialize)]
struct Answer {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
    /// RFC 9396 section 7.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_details: Option<Value>,
    /// Of an exchange (RFC 8693 section 2.2.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
}

pub(super) async fn token(
    State(facade): State<Facade>,
    visitor: Visitor,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let granted = Box::pin(grant(&facade, &visitor, &headers, &uri, &body)).await;
    let mut answer = granted.unwrap_or_else(OauthError::into_response);
    if headers.contains_key(DPOP)
        && let Ok(nonce) = HeaderValue::try_from(dpop::nonce(&facade.desk))
    {
        // RFC 9449 section 8.2: the nonce for the next time, whatever came of this one.
        answer.headers_mut().insert("dpop-nonce", nonce);
    }
    answer
}

/// The header of a DPoP proof.
const DPOP: &str = "dpop";

async fn grant(
    facade: &Facade,
    visitor: &Visitor,
    headers: &HeaderMap,
    uri: &Uri,
    body: &[u8],
) -> Result<Response, OauthError> {
    let form = Form::read(headers, uri.query(), body)?;
    let mut call = call(visitor);
    match form.get("grant_type") {
        Some(CLIENT_CREDENTIALS | JWT_BEARER | CIBA | TOKEN_EXCHANGE) => {}
        Some(_) => {
            return Err(OauthError::plain("unsupported_grant_type", "the grant types are in the metadata"));
        }
        None => return Err(OauthError::request("grant_type is missing")),
    }
    if form.get("grant_type") == Some(JWT_BEARER) {
        // The assertion says who it is.
        let client = Box::pin(facade.believed_client(&call, headers, &form, TOKEN)).await?;
        return Box::pin(give(facade, &mut call, headers, &form, client)).await;
    }
    // What can be done once more, nothing of it being used up, may rest on what is known of a secret or key already.
    let again = !headers.contains_key(DPOP) && form.get("grant_type") != Some(CIBA);
    let when = Use::ByToken { look: !again };
    let (client, holder) = Box::pin(facade.client_that(when, &call, headers, &form, TOKEN)).await?;
    let (by, mut unused) = (client.by.clone(), client.unused);
    let mut granted = Box::pin(give(facade, &mut call, headers, &form, (client, holder))).await;
    let is_not_good = granted.as_ref().is_err_and(|error| error.reason() == CREDENTIAL_NOT_GOOD.name);
    if let (true, By::Credential(id)) = (again && is_not_good, by) {
        // It is told why by how things are now.
        facade.desk.batches.forget(&id);
        call.client = None;
        let when = Use::ByToken { look: true };
        let (client, holder) = Box::pin(facade.client_that(when, &call, headers, &form, TOKEN)).await?;
        unused = client.unused;
        granted = Box::pin(give(facade, &mut call, headers, &form, (client, holder))).await;
    }
    if granted.is_err() {
        facade.desk.use_up(unused).await;
    }
    granted
}

/// Gives a client what it asks for.
async fn give(
    facade: &Facade,
    call: &mut Call,
    headers: &HeaderMap,
    form: &Form,
    (client, holder): (Client, Holder),
) -> Result<Response, OauthError> {
    call.client = Some(holder.spiffe_id.clone());
    // Read before a proof is spent on it.
    let ask = if form.get("grant_type") == Some(CIBA) {
        let missing = || OauthError::request("auth_req_id is missing");
        // Who sends them would take the token for narrowed.
        if form.get("authorization_details").is_some() {
            return Err(OauthError::request("authorization_details are not supported with the grant type of CIBA"));
        }
        Ask::Approved(form.get("auth_req_id").ok_or_else(missing)?.to_owned())
    } else if form.get("grant_type") == Some(TOKEN_EXCHANGE) {
        Ask::Exchange(exchange::read(form)?)
    } else {
        Ask::Own(convert::oauth_wish(form.get("resource"), form.get("scope"), form.get("authorization_details"))?)
    };
    let proved = prove(facade, headers).await?;
    let given = Box::pin(give_bound(facade, call, ask, (client, holder), proved.as_ref())).await;
    if given.is_err() {
        facade.desk.use_up(proved.map(|proved| proved.once)).await;
    }
    given
}

/// The same, where it is known by which key the client proved itself, if by any.
async fn give_bound(
    facade: &Facade,
    call: &Call,
    ask: Ask,
    (mut client, holder): (Client, Holder),
    proved: Option<&Proved>,
) -> Result<Response, OauthError> {
    // A token that is bound to another key than the certificate's names that certificate, to die with it.
    if client.by == By::Certificate(None) && proved.is_some() {
        client.by = By::Certificate(Some(recorded_certificate(&facade.desk, call, &holder).await?));
    }
    // A token names the running copy where it falls with that copy's certificate, and nowhere else.
    let holder = match (&client.by, proved) {
        (By::Credential(_) | By::Identity(_), Some(_)) => holder.of_any_copy(),
        _ => holder,
    };
    let asking = match proved {
        Some(proved) => Asking::by_key((client, holder), proved),
        None => {
            let confirmation = unproved(call, &client);
            Asking::of((client, holder), confirmation)
        }
    };
    let confirmation = asking.confirmation;
    let exchanged = matches!(ask, Ask::Exchange(_));
    let issued = match ask {
        Ask::Own(wish) => Box::pin(issue(&facade.desk, call, asking, wish)).await?,
        Ask::Approved(request) => Box::pin(redeem(&facade.desk, call, asking, &request)).await?,
        Ask::Exchange(ask) => Box::pin(exchange_as(&facade.desk, call, asking, ask)).await?.issued,
    };
    let left = issued.expires.since(facade.desk.clock.now());
    Ok(private(&Answer {
        access_token: issued.token,
        token_type: token_type(&confirmation),
        // Rounded up: the token was dated by the whole second.
        expires_in: left.as_secs() + u64::from(left.subsec_nanos() > 0),
        scope: issued.scope.to_string(),
        authorization_details: details(&issued.details),
        issued_token_type: exchanged.then_some(ACCESS_TOKEN),
    }))
}

/// What is asked for.
enum Ask {
    /// A token for the client itself.
    Own(Wish),
    /// A token that a person was asked to approve: the `auth_req_id`.
    Approved(String),
    /// A token with which it acts for another.
    Exchange(Exchange),
}

/// The key of the DPoP proof, where one is shown.
async fn prove(facade: &Facade, headers: &HeaderMap) -> Result<Option<Proved>, OauthError> {
    let mut proofs = headers.get_all(DPOP).iter();
    let Some(proof) = proofs.next() else { return Ok(None) };
    // RFC 9449 section 4.3: not more than one.
    let proof = proof.to_str().ok().filter(|_| proofs.next().is_none());
    let proof = proof.ok_or_else(|| OauthError::plain("invalid_dpop_proof", "there has to be one DPoP proof"))?;
    let url = format!("{}{TOKEN}", facade.desk.issuer);
    Ok(Some(dpop::prove(&facade.desk, proof, "POST", &url).await?))
}

/// What the token of a client is bound to that showed no DPoP proof: its certificate, where it has one.
fn unproved(call: &Call, client: &Client) -> Confirmation {
    match (&client.by, &call.peer.principal) {
        (By::Certificate(_), _) => Confirmation::Certificate(call.peer.x5t_s256),
        (By::Credential(_) | By::Identity(_), Some(legate_ids::Principal::Agent { id, .. })) if *id == client.agent => {
            Confirmation::Certificate(call.peer.x5t_s256)
        }
        (By::Credential(_) | By::Identity(_), _) => Confirmation::Bearer,
    }
}
