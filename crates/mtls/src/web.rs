//! Dialling web servers of others, which have no SPIFFE ID: by DNS name or address, under the public CAs and those given.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use legate_clock::Clock;
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{OurTime, TlsError, certificate, pki};

/// Dials web servers over TLS 1.3, as nobody.
#[derive(Clone)]
pub struct WebConnector {
    tls: TlsConnector,
}

impl std::fmt::Debug for WebConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebConnector")
    }
}

impl WebConnector {
    /// Believes the public CAs and, beside them, the CA certificates of a PEM text.
    ///
    /// # Errors
    /// When the text holds no certificate, or one that is not a CA's.
    pub fn new(more: Option<&str>, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for ca in more.map(pki::certificates).transpose()?.into_iter().flatten() {
            // The library takes any certificate as an anchor, a leaf as well.
            certificate::check_ca(&ca)?;
            roots.add(ca)?;
        }
        let mut config = rustls::ClientConfig::builder_with_details(crate::provider(), Arc::new(OurTime(clock)))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Connects to exactly this address and demands a certificate for `host`. Bounded by the caller's patience only.
    ///
    /// # Errors
    /// When nothing answers, or its certificate is for somebody else or by a CA that is not believed.
    pub async fn connect(&self, address: SocketAddr, host: &str) -> io::Result<TlsStream<TcpStream>> {
        connect(&self.tls, address, host).await
    }
}

/// Connects to an address, and shakes hands with whoever is called `host` there.
pub(crate) async fn connect(tls: &TlsConnector, address: SocketAddr, host: &str) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    tls.connect(name, tcp).await
}
