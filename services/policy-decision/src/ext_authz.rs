//! Envoy's external authorization (envoy.service.auth.v3): a request that Envoy holds becomes one question, by the table of routes.
//!
//! Who the agent is comes from what is verified here: its access token in the `authorization` header, or the certificate that it
//! showed to Envoy. No other header and no principal that Envoy names is believed. What is not understood is denied, and not
//! with an error of gRPC, which an Envoy with `failure_mode_allow` would let go on.

mod closed;

use std::sync::Arc;

use legate_ids::Principal;
use legate_mtls::{Trust, pki};
use legate_rpc::{Code, Fault, Permit};
use legate_web::json::{Names, object};
use legate_wire::envoy as wire;
use legate_wire::envoy::authorization_server::Authorization;
use legate_wire::envoy::check_response::HttpResponse;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde_json::json;
use tonic::{Request, Response, Status};

use crate::convert::{Ask, Subject};
use crate::domain::answer::{Denial, Why};
use crate::domain::route::{self, Body, Path, Route};
use crate::error::{HTTP_REQUEST_INVALID, ROUTE_UNKNOWN, SUBJECT_MISSING};
use crate::flow::{self, Asker, Desk, Spoken};
pub(crate) use closed::Closed;

/// The most bytes of a token, and of a chain of certificates.
const MAX_TOKEN: usize = 8 << 10;
const MAX_CERTIFICATE: usize = 64 << 10;
/// The most bytes of a body from which something is taken.
const MAX_BODY: usize = 64 << 10;
/// What Envoy says of a body: whether it is only the beginning.
const PARTIAL: &str = "x-envoy-auth-partial-body";
/// The most of a request's id that is recorded.
const MAX_CORRELATION: usize = 128;

/// What the upstream is told. A request that comes with one of these loses it.
const DECISION: &str = "x-legate-decision-id";
const AGENT: &str = "x-legate-agent";
const SUBJECT: &str = "x-legate-subject";

/// The face that Envoy sees.
#[derive(Clone, Debug)]
pub(crate) struct Envoy {
    pub(crate) desk: Arc<Desk>,
    pub(crate) trust: Trust,
    pub(crate) routes: Arc<[Route]>,
    /// Headers that no request takes to its upstream, in lower case.
    pub(crate) removed: Arc<[String]>,
}

#[tonic::async_trait]
impl Authorization for Envoy {
    async fn check(&self, request: Request<wire::CheckRequest>) -> Result<Response<wire::CheckResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let answer = match self.decide(&asker, &request.into_inner()).await {
            Ok((spoken, is_by_token)) => self.told(&spoken, is_by_token),
            Err(fault) => {
                self.desk.metrics.unasked(fault.reason());
                refused(fault)
            }
        };
        Ok(Response::new(answer))
    }
}

impl Envoy {
    /// The decision, and whether it is about the holder of a token.
    async fn decide(&self, asker: &Asker, from: &wire::CheckRequest) -> Result<(Spoken, bool), Fault> {
        let attributes = from.attributes.as_ref();
        let http = attributes.and_then(|all| all.request.as_ref()).and_then(|request| request.http.as_ref());
        let http = http.ok_or_else(|| Fault::refused(&HTTP_REQUEST_INVALID, "there is no HTTP request in it"))?;
        let path = Path::read(&http.path).map_err(|e| Fault::refused(&HTTP_REQUEST_INVALID, e.to_string()))?;
        let unknown = || Fault::refused(&ROUTE_UNKNOWN, "no route of the configuration is for this method and path");
        let headers: Vec<(&str, &[u8])> = headers(http).collect();
        let body = body(http, &headers);
        let stated = route::Stated { target: &http.path, headers: &headers, body: &body };
        let unclear = |e: route::Unclear| Fault::refused(&HTTP_REQUEST_INVALID, e.to_string());
        let question = route::find(&self.routes, &http.method, &path, &stated).map_err(unclear)?.ok_or_else(unknown)?;
        let shown = attributes.and_then(|all| all.source.as_ref()).map_or("", |source| source.certificate.as_str());
        let token = bearer(http)?;
        let is_by_token = token.is_some();
        // Whether they are good is judged by the state of the registry that decides, and by no other.
        let (subject, presenter) = match (token, shown) {
            (Some(token), "") => (Subject::Token(token), None),
            (Some(token), shown) => (Subject::Token(token), Some(self.presenter(&pem(shown)?)?)),
            (None, "") => {
                return Err(Fault::refused(&SUBJECT_MISSING, "there is no bearer token and no client certificate"));
            }
            // That it was shown to Envoy is Envoy's word, so this needs the right to assert.
            (None, shown) => {
                let chain = pki::certificates(&pem(shown)?).map_err(bad_certificate)?;
                (Subject::Certificate(chain.iter().flat_map(|one| one.to_vec()).collect()), None)
            }
        };
        let ask = Ask {
            subject,
            presenter,
            presenter_key: None,
            on_behalf_of: None,
            question,
            at_least_revision: 0,
            max_staleness: None,
            correlation_id: http
                .id
                .chars()
                .filter(|c| !c.is_control())
                .filter(char::is_ascii)
                .take(MAX_CORRELATION)
                .collect(),
        };
        let mut all = flow::evaluate(&self.desk, asker, std::slice::from_ref(&ask)).await?;
        let spoken = all.pop().ok_or_else(|| Fault::broken("a question without an answer"))?;
        Ok((spoken, is_by_token))
    }

