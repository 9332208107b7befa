//! What every request goes through before its handler: span, certificate's time, body, deadline, metrics.

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use legate_clock::Clock;
use legate_mtls::Peer;
use legate_rpc::continue_trace;
use tokio::time::{Instant, timeout_at};
use tower::ServiceExt;
use tracing::Instrument;

use crate::metrics::Metrics;
use crate::{Limits, Visitor};

/// Paths that no metric names, together.
const ELSEWHERE: &str = "other";

/// What stands before the handlers of one port.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) name: &'static str,
    pub(crate) routes: Router,
    pub(crate) paths: &'static [&'static str],
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
}

impl Door {
    /// Answers one request of a peer.
    pub(crate) async fn answer(&self, peer: Arc<Peer>, request: Request<Incoming>) -> Response {
        let start = Instant::now();
        let asked = request.uri().path();
        // Of what strangers make up no metric is made.
        let path = self.paths.iter().find(|path| is_of(path, asked)).copied().unwrap_or(ELSEWHERE);
        let span = tracing::info_span!(
            "web",
            otel.name = path,
            otel.kind = "server",
            http.request.method = request.method().as_str(),
            http.route = path,
            http.response.status_code = tracing::field::Empty,
            legate.service = self.name,
            legate.peer = peer.id_text(),
        );
        let trace = continue_trace(&span, request.headers());
        let visitor = Visitor { peer, deadline: start + self.limits.request_deadline, trace: trace.clone() };
        let mut answer = trace.serving(self.serve(visitor, request)).instrument(span.clone()).await;
        answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        span.record("http.response.status_code", answer.status().as_u16());
        self.metrics.observe(self.name, path, answer.status(), start.elapsed());
        answer
    }

    async fn serve(&self, visitor: Visitor, request: Request<Incoming>) -> Response {
        if visitor.peer.not_after <= self.clock.now() {
            return refuse(StatusCode::UNAUTHORIZED, "the client certificate has expired; renew it");
        }
        if request.headers().get_all(header::AUTHORIZATION).iter().count() > 1 {
            return refuse(StatusCode::BAD_REQUEST, "the header authorization came several times; send it once");
        }
        let deadline = visitor.deadline;
        let (mut parts, body) = request.into_parts();
        let whole = Limited::new(body, self.limits.body_bytes).collect();
        let body = match timeout_at(deadline, whole).await {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(e)) if is_too_long(e.as_ref()) => {
                let why = format!("the body is larger than {} bytes", self.limits.body_bytes);
                return refuse(StatusCode::PAYLOAD_TOO_LARGE, &why);
            }
            Ok(Err(_)) => return refuse(StatusCode::BAD_REQUEST, "the body is cut short or malformed"),
            Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body was not there in time; send it at once"),
        };
        parts.extensions.insert(visitor);
        let request = Request::from_parts(parts, Body::from(body));
        match timeout_at(deadline, self.routes.clone().oneshot(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(never)) => match never {},
            Err(_) => {
                let mut late = refuse(StatusCode::SERVICE_UNAVAILABLE, "there was no answer in time; try again");
                late.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                late
            }
        }
    }
}

/// Whether a path is of this shape: a part in braces stands for any.
fn is_of(shape: &str, path: &str) -> bool {
    let (shape, path) = (shape.split('/'), path.split('/'));
    shape.clone().count() == path.clone().count()
        && shape.zip(path).all(|(shape, part)| shape == part || (shape.starts_with('{') && !part.is_empty()))
}

fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>()
}

fn refuse(code: StatusCode, why: &str) -> Response {
    tracing::info!(code = code.as_u16(), why, "refused");
    (code, [(header::CACHE_CONTROL, "no-store")], format!("{why}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::is_of;

    #[test]
    fn a_part_in_braces_stands_for_any() {
        let shape = "/ns/{namespace}/scim/v2/Agents/{id}";
        assert!(is_of(shape, "/ns/payments/scim/v2/Agents/a"));
        assert!(is_of("/oauth2/token", "/oauth2/token"));
        for other in ["/ns/payments/scim/v2/Agents", "/ns/payments/scim/v2/Agents/", "/ns/a/b/scim/v2/Agents/c", "/"] {
            assert!(!is_of(shape, other), "{other}");
        }
        assert!(!is_of("/oauth2/token", "/oauth2/revoke"));
    }
}
