//! The client's side: dials, shows our certificate, and demands the server's SPIFFE ID.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use legate_clock::Clock;
use legate_ids::{Principal, SpiffeId};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::Leaf;
use crate::verifier::Servers;
use crate::{Allow, Identity, Trust};

/// A connection that is not there after so long will not be.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// What a client demands of the server it dials.
#[derive(Clone, Debug)]
pub enum Expect {
    /// One of our services by name, such as `registry`.
    Service(&'static str),
    /// Any of our services.
    AnyService,
    /// This id and no other.
    Exactly(SpiffeId),
    /// Whoever is on the list.
    OneOf(Allow),
}

impl Expect {
    pub(crate) fn is_met_by(&self, leaf: &Leaf) -> bool {
        match (self, &leaf.principal) {
            (Self::Service(wanted), Principal::Service(name)) => name.as_str() == *wanted,
            (Self::AnyService, Principal::Service(_)) => true,
            (Self::Exactly(wanted), _) => *wanted == leaf.spiffe_id,
            (Self::OneOf(listed), _) => listed.has(&leaf.spiffe_id),
            _ => false,
        }
    }
}

/// Dials over TLS 1.3; give it to `Endpoint::connect_with_connector_lazy`.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

/// A connector that shows `identity` and demands `expect` under `trust`.
///
/// # Errors
/// When the provider lacks TLS 1.3 (it does not).
pub fn connector(
    identity: Identity,
    trust: Trust,
    expect: Expect,
    clock: Arc<dyn Clock>,
) -> Result<Connector, crate::TlsError> {
    let mut config = crate::among::client(identity, Servers { trust, expect, needs: None }, clock)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config.into())
}

impl From<rustls::ClientConfig> for Connector {
    fn from(config: rustls::ClientConfig) -> Self {
        Self { tls: TlsConnector::from(Arc::new(config)) }
    }
}

impl Connector {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// When nothing answers within three seconds, or the handshake fails.
    pub async fn connect(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let work = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            // The verifier goes by SPIFFE ID, so this name is neither sent nor compared.
            let name = ServerName::try_from("legate.invalid").map_err(io::Error::other)?;
            self.tls.connect(name, tcp).await
        };
        tokio::time::timeout(CONNECT_DEADLINE, work)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no TLS connection within 3 s")))
    }
}

impl tower::Service<http::Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let address = format!("{host}:{}", uri.port_u16().unwrap_or(443));
            this.connect(&address).await.map(TokioIo::new)
        })
    }
}