    /// SHA-256 of the certificate that was shown to Envoy beside a token, where it is an agent's, by the workloads' CA.
    fn presenter(&self, pem: &str) -> Result<[u8; 32], Fault> {
        let now = self.desk.clock.now();
        let peer = self.trust.shown_to_another(pem, now).map_err(bad_certificate)?;
        match &peer.principal {
            Some(Principal::Agent { .. }) => Ok(peer.x5t_s256),
            _ => Err(bad_certificate("is not an agent's")),
        }
    }

    fn told(&self, spoken: &Spoken, is_by_token: bool) -> wire::CheckResponse {
        let (id, word) = (spoken.id.to_string(), spoken.answer.word());
        let agent = spoken.agent.as_ref().map(|agent| agent.id.to_string());
        let texts = [("decision_id", Some(id.clone())), ("reason", Some(word.to_owned())), ("agent_id", agent.clone())];
        let mut fields: std::collections::BTreeMap<String, Value> = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), Value { kind: Some(Kind::StringValue(text?)) })))
            .collect();
        // As text: a double does not hold every revision.
        fields.insert("revision".into(), Value { kind: Some(Kind::StringValue(spoken.revision.to_string())) });
        let metadata = Some(Struct { fields });
        let (Some(agent), None) = (agent, spoken.answer.denied) else {
            let (code, status, challenge) = match spoken.answer.denied {
                Some(why) => kind(why, is_by_token),
                None => (Code::PermissionDenied, 403, false),
            };
            return wire::CheckResponse {
                dynamic_metadata: metadata,
                ..denied(code, status, challenge, word, Some(&id))
            };
        };
        let mut headers = vec![put(DECISION, &id), put(AGENT, &agent)];
        let mut removed: Vec<String> = self.removed.to_vec();
        // Grammar of names of people allows what no header may hold.
        match spoken.known.acts_for.as_deref().map(|acts_for| acts_for.subject.as_str()) {
            Some(subject) if subject.bytes().all(|b| b.is_ascii_graphic()) => headers.push(put(SUBJECT, subject)),
            _ => removed.push(SUBJECT.to_owned()),
        }
        wire::CheckResponse {
            status: Some(wire::Status { code: Code::Ok as i32, message: String::new() }),
            http_response: Some(HttpResponse::OkResponse(wire::OkHttpResponse { headers, headers_to_remove: removed })),
            dynamic_metadata: metadata,
        }
    }
}

fn bad_certificate(why: impl std::fmt::Display) -> Fault {
    Fault::refused(&HTTP_REQUEST_INVALID, format!("the client certificate: {why}"))
}

/// The certificates that were shown to Envoy, as it passes them on.
fn pem(shown: &str) -> Result<String, Fault> {
    if shown.len() > MAX_CERTIFICATE {
        return Err(bad_certificate(format!("is longer than {MAX_CERTIFICATE} bytes")));
    }
    // A plus is part of base64, and stands for itself in what Envoy escapes.
    let pem = legate_web::decode(&shown.replace('+', "%2B")).map(|pem| pem.to_string());
    pem.ok_or_else(|| bad_certificate("is not percent-encoded PEM"))
}

/// The headers of a request, in whichever way Envoy tells them.
fn headers(http: &wire::attribute_context::HttpRequest) -> impl Iterator<Item = (&str, &[u8])> {
    let mapped = http.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let raw = http.header_map.iter().flat_map(|map| &map.headers);
    mapped.chain(raw.map(|one| {
        (one.key.as_str(), if one.value.is_empty() { one.raw_value.as_slice() } else { one.value.as_bytes() })
    }))
}

