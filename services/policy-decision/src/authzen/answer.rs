//! Answers in AuthZEN's words: JSON for what was decided, and for a call that fails a message as plain text (section 10.1.6).

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use legate_rpc::{Code, Fault, Refusal};
use serde_json::Value;

/// The stable reason of a call that failed, for programs.
const REASON: HeaderName = HeaderName::from_static("legate-reason");

/// A call that fails, as it is told.
#[derive(Debug)]
pub(super) struct AuthzenError {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
    /// What, why, and what to do.
    pub(super) text: String,
    retry_after: Option<u64>,
}

/// A JSON answer that nobody keeps.
pub(super) fn json(body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (StatusCode::OK, headers, body.to_string()).into_response()
}

impl AuthzenError {
    /// A fault under a status that its code does not tell.
    pub(super) fn at(status: StatusCode, fault: Fault) -> Self {
        Self { status, ..Self::from(fault) }
    }

    fn of_refusal(refusal: &Refusal) -> Self {
        let status = match refusal.reason.code {
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self {
            status,
            reason: refusal.reason.name,
            text: format!("{}: {}. {}", refusal.reason.name, refusal.message, refusal.reason.cure),
            retry_after: refusal.retry_after.map(|wait| wait.as_secs().max(1)),
        }
    }
}

impl From<Fault> for AuthzenError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refusal) | Fault::Unavailable(refusal) => Self::of_refusal(&refusal),
            Fault::Broken(_) => {
                // What is broken is traced, and told by its incident only: as everywhere.
                let status = tonic::Status::from(fault);
                Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    reason: legate_rpc::INTERNAL.name,
                    text: format!("{}: {}", legate_rpc::INTERNAL.name, status.message()),
                    retry_after: None,
                }
            }
        }
    }
}

impl IntoResponse for AuthzenError {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (REASON, HeaderValue::from_static(self.reason)),
        ];
        let mut answer = (self.status, headers, self.text).into_response();
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        answer
    }
}
