//! The strict reading of a leaf certificate (X.509-SVID specification sections 4 and 5), after its chain was verified.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{BadSpiffeId, Principal, SpiffeId, TrustDomain};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, KeyUsage};
use x509_parser::prelude::FromDer;

use crate::TlsError;

/// The CA that verified a chain; it decides whom its leaves can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// Our services and operators: `/legate/...`.
    Services,
    /// Agents and enforcement points: `/ns/...`.
    Workloads,
    /// Operators who logged in: `/legate/operator/...` and nobody else.
    Operators,
}

impl Root {
    fn certifies(self, principal: &Principal) -> bool {
        match self {
            Self::Services => matches!(principal, Principal::Service(_) | Principal::Operator(_)),
            Self::Workloads => principal.is_workload(),
            Self::Operators => matches!(principal, Principal::Operator(_)),
        }
    }

    fn longest_life(self) -> Duration {
        match self {
            Self::Services => SERVICE_LIFE,
            Self::Workloads => WORKLOAD_LIFE,
            Self::Operators => LOGIN_LIFE,
        }
    }
}

/// What the leaf is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Issuers date certificates back a little, for clocks that are not quite together.
const BACKDATE: u64 = 600;
/// Services and operators: 90 days at most.
const SERVICE_LIFE: Duration = Duration::from_secs(90 * 24 * 3600 + BACKDATE);
/// Workloads: 24 hours at most.
const WORKLOAD_LIFE: Duration = Duration::from_secs(24 * 3600 + BACKDATE);
/// Operators who logged in: an hour at most.
const LOGIN_LIFE: Duration = Duration::from_secs(3600 + BACKDATE);

/// Which rule a certificate breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// Not DER, or more bytes than one certificate.
    #[error("it is not a well-formed X.509 certificate")]
    Malformed,
    /// No subject alternative name of type URI, or several.
    #[error("it has to carry exactly one URI name, a SPIFFE ID (X.509-SVID section 2)")]
    UriNames,
    /// A name of another type, in a certificate of somebody who is no service.
    #[error("the certificate of a workload, or of an operator who logged in, carries its SPIFFE ID and no other name")]
    OtherNames,
    /// The URI is not a SPIFFE ID of ours.
    #[error("its URI name is refused: {0}")]
    SpiffeId(#[from] BadSpiffeId),
    /// Another trust domain.
    #[error("it belongs to another trust domain")]
    TrustDomain,
    /// The id names somebody whom this CA does not certify.
    #[error("the CA that signed it does not certify ids of this kind")]
    WrongRoot,
    /// Not a leaf.
    #[error("it has to be a leaf: basic constraints present with CA:FALSE")]
    Ca,
    /// The key usage is missing or too wide.
    #[error("its key usage has to hold digitalSignature, and neither keyCertSign nor cRLSign")]
    KeyUsage,
    /// The extended key usage is missing or another.
    #[error("its extended key usage has to name clientAuth for a client, serverAuth for a server")]
    ExtendedKeyUsage,
    /// Given as a CA's, and is none.
    #[error("it is not a CA's: basic constraints with CA:TRUE, and keyCertSign where key usage is present")]
    NotCa,
    /// It lives too long.
    #[error(
        "it lives longer than 90 days (services, operators), 24 hours (workloads) or an hour (operators who logged in)"
    )]
    Lifetime,
}

/// What is kept of a leaf that passed.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) principal: Principal,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) serial: Vec<u8>,
}

/// Reads a leaf whose chain `root` verified. Times are not compared with now: the chain's verification did.
pub(crate) fn read(der: &[u8], domain: &TrustDomain, root: Root, side: Side) -> Result<Leaf, BadCertificate> {
    let (rest, cert) = X509Certificate::from_der(der).map_err(|_| BadCertificate::Malformed)?;
    if !rest.is_empty() {
        return Err(BadCertificate::Malformed);
    }
    let spiffe_id = only_uri(&cert, root)?;
    if spiffe_id.trust_domain() != domain.as_str() {
        return Err(BadCertificate::TrustDomain);
    }
    let principal = Principal::of(&spiffe_id)?;
    if !root.certifies(&principal) {
        return Err(BadCertificate::WrongRoot);
    }
    check_usage(&cert, side)?;

    let validity = cert.validity();
    let not_before = Timestamp::from_secs(validity.not_before.timestamp());
    let not_after = Timestamp::from_secs(validity.not_after.timestamp());
    if not_after.since(not_before) > root.longest_life() {
        return Err(BadCertificate::Lifetime);
    }
    Ok(Leaf { spiffe_id, principal, not_before, not_after, serial: cert.raw_serial().to_vec() })
}

/// The one URI name. A service may carry DNS and IP names as well, for web clients that know no SPIFFE.
pub(crate) fn only_uri(cert: &X509Certificate<'_>, root: Root) -> Result<SpiffeId, BadCertificate> {
    let names =
        cert.subject_alternative_name().map_err(|_| BadCertificate::UriNames)?.ok_or(BadCertificate::UriNames)?;
    let mut uris = Vec::new();
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::DNSName(_) | GeneralName::IPAddress(_) if root == Root::Services => {}
            _ => return Err(BadCertificate::OtherNames),
        }
    }
    let [uri] = uris.as_slice() else {
        return Err(BadCertificate::UriNames);
    };
    Ok(SpiffeId::parse(uri)?)
}

