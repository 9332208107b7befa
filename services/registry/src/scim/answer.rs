//! Answers in SCIM's words: `application/scim+json`, and errors by RFC 7644 section 3.12 with the stable reason beside them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use legate_rpc::{Code, Fault, Refusal};
use serde_json::{Map, Value, json};

use super::attribute;

const ERROR: &str = "urn:ietf:params:scim:api:messages:2.0:Error";
/// Under this key a fault carries its `scimType`.
const SCIM_TYPE: &str = "scim_type";

/// An error, as it is sent.
#[derive(Debug)]
pub(super) struct ScimError {
    status: StatusCode,
    kind: Option<String>,
    detail: String,
    reason: &'static str,
    retry_after: Option<u64>,
}

/// A refusal of the request's form, under a `scimType` of RFC 7644 section 3.12.
pub(super) fn refused(kind: &'static str, field: &str, why: impl Into<String>) -> Fault {
    Fault::invalid(field, why).with(SCIM_TYPE, kind)
}

/// A JSON answer.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/scim+json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body.to_string()).into_response()
}

impl ScimError {
    /// A fault under a status that its code does not tell.
    pub(super) fn at(status: StatusCode, fault: Fault) -> Self {
        Self { status, ..Self::from(fault) }
    }

    fn of_refusal(refusal: &Refusal) -> Self {
        let (status, kind) = told(refusal);
        let kind = refusal.metadata.iter().find(|(key, _)| key == SCIM_TYPE).map(|(_, kind)| kind.as_str()).or(kind);
        // Here there is no other place for all that is wrong.
        let what = match refusal.fields.as_slice() {
            [] | [_] => refusal.message.clone(),
            many => many.iter().map(|(path, why)| format!("{path}: {why}")).collect::<Vec<_>>().join("; "),
        };
        Self {
            status,
            kind: kind.map(str::to_owned),
            detail: attribute::in_scim(&format!("{what}. {}", refusal.reason.cure)),
            reason: refusal.reason.name,
            retry_after: refusal.retry_after.map(|wait| wait.as_secs().max(1)),
        }
    }
}

/// The status of a refusal and its `scimType`, where there is one for it.
fn told(refusal: &Refusal) -> (StatusCode, Option<&'static str>) {
    match (refusal.reason.name, refusal.reason.code) {
        ("AGENT_EXISTS", _) => (StatusCode::CONFLICT, Some("uniqueness")),
        ("ETAG_MISMATCH", _) => (StatusCode::PRECONDITION_FAILED, None),
        ("FILTER_INVALID", _) => (StatusCode::BAD_REQUEST, Some("invalidFilter")),
        ("PAGE_TOKEN_INVALID", _) => (StatusCode::BAD_REQUEST, Some("invalidCursor")),
        ("REFERENCE_MISSING" | "PERSON_DEPARTED", _) => (StatusCode::BAD_REQUEST, Some("invalidValue")),
        ("OVERLOADED", _) => (StatusCode::TOO_MANY_REQUESTS, None),
        (_, Code::InvalidArgument | Code::OutOfRange) => (StatusCode::BAD_REQUEST, Some("invalidValue")),
        (_, Code::Unauthenticated) => (StatusCode::UNAUTHORIZED, None),
        (_, Code::PermissionDenied) => (StatusCode::FORBIDDEN, None),
        (_, Code::NotFound) => (StatusCode::NOT_FOUND, None),
        (_, Code::Unavailable | Code::DeadlineExceeded) => (StatusCode::SERVICE_UNAVAILABLE, None),
        // What stands in the way is in the registry, not in the request.
        _ => (StatusCode::CONFLICT, None),
    }
}

impl From<Fault> for ScimError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refusal) | Fault::Unavailable(refusal) => Self::of_refusal(&refusal),
            Fault::Broken(_) => {
                // What is broken is traced, and told by its incident only: as everywhere.
                let status = tonic::Status::from(fault);
                Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    kind: None,
                    detail: status.message().to_owned(),
                    reason: legate_rpc::INTERNAL.name,
                    retry_after: None,
                }
            }
        }
    }
}

impl IntoResponse for ScimError {
    fn into_response(self) -> Response {
        let mut body = Map::new();
        body.insert("schemas".into(), json!([ERROR]));
        // RFC 7644 section 3.12: a text.
        body.insert("status".into(), self.status.as_str().into());
        body.extend(self.kind.map(|kind| ("scimType".to_owned(), kind.into())));
        body.insert("detail".into(), self.detail.into());
        body.insert("reason".into(), self.reason.into());
        let mut answer = answer(self.status, &body.into());
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        answer
    }
}