/// The body of a request, where Envoy passed it on as a whole and it is a JSON object that every reader reads alike.
fn body(http: &wire::attribute_context::HttpRequest, headers: &[(&str, &[u8])]) -> Body {
    let of = |wanted: &str| -> Vec<&[u8]> {
        headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value).collect()
    };
    // Envoy says so of each body that it passes on, and takes away what a client says of it.
    match of(PARTIAL)[..] {
        [] => return Body::Absent,
        [b"false"] => {}
        _ => return Body::Unclear("came only in part; raise max_request_bytes, or send less"),
    }
    let bytes = http.raw_body.as_slice();
    if bytes.len() > MAX_BODY {
        return Body::Unclear("is longer than 64 KiB");
    }
    let is_json = |kind: &[u8]| {
        let mut parts = std::str::from_utf8(kind).unwrap_or_default().split(';').map(str::trim);
        let kind = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
        kind && parts.all(|part| part.eq_ignore_ascii_case("charset=utf-8"))
    };
    match of("content-type")[..] {
        [kind] if is_json(kind) => {}
        _ => return Body::Unclear("is not of the type application/json"),
    }
    if !of("content-encoding").is_empty() {
        return Body::Unclear("is packed (content-encoding)");
    }
    if of("content-length").iter().any(|length| *length != bytes.len().to_string().as_bytes()) {
        return Body::Unclear("is not as long as content-length says");
    }
    match object(bytes, Names::InAnyCase) {
        Ok(object) => Body::Object(object),
        Err(_) => Body::Unclear("is no JSON object, or has a name twice"),
    }
}

/// The bearer token of a request. A header that came twice is joined by Envoy with a comma, which no token has.
fn bearer(http: &wire::attribute_context::HttpRequest) -> Result<Option<String>, Fault> {
    let bad = |why: &str| Err(Fault::refused(&HTTP_REQUEST_INVALID, format!("the header authorization: {why}")));
    let mut all = headers(http).filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let Some((_, value)) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return bad("came several times");
    }
    let Some((scheme, token)) = std::str::from_utf8(value).ok().and_then(|text| text.split_once(' ')) else {
        return bad("is not `Bearer TOKEN`");
    };
    // RFC 6750 section 2.1.
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || !token.bytes().all(is_token) {
        return bad("is not `Bearer TOKEN`, or came several times");
    }
    if token.len() > MAX_TOKEN {
        return bad("is longer than 8 KiB");
    }
    Ok(Some(token.to_owned()))
}

/// How a denial is told: the code of gRPC, the status of HTTP, and whether another token may help (RFC 6750 section 3.1).
fn kind(why: Why, is_by_token: bool) -> (Code, i32, bool) {
    match (why.kind(), why) {
        (Denial::Undecided, _) => (Code::Unavailable, 503, false),
        (
            _,
            Why::TokenInvalid
            | Why::TokenExpired
            | Why::TokenOutlived
            | Why::TokenAudience
            | Why::TokenBinding
            | Why::CredentialRevoked
            | Why::ParentTokenFallen,
        ) if is_by_token => (Code::Unauthenticated, 401, true),
        _ => (Code::PermissionDenied, 403, false),
    }
}

/// What was not decided about.
fn refused(fault: Fault) -> wire::CheckResponse {
    let reason = fault.reason();
    let code = match &fault {
        Fault::Refused(refusal) => refusal.reason.code,
        Fault::Unavailable(_) => Code::Unavailable,
        Fault::Broken(_) => Code::Internal,
    };
    // What is broken is traced where a status is made of it.
    let status = Status::from(fault);
    tracing::info!(reason, why = status.message(), "a request is denied without a decision");
    match code {
        Code::Unauthenticated => denied(Code::Unauthenticated, 401, true, reason, None),
        Code::InvalidArgument | Code::PermissionDenied | Code::FailedPrecondition | Code::NotFound => {
            denied(Code::PermissionDenied, 403, false, reason, None)
        }
        _ => denied(Code::Unavailable, 503, false, reason, None),
    }
}

/// The client learns the reason and nothing of what lies behind it.
fn denied(code: Code, status: i32, challenge: bool, reason: &str, decision: Option<&str>) -> wire::CheckResponse {
    let mut headers = vec![put("content-type", "application/json"), put("cache-control", "no-store")];
    headers.extend(decision.map(|id| put(DECISION, id)));
    if challenge {
        let has_token = decision.is_some();
        headers.push(put("www-authenticate", if has_token { r#"Bearer error="invalid_token""# } else { "Bearer" }));
    }
    let body = json!({ "error": "denied", "reason": reason, "decision_id": decision });
    let response =
        wire::DeniedHttpResponse { status: Some(wire::HttpStatus { code: status }), headers, body: body.to_string() };
    wire::CheckResponse {
        status: Some(wire::Status { code: code as i32, message: reason.to_owned() }),
        http_response: Some(HttpResponse::DeniedResponse(response)),
        dynamic_metadata: None,
    }
}

/// A header that takes the place of one that is there.
fn put(key: &str, value: &str) -> wire::HeaderValueOption {
    let header = wire::HeaderValue { key: key.to_owned(), value: value.to_owned(), raw_value: Vec::new() };
    wire::HeaderValueOption { header: Some(header), append: Some(false) }
}

#[cfg(test)]
mod tests;
