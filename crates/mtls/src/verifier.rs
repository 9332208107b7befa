//! What rustls asks during a handshake: is this client, or this server, one whom we believe?

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::certificate::Side;
use crate::{Allow, Expect, Identity, Trust};

/// Asks every client for a certificate and checks it strictly. Without a list it lets those without one in as nobody.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) trust: Trust,
    /// Who alone gets in.
    pub(crate) allow: Option<Allow>,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.allow.is_some()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let leaf = self.trust.verify(leaf, intermediates, now, Side::Client)?;
        if self.allow.as_ref().is_none_or(|allow| allow.has(&leaf.spiffe_id)) {
            return Ok(ClientCertVerified::assertion());
        }
        tracing::info!(found = %leaf.spiffe_id, "a client is refused that is not on the list");
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
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
        verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// Checks that the server is the one that is expected, by its SPIFFE ID and not by a DNS name.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) trust: Trust,
    pub(crate) expect: Expect,
    /// As whom it speaks; with no certificate in it, to nobody.
    pub(crate) needs: Option<Identity>,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.needs.as_ref().is_some_and(|own| own.key().is_none()) {
            return Err(Error::General("there is no certificate to show, so nobody is spoken to".into()));
        }
        let leaf = self.trust.verify(leaf, intermediates, now, Side::Server)?;
        if self.expect.is_met_by(&leaf) {
            return Ok(ServerCertVerified::assertion());
        }
        tracing::warn!(found = %leaf.spiffe_id, expected = ?self.expect, "the server is somebody else");
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
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
        verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

pub(crate) fn verify_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let provider = crate::provider();
    rustls::crypto::verify_tls13_signature(message, cert, dss, &provider.signature_verification_algorithms)
}

pub(crate) fn schemes() -> Vec<SignatureScheme> {
    crate::provider().signature_verification_algorithms.supported_schemes()
}
