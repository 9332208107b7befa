//! What every call goes through before its handler: span, standing, access, deadline, metrics.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use legate_clock::Clock;
use legate_mtls::Peer;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::Instrument;

use crate::access::Table;
use crate::{
    ACCESS_DENIED, DEADLINE_EXCEEDED, DEADLINE_TOO_SHORT, DUPLICATE_HEADER, Fault, METHOD_UNKNOWN, Metrics, Permit,
    Refusals, Rule, Standing, TraceContext, UNAUTHENTICATED, continue_trace,
};

/// Kept back from the caller's deadline, so that the answer arrives within it.
const SHAVE: Duration = Duration::from_millis(20);
/// With less than this, a call is not begun.
const LEAST: Duration = Duration::from_millis(50);
/// No caller can ask us to work longer on one call.
const MOST: Duration = Duration::from_secs(60);

/// What the layer of one service knows.
#[derive(Debug)]
pub(crate) struct Chassis {
    pub(crate) name: &'static str,
    pub(crate) table: Table,
    pub(crate) standing: Arc<dyn Standing>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) default_deadline: Duration,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) refusals: Arc<Refusals>,
}

/// Wraps a service's routes.
#[derive(Clone, Debug)]
pub(crate) struct ChassisLayer(pub(crate) Arc<Chassis>);

impl<S> tower::Layer<S> for ChassisLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { chassis: self.0.clone(), inner }
    }
}

/// Routes that only permitted calls reach.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<S> {
    chassis: Arc<Chassis>,
    inner: S,
}

impl<S> tower::Service<Request<Body>> for Guarded<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let chassis = self.chassis.clone();
        // The instance that was polled ready is the one to call.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let Some(rule) = chassis.table.row(request.uri().path()) else {
                let why = format!("{} has no such method", chassis.name);
                return Ok(refuse(Fault::refused(&METHOD_UNKNOWN, why)));
            };
            let span = chassis.span(rule);
            let trace = continue_trace(&span, request.headers());
            chassis.serve(rule, trace, request, inner).instrument(span).await
        })
    }
}

impl Chassis {
    fn span(&self, rule: &'static Rule) -> tracing::Span {
        let method = rule.method.trim_start_matches('/');
        let (service, name) = method.split_once('/').unwrap_or((method, ""));
        tracing::info_span!(
            "rpc",
            otel.name = method,
            otel.kind = "server",
            rpc.system = "grpc",
            rpc.service = service,
            rpc.method = name,
            legate.service = self.name,
            legate.peer = tracing::field::Empty,
        )
    }

    async fn serve<S>(
        &self,
        rule: &'static Rule,
        trace: TraceContext,
        mut request: Request<Body>,
        inner: S,
    ) -> Result<Response<Body>, S::Error>
    where
        S: tower::Service<Request<Body>, Response = Response<Body>>,
    {
        let start = Instant::now();
        let answer = match self.permit(rule, trace, &mut request, start).await {
            Ok(permit) => {
                let (deadline, trace) = (permit.deadline, permit.trace.clone());
                request.extensions_mut().insert(permit);
                let mut inner = inner;
                let answering = trace.serving(inner.call(request));
                match tokio::time::timeout_at(deadline, answering).await {
                    Ok(answer) => answer?,
                    Err(_) => {
                        refuse(Fault::refused(&DEADLINE_EXCEEDED, "the deadline passed before the answer was there"))
                    }
                }
            }
            Err(fault) => {
                tracing::info!(reason = fault.reason(), method = rule.method, "refused");
                refuse(fault)
            }
        };
        let code = answer.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
        self.metrics.observe(self.name, rule.method, code, start.elapsed());
        Ok(answer)
    }

    /// Peer, then good standing, then the table, then time: only then is there a permit.
    async fn permit(
        &self,
        rule: &'static Rule,
        trace: TraceContext,
        request: &mut Request<Body>,
        start: Instant,
    ) -> Result<Permit, Fault> {
        let Some(peer) = request.extensions_mut().remove::<Arc<Peer>>() else {
            return Err(Fault::refused(&UNAUTHENTICATED, "the connection has no peer"));
        };
        tracing::Span::current().record("legate.peer", peer.id_text());
        if let Err(fault) = self.admit(rule, &peer).await {
            self.refusals.note(&peer, rule.method, &fault);
            return Err(fault);
        }
        let headers = request.headers();
        if headers.get_all(http::header::AUTHORIZATION).iter().count() > 1 {
            return Err(Fault::refused(&DUPLICATE_HEADER, "authorization came several times"));
        }
        Ok(Permit {
            peer,
            method: rule.method,
            deadline: deadline(headers, start, self.default_deadline)?,
            trace,
            emergency: emergency(headers)?,
        })
    }
}

