//! Envoy's service as it is reached: what ends with an error of gRPC is answered with a denial, and so is what takes too long.
//!
//! An Envoy with `failure_mode_allow` lets go on whatever it gets an error for. What tonic refuses before the message is ours (one that
//! is too large, or cannot be read), and the end of the caller's time, are told in the form that no Envoy lets pass.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use legate_rpc::{DEADLINE_EXCEEDED, Fault, Permit};
use legate_wire::envoy as wire;
use prost::Message as _;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use crate::error::HTTP_REQUEST_INVALID;
use crate::flow::Desk;

/// Kept back from the time that the chassis gives the call, so that the answer is ours.
const MARGIN: Duration = Duration::from_millis(10);

/// A service of Envoy's behind which no error is left.
#[derive(Clone, Debug)]
pub(crate) struct Closed<S> {
    inner: S,
    desk: Arc<Desk>,
}

impl<S> Closed<S> {
    pub(crate) fn new(inner: S, desk: &Arc<Desk>) -> Self {
        Self { inner, desk: Arc::clone(desk) }
    }
}

impl<S: NamedService> NamedService for Closed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Closed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let desk = Arc::clone(&self.desk);
        // The instance that was polled ready is the one to call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let give_up = request.extensions().get::<Permit>().map(|permit| permit.deadline() - MARGIN);
            let answering = inner.call(request);
            let answer = match give_up {
                Some(give_up) => tokio::time::timeout_at(give_up, answering).await,
                None => Ok(answering.await),
            };
            let fault = match answer {
                Ok(Ok(answer)) => match Status::from_header_map(answer.headers()) {
                    Some(status) if status.code() != tonic::Code::Ok => {
                        Fault::refused(&HTTP_REQUEST_INVALID, format!("the message: {}", status.message()))
                    }
                    _ => return Ok(answer),
                },
                Ok(Err(never)) => match never {},
                Err(_) => Fault::refused(&DEADLINE_EXCEEDED, "the deadline passed before the answer was there"),
            };
            desk.metrics.unasked(fault.reason());
            Ok(said(&super::refused(fault)))
        })
    }
}

/// An answer as gRPC has it.
fn said(answer: &wire::CheckResponse) -> Response<Body> {
    let message = answer.encode_to_vec();
    // gRPC over HTTP/2, "Length-Prefixed-Message": not compressed, its length, itself.
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(message);
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from(frame)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
