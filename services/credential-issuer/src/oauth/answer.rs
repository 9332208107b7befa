//! Answers in OAuth's words: JSON that nobody keeps, and errors by RFC 6749 section 5.2 with the stable reason beside them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use legate_rpc::{Code, Fault, Refusal};
use serde::Serialize;

use super::form::BadForm;

/// An error, as it is sent.
#[derive(Debug)]
pub(super) struct OauthError {
    status: StatusCode,
    error: &'static str,
    description: String,
    reason: &'static str,
    retry_after: Option<u64>,
    /// Whether a 401 names the scheme of HTTP by which a client can prove itself.
    challenges: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    error_description: &'a str,
    reason: &'a str,
}

/// A JSON answer that is kept nowhere.
pub(super) fn private(body: &impl Serialize) -> Response {
    json(StatusCode::OK, body, HeaderValue::from_static("no-store"))
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize, kept: HeaderValue) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => raw(status, bytes, kept),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// JSON that is text already.
pub(super) fn raw(status: StatusCode, body: impl Into<axum::body::Body>, kept: HeaderValue) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, kept),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
    ];
    (status, headers, body.into()).into_response()
}

impl OauthError {
    /// An error of the request's form.
    pub(super) fn request(description: impl Into<String>) -> Self {
        Self::plain("invalid_request", description)
    }

    /// An error with a code of OAuth's.
    pub(super) fn plain(error: &'static str, description: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description: description.into(),
            reason: legate_rpc::INVALID_ARGUMENT.name,
            retry_after: None,
            challenges: true,
        }
    }

    /// The stable reason.
    pub(super) fn reason(&self) -> &'static str {
        self.reason
    }

    fn of_refusal(refusal: &Refusal) -> Self {
        let name = refusal.reason.name;
        let (status, error) = match name {
            "CLIENT_REFUSED" | "HOLDER_NOT_ACTIVE" | "CREDENTIAL_NOT_GOOD" => {
                (StatusCode::UNAUTHORIZED, "invalid_client")
            }
            "CREDENTIAL_METHOD_REFUSED" => (StatusCode::BAD_REQUEST, "unauthorized_client"),
            "DPOP_NONCE_NEEDED" => (StatusCode::BAD_REQUEST, "use_dpop_nonce"),
            "DPOP_PROOF_REFUSED" => (StatusCode::BAD_REQUEST, "invalid_dpop_proof"),
            "INVALID_TARGET" => (StatusCode::BAD_REQUEST, "invalid_target"),
            "INVALID_SCOPE" => (StatusCode::BAD_REQUEST, "invalid_scope"),
            "AUTHORIZATION_DETAILS_REFUSED" => (StatusCode::BAD_REQUEST, "invalid_authorization_details"),
            "SUBJECT_TOKEN_INVALID"
            | "SUBJECT_TOKEN_FALLEN"
            | "SUBJECT_TOKEN_NOT_ADDRESSED"
            | "ACTOR_TOKEN_INVALID"
            | "GRANT_MISSING"
            | "EXCHANGE_CYCLE"
            | "CHAIN_ENDS_HERE"
            | "IDENTITY_TOKEN_REFUSED"
            | "IDENTITY_TOKEN_UNMATCHED"
            | "IDENTITY_TOKEN_SPENT"
            | "ISSUER_NOT_TRUSTED" => (StatusCode::BAD_REQUEST, "invalid_grant"),
            "STATUS_LIST_NOT_FOUND" => (StatusCode::NOT_FOUND, "invalid_request"),
            // OpenID CIBA Core 1.0 section 11.
            "AUTHORIZATION_PENDING" => (StatusCode::BAD_REQUEST, "authorization_pending"),
            "SLOW_DOWN" => (StatusCode::BAD_REQUEST, "slow_down"),
            "APPROVAL_DENIED" => (StatusCode::BAD_REQUEST, "access_denied"),
            "APPROVAL_EXPIRED" => (StatusCode::BAD_REQUEST, "expired_token"),
            "AUTH_REQ_UNKNOWN" => (StatusCode::BAD_REQUEST, "invalid_grant"),
            "APPROVAL_REQUIRED" | "APPROVAL_NOT_NEEDED" => (StatusCode::BAD_REQUEST, "invalid_scope"),
            "TOO_MANY_APPROVALS" => (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable"),
            "GRANT_TOO_NARROW" => (StatusCode::BAD_REQUEST, "invalid_scope"),
            "TOKEN_NOT_YOURS" | "ISSUANCE_DENIED" => (StatusCode::BAD_REQUEST, "unauthorized_client"),
            // The standing of the certificate that the connection shows.
            name if name.starts_with("CALLER_") && refusal.reason.code != Code::Unavailable => {
                (StatusCode::UNAUTHORIZED, "invalid_client")
            }
            _ => match refusal.reason.code {
                Code::Unavailable | Code::ResourceExhausted => {
                    (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
                }
                Code::PermissionDenied | Code::NotFound => (StatusCode::BAD_REQUEST, "invalid_grant"),
                _ => (StatusCode::BAD_REQUEST, "invalid_request"),
            },
        };
        Self {
            status,
            error,
            description: format!("{}. {}", refusal.message, refusal.reason.cure),
            reason: name,
            retry_after: refusal.retry_after.map(|wait| wait.as_secs().max(1)),
            challenges: true,
        }
    }

    /// The client proved itself otherwise than by the authorization header. Some libraries tell their users of a challenge and
    /// not of the error beside it; RFC 6749 section 5.2 demands one only of whom the header came from.
    pub(super) fn without_challenge(self) -> Self {
        Self { challenges: false, ..self }
    }
}

impl From<Fault> for OauthError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refusal) | Fault::Unavailable(refusal) => Self::of_refusal(&refusal),
            Fault::Broken(_) => {
                // What is broken is traced, and told by its incident only: as everywhere.
                let status = tonic::Status::from(fault);
                Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    error: "server_error",
                    reason: legate_rpc::INTERNAL.name,
                    ..Self::request(status.message().to_owned())
                }
            }
        }
    }
}

impl From<BadForm> for OauthError {
    fn from(e: BadForm) -> Self {
        Self::request(e.to_string())
    }
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        // RFC 6749 section 5.2: neither quotes nor backslashes, ASCII only.
        let legible = |c: char| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\') { c } else { '\'' };
        let description: String = self.description.chars().map(legible).collect();
        let body = Body { error: self.error, error_description: &description, reason: self.reason };
        let mut answer = json(self.status, &body, HeaderValue::from_static("no-store"));
        let headers = answer.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED && self.challenges {
            headers
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="legate", charset="UTF-8""#));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        answer
    }
}