impl Chassis {
    /// The certificate's time, the table, then good standing. The connection of an expired certificate is ended by a
    /// timer, which does not notice when the machine's clock is put right.
    async fn admit(&self, rule: &'static Rule, peer: &Peer) -> Result<(), Fault> {
        if peer.not_after <= self.clock.now() {
            let text = format!("the caller's certificate expired at {}", peer.not_after);
            return Err(Fault::refused(&UNAUTHENTICATED, text));
        }
        if rule.admits(peer) {
            return self.standing.check(peer).await;
        }
        Err(match &peer.spiffe_id {
            None => Fault::refused(&UNAUTHENTICATED, "the caller showed no client certificate"),
            Some(id) => Fault::refused(&ACCESS_DENIED, format!("{id} may not call {}", rule.method)),
        })
    }
}

fn refuse(fault: Fault) -> Response<Body> {
    Status::from(fault).into_http()
}

/// What the caller gives for an emergency: 1 to 200 printable ASCII characters.
fn emergency(headers: &HeaderMap) -> Result<Option<Arc<str>>, Fault> {
    let mut given = headers.get_all(crate::BREAK_GLASS).iter();
    let Some(first) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(Fault::refused(&DUPLICATE_HEADER, format!("{} came several times", crate::BREAK_GLASS)));
    }
    let text = first.to_str().ok().filter(|text| is_emergency(text));
    let text =
        text.ok_or_else(|| Fault::invalid(crate::BREAK_GLASS, "say why in 1 to 200 printable ASCII characters"))?;
    Ok(Some(text.into()))
}

/// Whether a text can stand for an emergency.
pub(crate) fn is_emergency(text: &str) -> bool {
    let printable = |b: u8| matches!(b, b' '..=b'~');
    (1..=200).contains(&text.len()) && !text.trim().is_empty() && text.bytes().all(printable)
}

fn deadline(headers: &HeaderMap, start: Instant, default: Duration) -> Result<Instant, Fault> {
    let asked = match headers.get("grpc-timeout") {
        None => default,
        Some(value) => value.to_str().ok().and_then(parse_timeout).ok_or_else(|| {
            Fault::refused(&crate::INVALID_ARGUMENT, "grpc-timeout is 1 to 8 digits and one of H M S m u n")
        })?,
    };
    if asked < LEAST {
        return Err(Fault::refused(&DEADLINE_TOO_SHORT, format!("the call allows {} ms", asked.as_millis())));
    }
    Ok(start + asked.min(MOST) - SHAVE)
}

/// gRPC over HTTP/2, "Timeout": a positive integer of 8 digits at most, and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3_600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn timeouts_keep_to_the_grammar() {
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "S", "5", "-5S", "5s", "123456789S", "5 S", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    /// The connection ends by a timer, which does not see the machine's clock being put right.
    #[tokio::test]
    async fn a_certificate_that_has_expired_by_our_clock_is_nobodys() {
        static RULE: Rule = Rule { method: "/a.B/C", callers: &[crate::Caller::Anonymous] };
        let end = legate_clock::Timestamp::from_secs(1_900_000_000);
        let clock = legate_clock::TestClock::at(end.minus(Duration::from_micros(1)));
        let chassis = Chassis {
            name: "a",
            table: Table::new(&[], false),
            standing: Arc::new(crate::AlwaysGood),
            clock: clock.clone(),
            default_deadline: Duration::from_secs(5),
            metrics: Arc::default(),
            refusals: Arc::default(),
        };
        let mut peer = Peer::anonymous("127.0.0.1:1".parse().unwrap());
        chassis.admit(&RULE, &peer).await.unwrap();
        peer.not_after = end;
        chassis.admit(&RULE, &peer).await.unwrap();
        clock.jump_to(end);
        assert_eq!(chassis.admit(&RULE, &peer).await.unwrap_err().reason(), "UNAUTHENTICATED");
    }

    #[test]
    fn an_emergency_is_stated_once_and_legibly() {
        let of = |texts: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append(crate::BREAK_GLASS, http::HeaderValue::from_bytes(text).unwrap());
            }
            emergency(&headers)
        };
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[b"the issuer is down"]).unwrap().as_deref(), Some("the issuer is down"));
        assert!(of(&[&[b'x'; 200]]).is_ok());
        for bad in [b"".as_slice(), b" ", b"a\tb", &[b'x'; 201], "caf\u{e9}".as_bytes()] {
            assert_eq!(of(&[bad]).unwrap_err().reason(), "INVALID_ARGUMENT", "{bad:?}");
        }
        assert_eq!(of(&[b"a", b"b"]).unwrap_err().reason(), "DUPLICATE_HEADER");
    }

    #[tokio::test]
    async fn a_deadline_is_shaved_bounded_and_never_too_short() {
        let start = Instant::now();
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            deadline(&headers, start, Duration::from_secs(5))
        };
        assert_eq!(of("1S").unwrap(), start + Duration::from_millis(980));
        assert_eq!(of("9H").unwrap(), start + MOST - SHAVE);
        assert_eq!(of("49m").unwrap_err().reason(), "DEADLINE_TOO_SHORT");
        assert_eq!(of("x").unwrap_err().reason(), "INVALID_ARGUMENT");
        assert_eq!(
            deadline(&HeaderMap::new(), start, Duration::from_secs(5)).unwrap(),
            start + Duration::from_millis(4_980)
        );
    }
}
