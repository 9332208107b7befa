//! Who asks: the one way of client authentication that a request uses, and what comes of it.

use axum::http::{HeaderMap, header};
use legate_ids::Principal;
use legate_rpc::{Fault, Standing as _};
use zeroize::Zeroizing;

use super::Facade;
use super::answer::OauthError;
use super::form::{self, Form};
use crate::domain::holder::Holder;
use crate::error::IDENTITY_TOKEN_UNMATCHED;
use crate::flow::authenticate::{Asker, Client, Shown, Use, authenticate};
use crate::flow::{Call, assertion};

/// RFC 7523 section 2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl Facade {
    /// The client of a request, where it proves who it is in exactly one way. An assertion is used up by that.
    pub(super) async fn client(
        &self,
        call: &Call,
        headers: &HeaderMap,
        form: &Form,
        path: &'static str,
    ) -> Result<(Client, Holder), OauthError> {
        self.client_that(Use::AtOnce, call, headers, form, path).await
    }

    /// The same, where an assertion is used up as `when` says.
    pub(super) async fn client_that(
        &self,
        when: Use,
        call: &Call,
        headers: &HeaderMap,
        form: &Form,
        path: &'static str,
    ) -> Result<(Client, Holder), OauthError> {
        let shown = shown(call, headers, form)?;
        let from = call.peer.addr.ip();
        let named = shown.client();
        // Whoever shows a certificate, or nothing, is known by the connection: nothing is looked up for a guess.
        let turn = match shown {
            Shown::Certificate { .. } => None,
            Shown::Secret { .. } | Shown::Assertion { .. } => Some(self.attempts.turn(from).await),
        };
        let authenticated = Box::pin(self.authenticate(call, shown, when)).await;
        drop(turn);
        authenticated.map_err(|fault| {
            self.note_failure(call, path, &fault);
            let error = OauthError::from(fault);
            if named.is_empty() || headers.contains_key(header::AUTHORIZATION) {
                error
            } else {
                error.without_challenge()
            }
        })
    }

    /// The agent for whom a token of an issuer outside stands, where one does.
    pub(super) async fn believed(
        &self,
        call: &Call,
        namespace: &str,
        assertion: &str,
        path: &'static str,
    ) -> Result<(Client, Holder), OauthError> {
        let turn = self.attempts.turn(call.peer.addr.ip()).await;
        let believed = async {
            self.check_peer(call).await?;
            assertion::believe(&self.desk, call, namespace, assertion).await
        };
        let believed = Box::pin(believed).await;
        drop(turn);
        believed.map_err(|fault| {
            self.note_failure(call, path, &fault);
            fault.into()
        })
    }

    /// The agent of an assertion that is a grant, where the request's own credentials, if it shows any, are that agent's.
    ///
    /// RFC 7523 section 3.1: if client credentials are present in the request, they are validated.
    pub(super) async fn believed_client(
        &self,
        call: &Call,
        headers: &HeaderMap,
        form: &Form,
        path: &'static str,
    ) -> Result<(Client, Holder), OauthError> {
        let missing = |name: &str| OauthError::request(format!("{name} is missing"));
        let assertion = form.get("assertion").ok_or_else(|| missing("assertion"))?;
        let namespace = form.get("namespace").ok_or_else(|| missing("namespace, whose TrustedIssuer vouches,"))?;
        let named = if shows_credentials(headers, form) {
            let (client, _) = Box::pin(self.client(call, headers, form, path)).await?;
            Some(client.agent.to_string())
        } else {
            form.get("client_id").map(ToOwned::to_owned)
        };
        let (client, holder) = self.believed(call, namespace, assertion, path).await?;
        if named.is_some_and(|named| named != client.agent.as_str()) {
            let text = "the assertion stands for another agent than the client of the request";
            let fault = Fault::refused(&IDENTITY_TOKEN_UNMATCHED, text);
            self.desk.metrics.refused("assertion", fault.reason());
            self.note_failure(call, path, &fault);
            return Err(fault.into());
        }
        Ok((client, holder))
    }

    /// Somebody did not prove who he is; a flood of them becomes a few lines of the audit log.
    fn note_failure(&self, call: &Call, path: &'static str, fault: &Fault) {
        if matches!(fault, Fault::Refused(_)) {
            self.attempts.note(call.peer.addr.ip());
            self.refusals.note(&call.peer, path, fault);
        }
    }

    async fn authenticate(&self, call: &Call, shown: Shown, when: Use) -> Result<(Client, Holder), Fault> {
        self.check_peer(call).await?;
        authenticate(&self.desk, call, shown, when).await
    }

    /// Whoever shows a certificate is in good standing, also where he proves himself by something else.
    async fn check_peer(&self, call: &Call) -> Result<(), Fault> {
        match call.peer.spiffe_id {
            Some(_) => self.standing.check(&call.peer).await,
            None => Ok(()),
        }
    }

    /// Who asks about a token: a client, or an enforcement point or operator by its certificate alone.
    pub(super) async fn asker(
        &self,
        call: &Call,
        headers: &HeaderMap,
        form: &Form,
        path: &'static str,
    ) -> Result<Asker, OauthError> {
        let is_peer = matches!(call.peer.principal, Some(Principal::Enforcer { .. } | Principal::Operator(_)));
        let shows_nothing_else = !shows_credentials(headers, form) && form.get("client_id").is_none();
        if is_peer && shows_nothing_else {
            self.standing.check(&call.peer).await?;
            return Ok(Asker::Peer);
        }
        let (client, holder) = Box::pin(self.client(call, headers, form, path)).await?;
        Ok(Asker::Agent { namespace: holder.namespace, agent: client.agent })
    }
}

