//! Why a request does not pass, and how HTTP and gRPC are told so.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use legate_rpc::Code;

use crate::{Denied, Undecided};

/// When a request that could not be decided may be made again, in seconds.
const AGAIN: u64 = 1;

/// Why a request does not pass.
#[derive(Debug)]
pub(crate) enum Refusal {
    NoToken,
    /// Neither a token nor a certificate, where a certificate would do.
    NoCertificate,
    BadToken(&'static str),
    /// The DPoP proof is not there, or not for this request; what is wrong with it.
    BadProof(String),
    /// Somebody was let through by the DPoP proof before.
    Replayed,
    /// No proof more can be remembered.
    MemoryFull,
    /// The mapping does not know the request.
    Unmapped,
    Denied(Denied),
    Undecided(Undecided),
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Show a token, or another one.
    Unauthenticated,
    /// It may not.
    Forbidden,
    /// It is not known.
    Unavailable,
}

/// Denials that another token of the same agent might not meet.
pub(crate) fn is_of_the_token(reason: &str) -> bool {
    reason.starts_with("TOKEN_")
        || matches!(
            reason,
            "CREDENTIAL_REVOKED"
                | "PARENT_TOKEN_FALLEN"
                | "AUDIENCE_MISMATCH"
                | "CERTIFICATE_INVALID"
                | "CERTIFICATE_OUTLIVED"
        )
}

impl Refusal {
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::NoToken => "TOKEN_MISSING",
            Self::NoCertificate => "CERTIFICATE_MISSING",
            Self::BadToken(_) => "TOKEN_MALFORMED",
            Self::BadProof(_) => "DPOP_PROOF_INVALID",
            Self::Replayed => "DPOP_PROOF_REPLAYED",
            Self::MemoryFull => "DPOP_MEMORY_FULL",
            Self::Unmapped => "REQUEST_NOT_MAPPED",
            Self::Denied(denied) => &denied.reason,
            Self::Undecided(undecided) => &undecided.reason,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::NoToken | Self::NoCertificate | Self::BadToken(_) | Self::BadProof(_) | Self::Replayed => {
                Kind::Unauthenticated
            }
            Self::Denied(denied) if is_of_the_token(&denied.reason) => Kind::Unauthenticated,
            Self::Unmapped | Self::Denied(_) => Kind::Forbidden,
            Self::Undecided(_) | Self::MemoryFull => Kind::Unavailable,
        }
    }

    /// What the caller is told; why a policy denies is for the operators, by the decision's id.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::NoToken => "the request has no access token",
            Self::NoCertificate => "the request has no access token, and its connection no client certificate",
            Self::BadToken(why) => why,
            Self::BadProof(why) => why,
            Self::Replayed => "the DPoP proof was used before; make a new one for each request",
            Self::MemoryFull => "too many DPoP proofs came within two minutes",
            Self::Unmapped => "the server does not say what this request asks for, so nobody may make it",
            Self::Denied(_) => "policy-decision denies it",
            Self::Undecided(_) => "it could not be decided, so it is refused",
        }
    }

    fn decision_id(&self) -> &str {
        match self {
            Self::Denied(denied) => &denied.decision_id,
            _ => "",
        }
    }

    /// The answer to the request, in its own protocol; `offers_dpop`: proofs are taken, `by_dpop`: one was to be shown.
    pub(super) fn answer<R: Default>(&self, head: &Parts, offers_dpop: bool, by_dpop: bool) -> Response<R> {
        let mut answer = if is_grpc(&head.headers) { self.grpc() } else { self.http(offers_dpop, by_dpop) };
        let mut say = |name: &'static str, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                answer.headers_mut().insert(name, value);
            }
        };
        say("legate-reason", self.reason());
        if !self.decision_id().is_empty() {
            say("legate-decision-id", self.decision_id());
        }
        answer
    }

    fn http<R: Default>(&self, offers_dpop: bool, by_dpop: bool) -> Response<R> {
        let mut answer = Response::new(R::default());
        *answer.status_mut() = match self.kind() {
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        // RFC 6750 section 3: a request without credentials is told no error code. RFC 9449 section 7.1.
        let (scheme, algs) = if offers_dpop && by_dpop { ("DPoP", ", algs=\"ES256\"") } else { ("Bearer", "") };
        let error = match (self, self.kind()) {
            (_, Kind::Unavailable) | (Self::NoToken | Self::NoCertificate, _) => None,
            (Self::BadToken(_), _) => Some("invalid_request"),
            (Self::BadProof(_) | Self::Replayed, _) => Some("invalid_dpop_proof"),
            (_, Kind::Unauthenticated) => Some("invalid_token"),
            (_, Kind::Forbidden) => Some("insufficient_scope"),
        };
        let challenge = match (self, error) {
            (Self::NoToken, _) if offers_dpop => Some("Bearer, DPoP algs=\"ES256\"".to_owned()),
            (Self::NoToken, _) => Some("Bearer".to_owned()),
            (_, error) => error.map(|error| format!("{scheme} error=\"{error}\"{algs}")),
        };
        let headers = answer.headers_mut();
        match challenge.map(|text| HeaderValue::from_str(&text)) {
            Some(Ok(challenge)) => drop(headers.insert(header::WWW_AUTHENTICATE, challenge)),
            _ => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from(AGAIN))),
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    fn grpc<R: Default>(&self) -> Response<R> {
        let (code, again) = match self.kind() {
            Kind::Unauthenticated => (Code::Unauthenticated, None),
            Kind::Forbidden => (Code::PermissionDenied, None),
            Kind::Unavailable => (Code::Unavailable, Some(std::time::Duration::from_secs(AGAIN))),
        };
        legate_rpc::passed_on(code, self.reason(), self.text(), again).into_http()
    }
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind == "application/grpc" || kind.starts_with("application/grpc+"))
}
