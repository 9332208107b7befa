//! Dialling a web server of another trust domain: by its SPIFFE ID, under the CA certificates of its bundle and nobody else's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use legate_clock::Clock;
use legate_ids::SpiffeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{OurTime, TlsError, certificate, verifier, web};

/// Dials servers that show an X.509-SVID of another trust domain, over TLS 1.3, as nobody.
#[derive(Clone)]
pub struct ForeignConnector {
    tls: TlsConnector,
}

impl std::fmt::Debug for ForeignConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ForeignConnector")
    }
}

impl ForeignConnector {
    /// Believes the CA certificates of a bundle, in DER, about the server of this SPIFFE ID (SPIFFE Federation section 5.2.2.4).
    ///
    /// # Errors
    /// When there is no certificate, or one is not a CA's.
    pub fn new(authorities: &[Vec<u8>], id: SpiffeId, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let verifier = Foreigner::new(authorities, id)?;
        let mut config = rustls::ClientConfig::builder_with_details(crate::provider(), Arc::new(OurTime(clock)))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Connects to exactly this address; `host` is what it is told that it is called. Bounded by the caller's patience only.
    ///
    /// # Errors
    /// When nothing answers, or its certificate is somebody else's or by a CA that is not believed.
    pub async fn connect(&self, address: SocketAddr, host: &str) -> io::Result<TlsStream<TcpStream>> {
        web::connect(&self.tls, address, host).await
    }
}

/// Checks that the server is the one of that SPIFFE ID; how it is called does not count.
#[derive(Debug)]
pub(crate) struct Foreigner {
    roots: RootCertStore,
    id: SpiffeId,
}

impl Foreigner {
    pub(crate) fn new(authorities: &[Vec<u8>], id: SpiffeId) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for der in authorities {
            certificate::check_ca(der)?;
            roots.add(CertificateDer::from(der.as_slice()))?;
        }
        if roots.is_empty() {
            return Err(TlsError::Pem("no CA certificate in the bundle".into()));
        }
        Ok(Self { roots, id })
    }
}

impl ServerCertVerifier for Foreigner {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = crate::provider().signature_verification_algorithms.all;
        let parsed = rustls::server::ParsedCertificate::try_from(leaf)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        match certificate::foreign_id(leaf) {
            Ok(found) if found == self.id => Ok(ServerCertVerified::assertion()),
            Ok(found) => {
                tracing::warn!(%found, expected = %self.id, "the server is somebody else");
                Err(Error::InvalidCertificate(CertificateError::NotValidForName))
            }
            Err(why) => Err(Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(why))))),
        }
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
