//! A CA as it stands at a moment: the certificate and key that sign what is recorded, and every certificate that still verifies.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_token::{EcVerifier as _, P256Verifier, PublicKey, SigningFailed};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SerialNumber};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::{TbsCertificate, X509Certificate};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use super::{KeyError, Signer};
use crate::domain::certificate::{CertificatePlan, Overheard, assemble, to_be_signed};
use crate::store::Recorded;

/// How long a CA certificate that is made here holds.
const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A CA certificate of ours, and the key behind it where it is here.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    pub(crate) public: PublicKey,
    pub(crate) certificate: CertificateDer<'static>,
    /// `None`: the store does not have it.
    pub(crate) signer: Option<Arc<dyn Signer>>,
    pub(crate) is_tainted: bool,
}

/// A CA: that of agents and enforcement points, or that of operators who log in.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    active: Certified,
    /// Those that are on their way out, and may still sign what was recorded while they were the one.
    going: Vec<Certified>,
    /// Those that are yet to sign.
    prepared: Vec<Certified>,
    ends: Timestamp,
}

impl Authority {
    /// `None` when the active certificate cannot be read.
    pub(crate) fn new(active: Certified, going: Vec<Certified>, prepared: Vec<Certified>) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(&active.certificate).ok()?;
        let ends = Timestamp::from_secs(cert.validity().not_after.timestamp());
        Some(Self { active, going, prepared, ends })
    }

    /// The CA certificates that verify those whom it certifies, in DER; the one that signs first.
    pub(crate) fn roots(&self) -> Vec<Vec<u8>> {
        self.all().map(|one| one.certificate.to_vec()).collect()
    }

    /// Those of them whose holders are to renew now.
    pub(crate) fn tainted_roots(&self) -> Vec<Vec<u8>> {
        self.all().filter(|one| one.is_tainted).map(|one| one.certificate.to_vec()).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Certified> {
        std::iter::once(&self.active).chain(&self.prepared).chain(&self.going)
    }

    /// When our own certificate ends.
    pub(crate) fn ends(&self) -> Timestamp {
        self.ends
    }

    /// Whether a certificate in DER is of a CA whose holders are to renew now.
    pub(crate) fn is_of_tainted(&self, certificate: &[u8]) -> bool {
        let Ok((_, cert)) = X509Certificate::from_der(certificate) else { return false };
        self.signed_by(&cert.tbs_certificate).is_some_and(|one| one.is_tainted)
    }

    /// The bytes that a plan would have signed.
    pub(crate) fn to_be_signed(&self, plan: &CertificatePlan) -> Result<Vec<u8>, rcgen::Error> {
        to_be_signed(plan, &self.active.certificate, &self.active.public)
    }

    /// Signs what is recorded, by the key for which it was planned, however long ago; the certificate in DER.
    pub(crate) async fn sign(&self, recorded: &Recorded) -> Result<Vec<u8>, SigningFailed> {
        let bytes = recorded.to_be_signed();
        let (_, planned) = TbsCertificate::from_der(bytes).map_err(|_| SigningFailed)?;
        let by = self.signed_by(&planned).ok_or(SigningFailed)?;
        let signature = by.signer.as_ref().ok_or(SigningFailed)?.sign(bytes).await?;
        // A signer elsewhere may have another key than it says; such a certificate must not leave.
        if !P256Verifier::new(&by.public).verify(bytes, &signature) {
            return Err(SigningFailed);
        }
        Ok(assemble(bytes, &signature))
    }

    /// Which of the certificates a leaf names as its issuer (RFC 5280 section 4.2.1.1).
    fn signed_by(&self, leaf: &TbsCertificate<'_>) -> Option<&Certified> {
        let named = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => None,
        })?;
        self.all().find(|one| key_identifier(&one.certificate).as_deref() == Some(&named[..]))
    }
}

/// What a CA's certificate says its key is called (RFC 5280 section 4.2.1.2).
fn key_identifier(der: &[u8]) -> Option<Vec<u8>> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

/// Whose key a certificate holds.
pub(crate) fn key_of(der: &[u8]) -> Option<PublicKey> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    PublicKey::from_sec1(&cert.public_key().subject_public_key.data).ok()
}

/// When a certificate ends.
pub(crate) fn ends_at(der: &[u8]) -> Option<Timestamp> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    Some(Timestamp::from_secs(cert.validity().not_after.timestamp()))
}

/// A new CA certificate of that name, by and for the key.
pub(crate) async fn self_signed(
    signer: &dyn Signer,
    name: &str,
    now: Timestamp,
) -> Result<CertificateDer<'static>, KeyError> {
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