/// Whether the request has something that is to prove its client, beside the connection's certificate.
fn shows_credentials(headers: &HeaderMap, form: &Form) -> bool {
    headers.contains_key(header::AUTHORIZATION) || form.get("client_secret").is_some() || is_assertion(form)
}

fn is_assertion(form: &Form) -> bool {
    form.get("client_assertion").is_some() || form.get("client_assertion_type").is_some()
}

/// What a request shows. RFC 6749 section 2.3: one method and no more in each request.
fn shown(call: &Call, headers: &HeaderMap, form: &Form) -> Result<Shown, OauthError> {
    let basic = headers.get(header::AUTHORIZATION);
    let client = form.get("client_id").map(ToOwned::to_owned);
    let secret = form.get("client_secret");
    let ways = [basic.is_some(), secret.is_some(), is_assertion(form)];
    if ways.iter().filter(|way| **way).count() > 1 {
        return Err(OauthError::request("the request authenticates the client in several ways; use one"));
    }
    if let Some(basic) = basic {
        let (named, secret) = form::basic(basic)?;
        if client.is_some_and(|client| client != named) {
            return Err(OauthError::request("client_id is another than that of the authorization header"));
        }
        return Ok(Shown::Secret { client: named, secret });
    }
    if let Some(secret) = secret {
        let client = client.ok_or_else(|| OauthError::request("client_id is missing beside client_secret"))?;
        return Ok(Shown::Secret { client, secret: Zeroizing::new(secret.to_owned()) });
    }
    if is_assertion(form) {
        if form.get("client_assertion_type") != Some(JWT_BEARER) {
            return Err(OauthError::request(format!("client_assertion_type has to be {JWT_BEARER}")));
        }
        let assertion = form.get("client_assertion");
        let assertion = assertion.ok_or_else(|| OauthError::request("client_assertion is missing"))?;
        return Ok(Shown::Assertion { client, assertion: Zeroizing::new(assertion.to_owned()) });
    }
    // RFC 8705 section 2: the client is named, and the certificate of the connection proves it.
    match (client, &call.peer.principal) {
        (Some(client), _) => Ok(Shown::Certificate { client }),
        (None, Some(Principal::Agent { id, .. })) => Ok(Shown::Certificate { client: id.to_string() }),
        (None, _) => Ok(Shown::Certificate { client: String::new() }),
    }
}
