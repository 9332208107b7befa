//! A listening socket and the TLS it speaks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use crate::accept::{Accept, accept_loop};
use crate::verifier::Clients;
use crate::{Allow, Conn, Connections, Identity, Trust};

/// Bounds of an accept loop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections at most; also kept below the process's limit of open files, less 64.
    pub connections: usize,
    /// Of these, connections of peers without a certificate, so that strangers cannot keep known peers out.
    /// A web listener that asks for no certificate knows nobody, and does not count by this.
    pub strangers: usize,
    /// Of these, connections of peers with one SPIFFE ID, so that no single peer can keep the others out; never more
    /// than a quarter of all, though always two.
    pub one_peer: usize,
    /// Handshakes under way at most.
    pub handshakes: usize,
    /// A handshake that takes longer is ended.
    pub handshake_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            strangers: 2_500,
            one_peer: 2_500,
            handshakes: 512,
            handshake_deadline: Duration::from_secs(3),
        }
    }
}

impl Limits {
    /// Open connections at most, so that files stay for the rest of the process.
    pub(crate) fn connections_within_files(&self) -> usize {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let files = files.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        self.connections.min(files.saturating_sub(64)).max(1)
    }

    /// Strangers at most: never more than half of all, also where the process may open few files.
    fn strangers_within_files(&self) -> usize {
        self.strangers.min(self.connections_within_files().div_ceil(2))
    }

    /// Connections of one peer at most, also where the process may open few files.
    pub(crate) fn one_peer_within_files(&self) -> usize {
        self.one_peer.min((self.connections_within_files() / 4).max(2))
    }
}

/// A bound socket; [`Listener::into_incoming`] starts accepting.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    config: Arc<ServerConfig>,
    trust: Option<Trust>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    connections: Connections,
}

impl Listener {
    /// Binds a socket for gRPC over mutual TLS (ALPN `h2`). A client without a certificate gets in as nobody.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(
        addr: SocketAddr,
        identity: Identity,
        trust: Trust,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> io::Result<Self> {
        let clients = Clients { trust: trust.clone(), allow: None };
        let config = config(identity, Some(clients), clock.clone(), &[b"h2"])?;
        Self::over(addr, config, Some(trust), clock, limits).await
    }

    /// Binds a socket for ordinary HTTPS clients (ALPN `h2`, `http/1.1`). With a trust they are asked for a certificate,
    /// which is judged as strictly as on the other sockets; whoever shows none gets in as nobody. Without a trust they are
    /// not asked.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind_web(
        addr: SocketAddr,
        identity: Identity,
        trust: Option<Trust>,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> io::Result<Self> {
        let clients = trust.clone().map(|trust| Clients { trust, allow: None });
        let config = config(identity, clients, clock.clone(), &[b"h2", b"http/1.1"])?;
        Self::over(addr, config, trust, clock, limits).await
    }

    /// Binds a socket for workloads among one another (ALPN `h2`, `http/1.1`): whoever is on the list gets in, with a certificate, and
    /// nobody else. A connection ends when its certificate does, or when its CA is believed no more.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind_among(
        addr: SocketAddr,
        identity: Identity,
        trust: Trust,
        allow: Allow,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> io::Result<Self> {
        let clients = Clients { trust: trust.clone(), allow: Some(allow) };
        let config = config(identity, Some(clients), clock.clone(), &[b"h2", b"http/1.1"])?;
        Self::over(addr, config, Some(trust), clock, limits).await
    }

    async fn over(
        addr: SocketAddr,
        config: Arc<ServerConfig>,
        trust: Option<Trust>,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> io::Result<Self> {
        let tcp = TcpListener::bind(addr).await?;
        Ok(Self { tcp, config, trust, clock, limits, connections: Connections::default() })
    }

    /// The bound address.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The connections that are open.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Accepts from now on; finished handshakes come out of the stream. Dropping the stream closes the socket.
    #[must_use]
    pub fn into_incoming(self) -> ReceiverStream<io::Result<Conn>> {
        let (ready, incoming) = tokio::sync::mpsc::channel(64);
        let accept = Accept {
            acceptor: TlsAcceptor::from(self.config),
            trust: self.trust,
            clock: self.clock,
            limits: self.limits,
            connections: self.connections,
            strangers: Arc::new(Semaphore::new(self.limits.strangers_within_files())),
            ready,
        };
        tokio::spawn(accept_loop(self.tcp, accept));
        ReceiverStream::new(incoming)
    }
}

fn config(
    identity: Identity,
    clients: Option<Clients>,
    clock: Arc<dyn Clock>,
    alpn: &[&[u8]],
) -> io::Result<Arc<ServerConfig>> {
    let mut config = crate::among::server(identity, clients, clock).map_err(io::Error::other)?;
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(config))
}
