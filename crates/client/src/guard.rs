//! A tower layer that lets through what policy-decision allows: for axum, tonic and every other HTTP server on tower.
//!
//! The request's access token says who acts, and the certificate of its connection or a DPoP proof ([`Dpop`]) that the token is its
//! holder's; without a token, and where [`Guard::by_certificate`] takes it, the certificate says who acts. A mapping says what is done to
//! what. Nothing else is looked at: neither the body, which is not read, nor headers that claim an identity. What is allowed goes on with a
//! [`Permit`](crate::Permit) in its extensions.

mod dpop;
mod refusal;
mod routes;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Request, Response, header};
use legate_mtls::Peer;
use prost_types::Value;
use rustls_pki_types::CertificateDer;
use tower::{Layer, Service};

use dpop::Proven;
pub use dpop::{BadDpop, Dpop};
pub use routes::{BadRoute, Routes};

use crate::{Decision, NotAllowed, Permit, Question};
pub(crate) use refusal::{Refusal, is_of_the_token};

/// The longest token that is passed on.
const LONGEST_TOKEN: usize = 8 << 10;

/// What a request does to what.
#[derive(Clone, Debug)]
pub struct Asks {
    action: String,
    resource_type: String,
    resource_id: String,
    attributes: Vec<(String, Value)>,
    context: Vec<(String, Value)>,
}

impl Asks {
    /// An action on a resource.
    pub fn new(action: impl Into<String>, resource_type: impl Into<String>, resource_id: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            resource_type: resource_type.into(),
            resource_id: resource_id.into(),
            attributes: Vec::new(),
            context: Vec::new(),
        }
    }

    /// An attribute of the resource.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Something about the request.
    #[must_use]
    pub fn context(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.context.push((name.into(), value.into()));
        self
    }

    fn question(self, shown: &Shown<'_>) -> Question {
        let mut question = match shown {
            Shown::Token { token, presented, key } => {
                let mut question = Question::by_token(*token, self.action, &self.resource_type, &self.resource_id);
                if let Some(x5t_s256) = presented {
                    question = question.presented_certificate(*x5t_s256);
                }
                if let Some(jkt) = key {
                    question = question.presented_key(*jkt);
                }
                question
            }
            Shown::Certificate(chain) => {
                Question::by_certificate(chain, self.action, &self.resource_type, &self.resource_id)
            }
        };
        question = self.attributes.into_iter().fold(question, |q, (name, value)| q.attribute(name, value));
        self.context.into_iter().fold(question, |q, (name, value)| q.context(name, value))
    }
}

/// Says what a request asks for. A closure over the request's head does; [`Routes`] is a table.
pub trait Mapping: Send + Sync + 'static {
    /// What it asks for; `None`: nothing that is let through.
    fn asks(&self, head: &Parts) -> Option<Asks>;
}

impl<F: Fn(&Parts) -> Option<Asks> + Send + Sync + 'static> Mapping for F {
    fn asks(&self, head: &Parts) -> Option<Asks> {
        self(head)
    }
}

/// SHA-256 of the DER client certificate of the request's connection, zeros where it showed none. A server that does not accept with
/// `legate_mtls` puts it into the extensions of each request, from its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresentedCertificate(pub [u8; 32]);

