//! Mutual TLS over a socket of the machine, for workloads alone: whoever connects shows an X.509-SVID of the trust domain, or gets nowhere.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use legate_clock::{Clock, Timestamp};
use legate_ids::{SpiffeId, TrustDomain};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certificate::{self, Root, Side};
use crate::foreign::Foreigner;
use crate::trust::Authorities;
use crate::{Identity, OurTime, TlsError, verifier};

/// A handshake that takes longer is ended.
const DEADLINE: Duration = Duration::from_secs(3);

/// Takes connections of workloads. Clones share whom they believe.
#[derive(Clone)]
pub struct LocalAcceptor {
    tls: TlsAcceptor,
    trust: Arc<Workloads>,
    clock: Arc<dyn Clock>,
}

/// A connection that a workload made.
#[derive(Debug)]
pub struct LocalStream<S>(TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for LocalStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LocalStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Who connected.
#[derive(Clone, Debug)]
pub struct LocalPeer {
    /// Its SPIFFE ID, with the instance.
    pub spiffe_id: SpiffeId,
    /// When its certificate ends.
    pub not_after: Timestamp,
}

impl std::fmt::Debug for LocalAcceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalAcceptor")
    }
}

impl LocalAcceptor {
    /// Shows `identity`, and believes nobody until it is told whom.
    ///
    /// # Errors
    /// When the provider lacks TLS 1.3 (it does not).
    pub fn new(identity: Identity, domain: TrustDomain, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let trust = Arc::new(Workloads { domain, authorities: ArcSwapOption::empty() });
        let mut config = ServerConfig::builder_with_details(crate::provider(), Arc::new(OurTime(Arc::clone(&clock))))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::clone(&trust) as Arc<dyn ClientCertVerifier>)
            .with_cert_resolver(Arc::new(identity));
        // A resumed session would let a client in without its certificate being verified again.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { tls: TlsAcceptor::from(Arc::new(config)), trust, clock })
    }

    /// Believes the workloads' CA certificates of a PEM text from now on, and no others.
    ///
    /// # Errors
    /// When there is none, or one is not a CA's; then those of before stay.
    pub fn believe(&self, workloads: &str) -> Result<(), TlsError> {
        self.trust.authorities.store(Some(Arc::new(Authorities::read(workloads.as_bytes())?)));
        Ok(())
    }

    /// Takes a connection, within three seconds.
    ///
    /// # Errors
    /// When the handshake fails, or the other end is no workload of the trust domain.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(LocalStream<S>, LocalPeer)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no handshake within 3 s");
        let stream = tokio::time::timeout(DEADLINE, self.tls.accept(stream)).await.unwrap_or_else(|_| Err(late()))?;
        let Some([leaf, intermediates @ ..]) = stream.get_ref().1.peer_certificates() else {
            return Err(io::Error::other("no certificate"));
        };
        let secs = u64::try_from(self.clock.now().secs()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let read = self.trust.read(leaf, intermediates, now).map_err(io::Error::other)?;
        let peer = LocalPeer { spiffe_id: read.spiffe_id, not_after: read.not_after };
        Ok((LocalStream(stream), peer))
    }
}

/// The other end: dials a node helper's socket as a workload, and demands the node's SPIFFE ID.
#[derive(Clone)]
pub struct LocalConnector {
    tls: TlsConnector,
}

impl std::fmt::Debug for LocalConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalConnector")
    }
}

impl LocalConnector {
    /// Shows `identity`, and believes the workloads' CA certificates, in DER, about `node`.
    ///
    /// # Errors
    /// When there is no certificate, or one is not a CA's.
    pub fn new(
        identity: Identity,
        workloads: &[Vec<u8>],
        node: SpiffeId,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let mut config = ClientConfig::builder_with_details(crate::provider(), Arc::new(OurTime(clock)))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Foreigner::new(workloads, node)?))
            .with_client_cert_resolver(Arc::new(identity));
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_sni = false;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Shakes hands over a connection, within three seconds.
    ///
    /// # Errors
    /// When the other end is somebody else, or does not believe us.
    pub async fn connect<S>(&self, stream: S) -> io::Result<tokio_rustls::client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no handshake within 3 s");
        // The verifier goes by SPIFFE ID, so this name is neither sent nor compared.
        let name = ServerName::try_from("legate.invalid").map_err(io::Error::other)?;
        tokio::time::timeout(DEADLINE, self.tls.connect(name, stream)).await.unwrap_or_else(|_| Err(late()))
    }
}