pub(crate) fn check_usage(cert: &X509Certificate<'_>, side: Side) -> Result<(), BadCertificate> {
    // Each of these fails when the extension comes twice.
    let basic = cert.basic_constraints().map_err(|_| BadCertificate::Ca)?;
    if basic.is_none_or(|b| b.value.ca) {
        return Err(BadCertificate::Ca);
    }
    let usage = cert.key_usage().map_err(|_| BadCertificate::KeyUsage)?;
    let signs_only = |u: &KeyUsage| u.digital_signature() && !u.key_cert_sign() && !u.crl_sign();
    if !usage.is_some_and(|u| signs_only(u.value)) {
        return Err(BadCertificate::KeyUsage);
    }
    let extended = cert.extended_key_usage().map_err(|_| BadCertificate::ExtendedKeyUsage)?;
    let names_side = |e: &ExtendedKeyUsage<'_>| match side {
        Side::Client => e.client_auth,
        Side::Server => e.server_auth,
    };
    if !extended.is_some_and(|e| names_side(e.value)) {
        return Err(BadCertificate::ExtendedKeyUsage);
    }
    Ok(())
}

/// Whom the leaf of another trust domain names, whose chain was verified (X.509-SVID sections 2 to 4): one URI name, no CA, and a key for
/// signatures alone.
pub(crate) fn foreign_id(der: &[u8]) -> Result<SpiffeId, BadCertificate> {
    let (rest, cert) = X509Certificate::from_der(der).map_err(|_| BadCertificate::Malformed)?;
    if !rest.is_empty() {
        return Err(BadCertificate::Malformed);
    }
    if cert.basic_constraints().map_err(|_| BadCertificate::Ca)?.is_some_and(|b| b.value.ca) {
        return Err(BadCertificate::Ca);
    }
    let usage = cert.key_usage().map_err(|_| BadCertificate::KeyUsage)?;
    if !usage.is_some_and(|u| u.value.digital_signature() && !u.value.key_cert_sign() && !u.value.crl_sign()) {
        return Err(BadCertificate::KeyUsage);
    }
    // A web server may be called by DNS as well.
    only_uri(&cert, Root::Services)
}

/// Certificates in DER one after the other, as the SPIFFE Workload API gives them.
///
/// # Errors
/// When the bytes are anything else.
pub(crate) fn one_after_the_other(der: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (mut left, mut all) = (der, Vec::new());
    while !left.is_empty() {
        let (rest, _) = X509Certificate::from_der(left)
            .map_err(|_| TlsError::Pem("the bytes are not certificates one after the other".into()))?;
        all.push(CertificateDer::from(left[..left.len() - rest.len()].to_vec()));
        left = rest;
    }
    Ok(all)
}

/// Refuses to trust a certificate that is not a CA's.
pub(crate) fn check_ca(der: &[u8]) -> Result<(), BadCertificate> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|_| BadCertificate::Malformed)?;
    let basic = cert.basic_constraints().map_err(|_| BadCertificate::NotCa)?;
    let usage = cert.key_usage().map_err(|_| BadCertificate::NotCa)?;
    let signs = usage.is_none_or(|u| u.value.key_cert_sign());
    if basic.is_some_and(|b| b.value.ca) && signs { Ok(()) } else { Err(BadCertificate::NotCa) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::pki;
    use proptest::prelude::*;

    fn leaf() -> Vec<u8> {
        let now = Timestamp::from_secs(1_800_000_000);
        let ca = pki::Ca::generate("services", now, SERVICE_LIFE).unwrap();
        let id = SpiffeId::parse("spiffe://example.org/legate/registry").unwrap();
        let leaf = pki::Leaf { spiffe_id: &id, dns: &["localhost"], ips: &[], ttl: Duration::from_secs(60) };
        pki::certificates(&ca.issue(&leaf, now).unwrap().cert_pem).unwrap()[0].to_vec()
    }

    proptest! {
        #[test]
        fn broken_bytes_are_refused_without_a_panic(cuts in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8), len in any::<usize>()) {
            static LEAF: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(leaf);
            let domain = TrustDomain::parse("example.org").unwrap();
            prop_assert!(read(&LEAF, &domain, Root::Services, Side::Client).is_ok());
            let mut bytes = LEAF.clone();
            for (at, byte) in cuts {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _refused_or_not = read(&bytes, &domain, Root::Services, Side::Client);
            let _neither_panics = check_ca(&bytes);
            bytes.truncate(len % bytes.len());
            prop_assert!(read(&bytes, &domain, Root::Services, Side::Client).is_err());
            let mut longer = LEAF.clone();
            longer.push(0);
            prop_assert!(read(&longer, &domain, Root::Services, Side::Client).is_err());
        }
    }
}
