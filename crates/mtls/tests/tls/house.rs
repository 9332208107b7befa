//! Three CAs, one listener and clients to try it with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::{Clock, TestClock, Timestamp};
use legate_ids::{AgentId, Name, SpiffeId, TrustDomain};
use legate_mtls::pki::{self, Ca, Issued, Leaf};
use legate_mtls::{CaTexts, Conn, Connector, Expect, Identity, Limits, Listener, Peer, Trust, connector};
use rcgen::{CertificateParams, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
/// Nothing on one machine takes longer; a test that waits for so long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Everything that a handshake needs.
pub(crate) struct House {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) domain: TrustDomain,
    pub(crate) services: Ca,
    pub(crate) workloads: Ca,
    pub(crate) operators: Ca,
}

impl House {
    pub(crate) fn new() -> Self {
        let now = Timestamp::from_secs(1_800_000_000);
        Self {
            clock: TestClock::at(now),
            domain: TrustDomain::parse("example.org").unwrap(),
            services: Ca::generate("services", now, HOUR * 24 * 365).unwrap(),
            workloads: Ca::generate("workloads", now, HOUR * 24 * 365).unwrap(),
            operators: Ca::generate("operators", now, HOUR * 24 * 365).unwrap(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn time(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    pub(crate) fn trust(&self) -> Trust {
        let (workloads, operators) = (Some(self.workloads.cert_pem()), Some(self.operators.cert_pem()));
        let texts = CaTexts { services: self.services.cert_pem(), workloads, operators };
        Trust::from_texts(self.domain.clone(), texts).unwrap()
    }

    pub(crate) fn service_id(&self, name: &str) -> SpiffeId {
        SpiffeId::service(&self.domain, &Name::parse(name).unwrap())
    }

    pub(crate) fn agent_id(&self) -> SpiffeId {
        let namespace = Name::parse("payments").unwrap();
        SpiffeId::agent(&self.domain, &namespace, &AgentId::from_parts(1, [7; 10]))
    }

    pub(crate) fn service(&self, name: &str) -> Issued {
        let id = self.service_id(name);
        let ips = [std::net::IpAddr::from([127, 0, 0, 1])];
        let leaf = Leaf { spiffe_id: &id, dns: &["localhost"], ips: &ips, ttl: HOUR };
        self.services.issue(&leaf, self.now()).unwrap()
    }

    pub(crate) fn agent(&self, ttl: Duration) -> Issued {
        let id = self.agent_id();
        self.workloads.issue(&Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl }, self.now()).unwrap()
    }

    pub(crate) async fn listen(&self, limits: Limits) -> Listener {
        let identity = identity(&self.service("registry"));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Listener::bind(any, identity, self.trust(), self.time(), limits).await.unwrap()
    }

    pub(crate) fn client(&self, identity: Identity) -> Connector {
        connector(identity, self.trust(), Expect::Service("registry"), self.time()).unwrap()
    }
}

pub(crate) fn identity(issued: &Issued) -> Identity {
    Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap()
}

/// A leaf made from any parameters at all.
pub(crate) fn issue(ca: &Ca, params: CertificateParams) -> Issued {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ca_key = KeyPair::from_pem(&ca.key_pem()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(ca.cert_pem(), ca_key).unwrap();
    let cert_pem = params.signed_by(&key, &issuer).unwrap().pem();
    Issued { cert_pem, key_pem: key.serialize_pem().into() }
}

/// The parameters of a good leaf, to be spoilt.
pub(crate) fn good(id: &SpiffeId, now: Timestamp) -> CertificateParams {
    pki::leaf_params(&Leaf { spiffe_id: id, dns: &[], ips: &[], ttl: HOUR }, now).unwrap()
}

/// Both ends of one finished handshake.
pub(crate) struct Both {
    pub(crate) server: Conn,
    pub(crate) client: TlsStream<TcpStream>,
}

/// Dials; both ends, or `None` when either side refuses.
pub(crate) async fn meet(
    client: &Connector,
    addr: SocketAddr,
    incoming: &mut ReceiverStream<std::io::Result<Conn>>,
) -> Option<Both> {
    let mut client = client.connect(&addr.to_string()).await.ok()?;
    // In TLS 1.3 the client is done before the server has judged its certificate; a refusal comes as an alert.
    let mut byte = [0u8];
    let both = async {
        tokio::select! {
            server = incoming.next() => Some(server.unwrap().unwrap()),
            _ = client.read(&mut byte) => None,
        }
    };
    let server = tokio::time::timeout(LONG, both).await.unwrap()?;
    Some(Both { server, client })
}

/// The peer that a listener of ours sees in a client with this certificate, or `None` when it is refused.
pub(crate) async fn seen(house: &House, identity: Identity) -> Option<Peer> {
    let listener = house.listen(Limits::default()).await;
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.into_incoming();
    let both = meet(&house.client(identity), addr, &mut incoming).await?;
    Some(both.server.peer().as_ref().clone())
}