/// The workloads' CA certificates, and what rustls asks of them.
#[derive(Debug)]
struct Workloads {
    domain: TrustDomain,
    authorities: ArcSwapOption<Authorities>,
}

impl Workloads {
    fn read(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<certificate::Leaf, Error> {
        let authorities = self.authorities.load();
        let nobody = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        authorities.as_ref().ok_or(nobody)?.verify(leaf, intermediates, now, Side::Client)?;
        certificate::read(leaf, &self.domain, Root::Workloads, Side::Client).map_err(|why| {
            tracing::warn!(%why, "certificate refused");
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
        })
    }
}

impl ClientCertVerifier for Workloads {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.read(leaf, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verifier::verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        verifier::schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::pki::{self, Ca, Leaf};
    use legate_clock::TestClock;

    const HOUR: Duration = Duration::from_secs(3_600);
    const NODE: &str = "spiffe://example.org/ns/ops/node/vm-1";
    const AGENT: &str = "spiffe://example.org/ns/pay/agent/agt_01jzzzzzzzfzz8zzzzzzzzzzzz";

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    fn ca() -> Ca {
        Ca::generate("workloads", now(), HOUR).unwrap()
    }

    fn certified(ca: &Ca, id: &str) -> Identity {
        let id = SpiffeId::parse(id).unwrap();
        let issued = ca.issue(&Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: HOUR }, now()).unwrap();
        Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap()
    }

    fn der(ca: &Ca) -> Vec<Vec<u8>> {
        vec![pki::certificates(ca.cert_pem()).unwrap()[0].to_vec()]
    }

    /// Whom the acceptor takes the other end for, where both ends agree.
    async fn met(acceptor: &LocalAcceptor, connector: &LocalConnector) -> Option<String> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (accepted, connected) = tokio::join!(acceptor.accept(ours), async {
            // In TLS 1.3 a client hears of its refusal when it reads.
            let mut stream = connector.connect(theirs).await?;
            tokio::io::AsyncWriteExt::shutdown(&mut stream).await?;
            io::Result::Ok(())
        });
        connected.ok()?;
        accepted.ok().map(|(_, peer)| peer.spiffe_id.to_string())
    }

    #[tokio::test]
    async fn only_workloads_of_the_trust_domain_get_in() {
        let (ours, other) = (ca(), ca());
        let clock = TestClock::at(now());
        let domain = TrustDomain::parse("example.org").unwrap();
        let acceptor = LocalAcceptor::new(certified(&ours, NODE), domain, clock.clone()).unwrap();
        let connector = |identity: Identity, roots: &Ca, node: &str| {
            LocalConnector::new(identity, &der(roots), SpiffeId::parse(node).unwrap(), clock.clone()).unwrap()
        };
        let agent = || certified(&ours, AGENT);
        assert_eq!(met(&acceptor, &connector(agent(), &ours, NODE)).await, None, "nobody is believed yet");
        acceptor.believe(ours.cert_pem()).unwrap();
        assert_eq!(met(&acceptor, &connector(agent(), &ours, NODE)).await.as_deref(), Some(AGENT));
        for (what, identity) in [
            ("nobody", Identity::anonymous()),
            ("by another CA", certified(&other, AGENT)),
            ("of another trust domain", certified(&ours, &AGENT.replace("example.org", "example.com"))),
            ("a service", certified(&ours, "spiffe://example.org/legate/registry")),
        ] {
            assert_eq!(met(&acceptor, &connector(identity, &ours, NODE)).await, None, "{what}");
        }
        // Nor does the other end speak to somebody else than the node.
        let elsewhere = NODE.replace("vm-1", "vm-2");
        assert_eq!(met(&acceptor, &connector(agent(), &ours, &elsewhere)).await, None);
        assert_eq!(met(&acceptor, &connector(agent(), &other, NODE)).await, None);
        acceptor.believe("no certificate").unwrap_err();
        assert_eq!(
            met(&acceptor, &connector(agent(), &ours, NODE)).await.as_deref(),
            Some(AGENT),
            "those of before stay"
        );
        acceptor.believe(other.cert_pem()).unwrap();
        assert_eq!(met(&acceptor, &connector(agent(), &ours, NODE)).await, None);
    }
}