/// The client's certificates of the request's connection, leaf first. A server that does not accept with `legate_mtls` puts them into the
/// extensions of each request, from its handshake, where [`Guard::by_certificate`] is to know its callers.
#[derive(Clone, Debug)]
pub struct PresentedChain(pub Arc<[CertificateDer<'static>]>);

/// By what an agent is known.
enum Shown<'a> {
    /// A token, with SHA-256 of the certificate of the connection and the thumbprint of the key that a proof was made with.
    Token { token: &'a str, presented: Option<[u8; 32]>, key: Option<[u8; 32]> },
    /// The certificate alone.
    Certificate(Arc<[CertificateDer<'static>]>),
}

/// The proof that has to be used up, if one came.
type ToSpend<'a> = Option<(&'a Dpop, Proven)>;

/// The layer.
#[derive(Debug)]
pub struct Guard<M> {
    decision: Decision,
    mapping: Arc<M>,
    dpop: Option<Dpop>,
    takes_certificates: bool,
}

impl<M> Clone for Guard<M> {
    fn clone(&self) -> Self {
        let (decision, mapping, dpop) = (self.decision.clone(), Arc::clone(&self.mapping), self.dpop.clone());
        Self { decision, mapping, dpop, takes_certificates: self.takes_certificates }
    }
}

impl<M: Mapping> Guard<M> {
    /// Lets through what `decision` allows of what `mapping` says.
    pub fn new(decision: Decision, mapping: M) -> Self {
        Self { decision, mapping: Arc::new(mapping), dpop: None, takes_certificates: false }
    }

    /// Takes tokens that are bound to a key as well, each with a DPoP proof. Not for gRPC, where nobody agreed on what a proof is for.
    #[must_use]
    pub fn with_dpop(mut self, dpop: Dpop) -> Self {
        self.dpop = Some(dpop);
        self
    }

    /// A request without a token is its connection's: the agent is the one that the client's certificate (X.509-SVID) names. The enforcement point
    /// needs `mayAssertSubject`, since that the certificate was shown is its word. A request with a token is judged by that, as ever.
    #[must_use]
    pub fn by_certificate(mut self) -> Self {
        self.takes_certificates = true;
        self
    }

    /// By what the agent is known, and the proof that has to be used up where one came with the token.
    fn shown<'a>(&'a self, head: &'a Parts) -> Result<(Shown<'a>, ToSpend<'a>), Refusal> {
        if let Some(dpop) = self.dpop.as_ref().filter(|_| is_dpop(head)) {
            let token = shown(head, DPOP)?;
            if refusal::is_grpc(&head.headers) {
                return Err(Refusal::BadToken("a gRPC call is made with a token that is bound to a certificate"));
            }
            let proven = dpop.prove(head, token)?;
            let shown = Shown::Token { token, presented: presented(head), key: Some(proven.jkt) };
            return Ok((shown, Some((dpop, proven))));
        }
        match token(head) {
            Ok(token) => Ok((Shown::Token { token, presented: presented(head), key: None }, None)),
            Err(Refusal::NoToken) if self.takes_certificates => {
                let chain = chain(head).ok_or(Refusal::NoCertificate)?;
                Ok((Shown::Certificate(chain), None))
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn permit(&self, head: &Parts) -> Result<Permit, Refusal> {
        let (shown, proven) = self.shown(head)?;
        let asks = self.mapping.asks(head).ok_or(Refusal::Unmapped)?;
        let question = asks.question(&shown);
        let permit = self.decision.ask(question).await.permit().map_err(|why| match why {
            NotAllowed::Denied(denied) => Refusal::Denied(denied),
            NotAllowed::Undecided(undecided) => Refusal::Undecided(undecided),
        })?;
        if let Some((dpop, proven)) = proven {
            dpop.spend(&proven)?;
        }
        Ok(permit)
    }
}

/// RFC 9449 section 7.1.
const DPOP: &str = "DPoP";
/// RFC 6750 section 2.1.
const BEARER: &str = "Bearer";

/// Whether the one authorization of a request is of the scheme DPoP.
fn is_dpop(head: &Parts) -> bool {
    let first = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scheme = first.and_then(|text| text.split(' ').next());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(DPOP))
}

/// The one bearer token of the request (RFC 6750 section 2.1).
pub(crate) fn token(head: &Parts) -> Result<&str, Refusal> {
    shown(head, BEARER)
}

/// The one token of the request, of a scheme.
fn shown<'h>(head: &'h Parts, wanted: &str) -> Result<&'h str, Refusal> {
    let mut all = head.headers.get_all(header::AUTHORIZATION).iter();
    let first = all.next().ok_or(Refusal::NoToken)?;
    if all.next().is_some() {
        return Err(Refusal::BadToken("authorization came several times"));
    }
    let text = first.to_str().map_err(|_| Refusal::BadToken("authorization is not ASCII"))?;
    let (scheme, token) = text.split_once(' ').ok_or(Refusal::BadToken("authorization is not Bearer TOKEN"))?;
    if !scheme.eq_ignore_ascii_case(wanted) {
        return Err(Refusal::BadToken("authorization is not Bearer TOKEN"));
    }
    // RFC 6750 section 2.1, `b64token`.
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if !(1..=LONGEST_TOKEN).contains(&token.len()) || !token.bytes().all(is_token) {
        return Err(Refusal::BadToken("the token breaks the grammar, or is longer than 8 KiB"));
    }
    Ok(token)
}

/// What the handshake proved.
pub(crate) fn presented(head: &Parts) -> Option<[u8; 32]> {
    let by_server = head.extensions.get::<PresentedCertificate>().map(|shown| shown.0);
    let by_listener = || head.extensions.get::<Arc<Peer>>().map(|peer| peer.x5t_s256);
    by_server.or_else(by_listener).filter(|x5t_s256| *x5t_s256 != [0; 32])
}

/// The certificates that the handshake proved.
fn chain(head: &Parts) -> Option<Arc<[CertificateDer<'static>]>> {
    let by_server = head.extensions.get::<PresentedChain>().map(|shown| Arc::clone(&shown.0));
    let by_listener = || head.extensions.get::<Arc<Peer>>().map(|peer| Arc::clone(&peer.chain));
    by_server.or_else(by_listener).filter(|chain| !chain.is_empty())
}

impl<S, M> Layer<S> for Guard<M> {
    type Service = Guarded<S, M>;

    fn layer(&self, inner: S) -> Guarded<S, M> {
        Guarded { guard: self.clone(), inner }
    }
}

/// What only permitted requests reach.
#[derive(Debug)]
pub struct Guarded<S, M> {
    guard: Guard<M>,
    inner: S,
}

impl<S: Clone, M> Clone for Guarded<S, M> {
    fn clone(&self) -> Self {
        Self { guard: self.guard.clone(), inner: self.inner.clone() }
    }
}

/// A gRPC service keeps its name, so that tonic's router takes it.
impl<S: tonic::server::NamedService, M> tonic::server::NamedService for Guarded<S, M> {
    const NAME: &'static str = S::NAME;
}

impl<S, M, B, R> Service<Request<B>> for Guarded<S, M>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    M: Mapping,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let guard = self.guard.clone();
        // The instance that was polled ready is the one to call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let permit = match guard.permit(&head).await {
                Ok(permit) => permit,
                Err(refusal) => {
                    tracing::info!(reason = refusal.reason(), path = head.uri.path(), "refused");
                    return Ok(refusal.answer(&head, guard.dpop.is_some(), is_dpop(&head)));
                }
            };
            head.extensions.insert(permit);
            inner.call(Request::from_parts(head, body)).await
        })
    }
}
