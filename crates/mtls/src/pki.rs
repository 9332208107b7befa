//! Making CAs and certificates, and keeping keys in files that nobody else can read.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::SpiffeId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::TlsError;

/// A certificate authority: its certificate and the key that signs.
pub struct Ca {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca(key hidden)")
    }
}

/// What a leaf certificate shall say.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    /// Whom it names.
    pub spiffe_id: &'a SpiffeId,
    /// DNS names for web clients; for services only.
    pub dns: &'a [&'a str],
    /// IP addresses for web clients; for services only.
    pub ips: &'a [IpAddr],
    /// How long it holds from now.
    pub ttl: Duration,
}

/// A certificate and its new private key.
#[derive(Debug)]
pub struct Issued {
    /// The leaf certificate in PEM.
    pub cert_pem: String,
    /// Its private key, PKCS #8 in PEM.
    pub key_pem: Zeroizing<String>,
}

impl Ca {
    /// A new CA with a P-256 key, self-signed.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(common_name: &str, now: Timestamp, ttl: Duration) -> Result<Self, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params_between(now, ttl)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert_pem = params.self_signed(&key)?.pem();
        Ok(Self { cert_pem, issuer: Issuer::new(params, key) })
    }

    /// A CA from its certificate and key in PEM.
    ///
    /// # Errors
    /// When a text is broken.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let key = KeyPair::from_pem(key_pem)?;
        Ok(Self { cert_pem: cert_pem.to_owned(), issuer: Issuer::from_ca_cert_pem(cert_pem, key)? })
    }

    /// The CA's certificate in PEM.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The CA's key, PKCS #8 in PEM.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Makes a key and a certificate for it.
    ///
    /// # Errors
    /// When a name is not one, or the system gives no randomness.
    pub fn issue(&self, leaf: &Leaf<'_>, now: Timestamp) -> Result<Issued, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let cert = leaf_params(leaf, now)?.signed_by(&key, &self.issuer)?;
        Ok(Issued { cert_pem: cert.pem(), key_pem: Zeroizing::new(key.serialize_pem()) })
    }
}

/// The parameters of a leaf: X.509-SVID specification section 4.
///
/// # Errors
/// When a name is not one, or the system gives no randomness.
pub fn leaf_params(leaf: &Leaf<'_>, now: Timestamp) -> Result<CertificateParams, TlsError> {
    let mut params = params_between(now, leaf.ttl)?;
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(leaf.spiffe_id.as_str().try_into()?)];
    for dns in leaf.dns {
        params.subject_alt_names.push(SanType::DnsName((*dns).try_into()?));
    }
    params.subject_alt_names.extend(leaf.ips.iter().map(|ip| SanType::IpAddress(*ip)));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params_between(now: Timestamp, ttl: Duration) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::default();
    let time = |t: Timestamp| {
        t.to_datetime().ok_or_else(|| TlsError::Pem("a certificate's time lies outside years 0 to 9999".into()))
    };
    // A minute for clocks that are not quite together.
    params.not_before = time(now.minus(Duration::from_secs(60)))?;
    params.not_after = time(now.plus(ttl))?;
    params.serial_number = Some(random_serial()?);
    Ok(params)
}

/// A serial number of 127 random bits (RFC 5280 section 4.1.2.2: positive, 20 bytes at most).
///
/// # Errors
/// When the system gives no randomness.
pub fn random_serial() -> Result<SerialNumber, TlsError> {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TlsError::Pem("the system gives no randomness".into()))?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// A certificate in DER as PEM.
#[must_use]
pub fn to_pem(cert: &CertificateDer<'_>) -> String {
    let text = base64(cert);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|b| char::from(*b)));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

fn base64(bytes: &[u8]) -> String {
    use base64ct::Encoding;
    base64ct::Base64::encode_string(bytes)
}

/// Every certificate in a PEM text, in DER.
///
/// # Errors
/// When the text is broken or holds none.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| TlsError::Pem(format!("not a PEM certificate: {e}")))?;
    if all.is_empty() {
        return Err(TlsError::Pem("no certificate in the text".into()));
    }
    Ok(all)
}

/// Whether a certificate in DER is a CA's.
#[must_use]
pub fn is_ca(der: &[u8]) -> bool {
    crate::certificate::check_ca(der).is_ok()
}

/// Writes a file that only its owner can read (mode 0600), whole or not at all.
///
/// # Errors
/// When the directory cannot be written.
pub fn write_private(path: &Path, text: &str) -> Result<(), TlsError> {
    write(path, text, 0o600)
}

/// Writes a file that everybody can read (mode 0644), whole or not at all.
///
/// # Errors
/// When the directory cannot be written.
pub fn write_public(path: &Path, text: &str) -> Result<(), TlsError> {
    write(path, text, 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let work = || -> std::io::Result<()> {
        let _left_over = std::fs::remove_file(&new);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        // The rename itself has to outlive a power cut.
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    work().map_err(TlsError::file(path))
}

/// Refuses a private key that its group or others can read.
///
/// # Errors
/// [`TlsError::OpenKey`], or [`TlsError::File`] when there is no such file.
pub fn refuse_open_key(path: &Path) -> Result<(), TlsError> {
    let mode = std::fs::metadata(path).map_err(TlsError::file(path))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(TlsError::OpenKey { path: path.to_owned(), mode })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn keys_are_written_for_their_owner_only_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tls.key");
        std::fs::write(&path, "an older key, longer than the new one").unwrap();
        refuse_open_key(&path).unwrap_err();
        std::fs::write(dir.path().join("tls.key.new"), "left over by a crash").unwrap();
        write_private(&path, "new").unwrap();
        refuse_open_key(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        write_private(&dir.path().join("none/tls.key"), "new").unwrap_err();
        refuse_open_key(&dir.path().join("none")).unwrap_err();
    }

    #[test]
    fn a_ca_is_the_same_after_it_was_kept() {
        let now = Timestamp::from_secs(1_800_000_000);
        let ca = Ca::generate("services", now, Duration::from_secs(3_600)).unwrap();
        let kept = Ca::from_pem(ca.cert_pem(), &ca.key_pem()).unwrap();
        let id = SpiffeId::parse("spiffe://example.org/legate/registry").unwrap();
        let leaf = Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: Duration::from_secs(60) };
        let (one, two) = (kept.issue(&leaf, now).unwrap(), kept.issue(&leaf, now).unwrap());
        assert_ne!(one.cert_pem, two.cert_pem);
        assert!(!format!("{ca:?}{kept:?}{one:?}").contains("PRIVATE"));
        let der = certificates(&one.cert_pem).unwrap().remove(0);
        assert_eq!(to_pem(&der).replace(['\r', '\n'], ""), one.cert_pem.replace(['\r', '\n'], ""));
        certificates("").unwrap_err();
    }

    #[test]
    fn serial_numbers_are_positive_random_and_not_too_long() {
        let all: std::collections::HashSet<Vec<u8>> = (0..64).map(|_| random_serial().unwrap().to_bytes()).collect();
        assert_eq!(all.len(), 64);
        assert!(all.iter().all(|s| s.len() == 16 && s[0] & 0x80 == 0));
    }
}
