//! OpenTelemetry's protocol over HTTP, in protobufs or JSON, to clients that show a certificate: the same journeys as over gRPC.

use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use legate_boot::Context;
use legate_mtls::Listener;
use legate_rpc::{ACCESS_DENIED, Code, Fault, Refusals, UNAUTHENTICATED};
use legate_web::{Visitor, Web};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tonic::Status;

use crate::access::INTAKE;
use crate::convert::otlp::{self, LARGEST};
use crate::flow::Call;
use crate::flow::otlp::{Ask, Told, tell};
use crate::seat::Seat;

/// The rows of the access table that speak for the paths, too.
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// How a client speaks, and is answered (OTLP 1.x, "OTLP/HTTP Request").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

impl Form {
    /// The form that the headers name; `None`: one that is not spoken here.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = text(headers, header::CONTENT_TYPE).unwrap_or_default();
        match kind.split(';').next().map(str::trim) {
            Some(PROTOBUF) => Some(Self::Protobuf),
            Some(JSON) => Some(Self::Json),
            _ => None,
        }
    }

    fn headers(self) -> [(header::HeaderName, HeaderValue); 2] {
        let kind = match self {
            Self::Protobuf => PROTOBUF,
            Self::Json => JSON,
        };
        [
            (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ]
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?").trim().to_ascii_lowercase())
}

/// What the handlers have.
#[derive(Clone, Debug)]
struct Door {
    seat: Seat,
    refusals: Arc<Refusals>,
}

/// Serves on a listener that asks for certificates.
pub(crate) fn serve(listener: Listener, seat: Seat, ctx: &Context) -> io::Result<Web> {
    let door = Door { seat, refusals: Arc::clone(&ctx.refusals) };
    let service = legate_web::Service {
        name: crate::NAME,
        routes: Router::new().route("/v1/traces", post(traces)).route("/v1/logs", post(logs)).with_state(door),
        paths: &["/v1/traces", "/v1/logs"],
        limits: legate_web::Limits {
            body_bytes: LARGEST,
            // As long as exporters wait by default.
            request_deadline: Duration::from_secs(10),
            ..legate_web::Limits::default()
        },
        clock: Arc::clone(&ctx.clock),
        metrics: Arc::clone(&ctx.metrics),
    };
    legate_web::serve(service, listener)
}

async fn traces(State(door): State<Door>, visitor: Visitor, headers: HeaderMap, body: Body) -> Response {
    let form = Form::of(&headers).unwrap_or(Form::Protobuf);
    let read = |body: Bytes| otlp::spans(decode(form, &body)?);
    match answer(&door, &visitor, TRACES, (&headers, body), read).await {
        Ok(told) => good(form, &ExportTraceServiceResponse::from(told)),
        Err(no) => no.answer(form),
    }
}

async fn logs(State(door): State<Door>, visitor: Visitor, headers: HeaderMap, body: Body) -> Response {
    let form = Form::of(&headers).unwrap_or(Form::Protobuf);
    let read = |body: Bytes| otlp::logs(decode(form, &body)?);
    match answer(&door, &visitor, LOGS, (&headers, body), read).await {
        Ok(told) => good(form, &ExportLogsServiceResponse::from(told)),
        Err(no) => no.answer(form),
    }
}

/// Who it is, then what comes, then the journey.
async fn answer(
    door: &Door,
    visitor: &Visitor,
    method: &'static str,
    (headers, body): (&HeaderMap, Body),
    read: impl Fn(Bytes) -> Result<Ask, Fault>,
) -> Result<Told, No> {
    if let Err(fault) = admit(visitor, method) {
        door.refusals.note(visitor.peer(), method, &fault);
        return Err(fault.into());
    }
    let ask = async {
        let packed = is_packed(headers)?;
        // The body is here already, and within its bound.
        let body = axum::body::to_bytes(body, LARGEST).await;
        let body = body.map_err(|e| bad(StatusCode::BAD_REQUEST, &e.to_string()))?;
        let body = if packed { unpacked(&body)? } else { body };
        Ok::<_, No>(read(body)?)
    };
    let ask = ask.await?;
    let call = Call::of_peer(visitor.peer(), visitor.trace().clone(), visitor.deadline());
    Ok(Box::pin(tell(&door.seat.desk()?, &call, ask)).await?)
}

/// The access table speaks here as over gRPC.
fn admit(visitor: &Visitor, method: &'static str) -> Result<(), Fault> {
    let peer = visitor.peer();
    let admitted = INTAKE.iter().any(|rule| rule.method == method && rule.admits(peer));
    match &peer.spiffe_id {
        Some(_) if admitted => Ok(()),
        Some(id) => Err(Fault::refused(&ACCESS_DENIED, format!("{id} may not call {method}"))),
        None => Err(Fault::refused(&UNAUTHENTICATED, "the caller showed no client certificate")),
    }
}

/// Whether the body is packed; a form that is not understood is refused.
fn is_packed(headers: &HeaderMap) -> Result<bool, No> {
    if Form::of(headers).is_none() {
        let why = "content-type has to be application/x-protobuf or application/json";
        return Err(bad(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    match text(headers, header::CONTENT_ENCODING).as_deref() {
        None | Some("" | "identity") => Ok(false),
        Some("gzip") => Ok(true),
        Some(_) => Err(bad(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-encoding is gzip or nothing")),
    }
}

/// Unpacks gzip, up to the bound and no further.
fn unpacked(body: &[u8]) -> Result<Bytes, No> {
    let mut out = Vec::new();
    let most = LARGEST as u64 + 1;
    match flate2::read::GzDecoder::new(body).take(most).read_to_end(&mut out) {
        Err(_) => Err(bad(StatusCode::BAD_REQUEST, "the body is no gzip, or is cut short")),
        Ok(_) if out.len() > LARGEST => {
            Err(bad(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 4 MiB once it is unpacked"))
        }
        Ok(_) => Ok(out.into()),
    }
}

fn decode<M: Message + Default + DeserializeOwned>(form: Form, body: &[u8]) -> Result<M, Fault> {
    match form {
        Form::Protobuf => M::decode(body).map_err(|_| Fault::invalid("body", "is no OTLP request in protobuf")),
        // What it says of the place names no content.
        Form::Json => serde_json::from_slice(body).map_err(|e| {
            let (line, column) = (e.line(), e.column());
            Fault::invalid("body", format!("is no OTLP request in JSON, at line {line} column {column}"))
        }),
    }
}

fn good(form: Form, answer: &(impl Message + Serialize)) -> Response {
    let body = match form {
        Form::Protobuf => Ok(answer.encode_to_vec()),
        Form::Json => serde_json::to_vec(answer),
    };
    match body {
        Ok(body) => (form.headers(), body).into_response(),
        Err(e) => No::from(Fault::broken(e)).answer(form),
    }
}

/// A refusal, and the status that HTTP has for it where that is another than the reason's.
#[derive(Debug)]
struct No {
    code: Option<StatusCode>,
    fault: Fault,
}

impl From<Fault> for No {
    fn from(fault: Fault) -> Self {
        Self { code: None, fault }
    }
}

/// A body of which nothing can be said but that it is bad.
fn bad(code: StatusCode, why: &str) -> No {
    No { code: Some(code), fault: Fault::invalid("body", why) }
}

impl No {
    /// As OTLP has it: a google.rpc.Status in the client's form, and when to come again where that helps.
    fn answer(self, form: Form) -> Response {
        let again = match &self.fault {
            Fault::Refused(refusal) | Fault::Unavailable(refusal) => refusal.retry_after,
            Fault::Broken(_) => None,
        };
        let reason = self.fault.reason();
        tracing::info!(reason, "refused");
        let status = Status::from(self.fault);
        let code = self.code.unwrap_or(match status.code() {
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::NotFound => {
                StatusCode::BAD_REQUEST
            }
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::ResourceExhausted if again.is_some() => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable | Code::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        });
        let body = match form {
            Form::Protobuf => status.details().to_vec(),
            Form::Json => in_json(&status, reason, again).to_string().into_bytes(),
        };
        let mut answer = (code, form.headers(), body).into_response();
        if let Some(again) = again {
            let seconds = again.as_secs() + u64::from(again.subsec_nanos() > 0);
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        answer
    }
}

/// A google.rpc.Status as the JSON of protobufs has it.
fn in_json(status: &Status, reason: &str, again: Option<Duration>) -> serde_json::Value {
    let info = json!({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "legate" });
    let retry = again.map(|again| {
        let delay = format!("{}.{:03}s", again.as_secs(), again.subsec_millis());
        json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay })
    });
    let details: Vec<_> = std::iter::once(info).chain(retry).collect();
    json!({ "code": i32::from(status.code()), "message": status.message(), "details": details })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::Write as _;

    use super::*;
    use crate::error::{AGAIN, AUDIT_BUSY, AUDIT_INDEX_BEHIND};

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    }

    #[test]
    fn what_is_packed_is_unpacked_within_the_bound() {
        assert_eq!(unpacked(&packed(b"spans")).unwrap(), "spans");
        assert!(unpacked(&packed(&vec![0; LARGEST])).is_ok());
        let code = |body: &[u8]| unpacked(body).unwrap_err().answer(Form::Protobuf).status();
        assert_eq!(code(&packed(&vec![0; LARGEST + 1])), StatusCode::PAYLOAD_TOO_LARGE);
        // A thousand times smaller than what it would become.
        assert_eq!(code(&packed(&vec![0; 512 << 20])), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(code(b"no gzip"), StatusCode::BAD_REQUEST);
        assert_eq!(code(&packed(b"spans")[..12]), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn what_can_be_tried_again_says_when() {
        for (fault, code, again) in [
            (Fault::unavailable(&AUDIT_BUSY, "full", AGAIN), StatusCode::TOO_MANY_REQUESTS, Some("1")),
            (
                Fault::unavailable(&AUDIT_BUSY, "full", Duration::from_millis(2_001)),
                StatusCode::TOO_MANY_REQUESTS,
                Some("3"),
            ),
            (Fault::unavailable(&AUDIT_INDEX_BEHIND, "behind", AGAIN), StatusCode::SERVICE_UNAVAILABLE, Some("1")),
            (Fault::invalid("body", "bad"), StatusCode::BAD_REQUEST, None),
            (Fault::refused(&ACCESS_DENIED, "no"), StatusCode::FORBIDDEN, None),
            (Fault::refused(&UNAUTHENTICATED, "who"), StatusCode::UNAUTHORIZED, None),
            (Fault::broken("bug"), StatusCode::INTERNAL_SERVER_ERROR, None),
        ] {
            let text = fault.to_string();
            let answer = No::from(fault).answer(Form::Protobuf);
            assert_eq!(answer.status(), code, "{text}");
            let found = answer.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(found, again, "{text}");
            assert_eq!(answer.headers()[header::CONTENT_TYPE], PROTOBUF);
        }
    }

    #[test]
    fn a_form_that_is_not_understood_is_refused() {
        let of = |all: &[(header::HeaderName, &'static str)]| {
            let headers = all.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
            is_packed(&headers).map_err(|no| no.answer(Form::Protobuf).status().as_u16())
        };
        let protobuf = (header::CONTENT_TYPE, PROTOBUF);
        assert_eq!(of(std::slice::from_ref(&protobuf)), Ok(false));
        assert_eq!(of(&[(header::CONTENT_TYPE, "Application/X-Protobuf; charset=x")]), Ok(false));
        assert_eq!(of(&[(header::CONTENT_TYPE, "application/json")]), Ok(false));
        assert_eq!(of(&[protobuf.clone(), (header::CONTENT_ENCODING, "gzip")]), Ok(true));
        for bad in [
            vec![],
            vec![(header::CONTENT_TYPE, "application/cbor")],
            vec![protobuf.clone(), (header::CONTENT_ENCODING, "br")],
            vec![protobuf, (header::CONTENT_ENCODING, "gzip, gzip")],
        ] {
            assert_eq!(of(&bad), Err(415), "{bad:?}");
        }
    }
}
