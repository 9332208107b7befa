//! One port with a few handlers, and clients with and without certificates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use legate_clock::{Clock, TestClock, Timestamp};
use legate_ids::{AgentId, Name, SpiffeId, TrustDomain};
use legate_mtls::pki::{Ca, Leaf};
use legate_mtls::{Expect, Identity, Listener, Trust, connector};
use legate_web::{Limits, Service, Visitor, Web, serve};
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
/// Nothing on one machine takes longer; a test that waits for so long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) struct House {
    pub(crate) clock: Arc<TestClock>,
    domain: TrustDomain,
    services: Ca,
    workloads: Ca,
    pub(crate) metrics: Arc<legate_rpc::Metrics>,
}

/// Whom the chassis took the caller for, in which trace.
async fn who(visitor: Visitor) -> String {
    format!("{} {}", visitor.peer().id_text(), visitor.trace().trace_id)
}

impl House {
    pub(crate) fn new() -> Self {
        let now = Timestamp::from_secs(1_800_000_000);
        Self {
            clock: TestClock::at(now),
            domain: TrustDomain::parse("example.org").unwrap(),
            services: Ca::generate("services", now, HOUR * 24 * 365).unwrap(),
            workloads: Ca::generate("workloads", now, HOUR * 24 * 365).unwrap(),
            metrics: Arc::default(),
        }
    }

    fn trust(&self) -> Trust {
        Trust::from_pem(self.domain.clone(), self.services.cert_pem(), Some(self.workloads.cert_pem())).unwrap()
    }

    fn identity(ca: &Ca, id: &SpiffeId, now: Timestamp) -> Identity {
        let issued = ca.issue(&Leaf { spiffe_id: id, dns: &[], ips: &[], ttl: HOUR }, now).unwrap();
        Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap()
    }

    pub(crate) fn agent_id(&self) -> SpiffeId {
        SpiffeId::agent(&self.domain, &Name::parse("payments").unwrap(), &AgentId::from_parts(1, [7; 10]))
    }

    /// An agent's certificate.
    pub(crate) fn agent(&self) -> Identity {
        Self::identity(&self.workloads, &self.agent_id(), self.clock.now())
    }

    /// A certificate that a stranger's CA signed for the agent.
    pub(crate) fn forged(&self) -> Identity {
        let stranger = Ca::generate("strangers", self.clock.now(), HOUR * 24).unwrap();
        Self::identity(&stranger, &self.agent_id(), self.clock.now())
    }

    pub(crate) async fn raise(&self, limits: Limits) -> Web {
        let us = SpiffeId::service(&self.domain, &Name::parse("credential-issuer").unwrap());
        let identity = Self::identity(&self.services, &us, self.clock.now());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bounds = legate_mtls::Limits::default();
        let listener = Listener::bind_web(any, identity, Some(self.trust()), self.clock.clone(), bounds).await.unwrap();
        let routes = Router::new()
            .route("/who", get(who))
            .route("/echo", post(|body: Bytes| async move { body }))
            .route("/never", get(std::future::pending::<StatusCode>));
        let service = Service {
            name: "credential-issuer",
            routes,
            paths: &["/who", "/echo", "/never"],
            limits,
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        serve(service, listener).unwrap()
    }

    /// A connection on which nothing was said yet, or `None` where the handshake was refused.
    pub(crate) async fn dial(
        &self,
        web: SocketAddr,
        identity: Identity,
    ) -> Option<impl AsyncRead + AsyncWrite + Send + Unpin + use<>> {
        let expect = Expect::Service("credential-issuer");
        let connector = connector(identity, self.trust(), expect, self.clock.clone()).unwrap();
        connector.connect(&web.to_string()).await.ok()
    }

    /// An HTTP/2 connection, or `None` where the handshake was refused.
    pub(crate) async fn connect(&self, web: SocketAddr, identity: Identity) -> Option<Client> {
        let tls = self.dial(web, identity).await?;
        let (send, conn) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.ok()?;
        tokio::spawn(conn);
        Some(Client(send))
    }
}

pub(crate) struct Client(pub(crate) http2::SendRequest<Full<Bytes>>);

impl Client {
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Option<(StatusCode, http::HeaderMap, String)> {
        let answer = tokio::time::timeout(LONG, self.0.send_request(request)).await.unwrap().ok()?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some((parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap()))
    }

    pub(crate) async fn get(&mut self, path: &str) -> (StatusCode, String) {
        let (status, _, body) = self.send(ask(path).body(Full::default()).unwrap()).await.unwrap();
        (status, body)
    }
}

pub(crate) fn ask(path: &str) -> http::request::Builder {
    Request::builder().uri(format!("https://localhost{path}"))
}
