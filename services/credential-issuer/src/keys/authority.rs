//! The CAs that are held here: each one's certificate, which others trust, and the key behind it, which signs what is recorded, and nothing else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_mtls::pki::{certificates, to_pem, write_public};
use legate_token::{EcVerifier as _, P256Verifier, PublicKey, SigningFailed};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SerialNumber};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::{KeyError, Signer};
use crate::domain::certificate::{CertificatePlan, Overheard, assemble, to_be_signed};
use crate::store::Recorded;

/// How long a CA certificate that is made here holds.
const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A CA: that of agents and enforcement points, or that of operators who log in.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    signer: Arc<dyn Signer>,
    /// Ours first, then others that verifiers still trust.
    roots: Arc<[CertificateDer<'static>]>,
    ends: Timestamp,
}

impl Authority {
    /// Reads the CA's certificate from `path`, or makes one of that name for the key and writes it there, where others read it.
    pub(crate) async fn open(
        signer: Arc<dyn Signer>,
        path: &Path,
        name: &str,
        now: Timestamp,
    ) -> Result<Self, KeyError> {
        let mut roots = match std::fs::read_to_string(path) {
            Ok(pem) => certificates(&pem).map_err(|e| KeyError::file(path, e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let made = self_signed(signer.as_ref(), name, now).await?;
                write_public(path, &to_pem(&made)).map_err(|e| KeyError::file(path, e))?;
                tracing::info!(path = %path.display(), "a new CA was made");
                vec![made]
            }
            Err(e) => return Err(KeyError::file(path, e)),
        };
        let ours = roots.iter().position(|der| key_of(der).as_ref() == Some(signer.public_key())).ok_or_else(|| {
            let why = "no certificate in it is of the CA key that is kept here; restore the key that belongs to it, or \
                       move the file away so that a new CA is made (then everybody whom it certified has to enrol or log in again)";
            KeyError::file(path, why)
        })?;
        roots.swap(0, ours);
        let (_, cert) = X509Certificate::from_der(&roots[0]).map_err(|e| KeyError::file(path, e))?;
        let ends = Timestamp::from_secs(cert.validity().not_after.timestamp());
        if ends <= now {
            return Err(KeyError::file(path, "the CA certificate has expired; move it away so that a new one is made"));
        }
        Ok(Self { signer, roots: roots.into(), ends })
    }

    /// The CA certificates that verify those whom it certifies, in DER.
    pub(crate) fn roots(&self) -> Vec<Vec<u8>> {
        self.roots.iter().map(|der| der.to_vec()).collect()
    }

    /// When our own certificate ends.
    pub(crate) fn ends(&self) -> Timestamp {
        self.ends
    }

    /// The CA's public key; nobody may have it certified for himself.
    pub(crate) fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    /// The bytes that a plan would have signed.
    pub(crate) fn to_be_signed(&self, plan: &CertificatePlan) -> Result<Vec<u8>, rcgen::Error> {
        to_be_signed(plan, &self.roots[0], self.signer.public_key())
    }

    /// Signs what is recorded; the certificate in DER.
    pub(crate) async fn sign(&self, recorded: &Recorded) -> Result<Vec<u8>, SigningFailed> {
        let signature = self.signer.sign(recorded.to_be_signed()).await?;
        // A signer elsewhere may have another key than it says; such a certificate must not leave.
        let ours = P256Verifier::new(self.signer.public_key());
        if !ours.verify(recorded.to_be_signed(), &signature) {
            return Err(SigningFailed);
        }
        Ok(assemble(recorded.to_be_signed(), &signature))
    }
}

fn key_of(der: &[u8]) -> Option<PublicKey> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    PublicKey::from_sec1(&cert.public_key().subject_public_key.data).ok()
}

async fn self_signed(signer: &dyn Signer, name: &str, now: Timestamp) -> Result<CertificateDer<'static>, KeyError> {
    let bytes = {
        let broken = |e: rcgen::Error| KeyError::File { what: "the CA certificate".into(), why: e.to_string() };
        let time = |t: Timestamp| t.to_datetime().ok_or_else(|| broken(rcgen::Error::Time));
        let mut params = CertificateParams::default();
        params.not_before = time(now.minus(legate_view::CERTIFICATE_BACKDATE))?;
        params.not_after = time(now.plus(LIFE))?;
        let mut serial = [0u8; 16];
        aws_lc_rs::rand::fill(&mut serial).map_err(|_| KeyError::NoRandomness)?;
        serial[0] = (serial[0] & 0x7f) | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let overheard = Overheard::new(signer.public_key());
        params.self_signed(&overheard).map_err(broken)?;
        overheard.heard()
    };
    let failed = |e: SigningFailed| KeyError::File { what: "the CA key".into(), why: e.to_string() };
    let signature = signer.sign(&bytes).await.map_err(failed)?;
    Ok(CertificateDer::from(assemble(&bytes, &signature)))
}
