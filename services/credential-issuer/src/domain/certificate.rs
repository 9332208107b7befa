//! A certificate in the making: the plan, the bytes to be signed, and the certificate around a signature.

use std::sync::Mutex;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{AgentId, CredentialId, Name, SpiffeId};
use legate_mtls::pki::{Leaf, leaf_params};
use legate_token::PublicKey;
use legate_view::CERTIFICATE_BACKDATE;
use rcgen::{Issuer, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey};
use rustls_pki_types::CertificateDer;

use super::holder::{Holder, LONGEST_CERTIFICATE};

/// A certificate that would end sooner than this is not worth issuing.
const SHORTEST: Duration = Duration::from_secs(60);
/// The longest an operator's certificate lives, whatever is configured.
const LONGEST_LOGIN: Duration = Duration::from_secs(3600);

/// What would be issued. Pure: nothing was written, nothing signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificatePlan {
    pub(crate) credential: CredentialId,
    pub(crate) spiffe_id: SpiffeId,
    /// `None` for an operator, who belongs to none.
    pub(crate) namespace: Option<Name>,
    pub(crate) agent: Option<AgentId>,
    pub(crate) lifecycle_version: u64,
    pub(crate) key: PublicKey,
    pub(crate) serial: [u8; 16],
    /// In whole seconds.
    pub(crate) issued: Timestamp,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// Why nothing can be issued now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPlan {
    #[error("the agent, or its class or namespace, was cut off just now; what is issued at once would be dead")]
    TooSoon,
    #[error("the certificate would end within a minute: the agent, or the CA, ends then")]
    TooShort,
}

/// The names and chance that one certificate needs.
#[derive(Clone, Debug)]
pub(crate) struct Chance {
    pub(crate) credential: CredentialId,
    pub(crate) serial: [u8; 16],
}

impl Chance {
    /// Shapes random bytes.
    pub(crate) fn new(now: Timestamp, id: [u8; 10], mut serial: [u8; 16]) -> Self {
        // RFC 5280 section 4.1.2.2: positive, 20 bytes at most; 126 bits of it are chance.
        serial[0] = (serial[0] & 0x7f) | 0x40;
        let millis = u64::try_from(now.micros() / 1_000).unwrap_or(0);
        Self { credential: CredentialId::from_parts(millis, id), serial }
    }
}

/// Plans a certificate for `holder` and `key`, issued `now` by a CA that ends at `ca_ends`.
///
/// `not_before` is exactly [`CERTIFICATE_BACKDATE`] before the second of issue, since whoever holds a cut-off against
/// a certificate counts back from it. So a certificate is never issued in the second of a cut-off.
pub(crate) fn plan(
    holder: &Holder,
    key: PublicKey,
    now: Timestamp,
    ca_ends: Timestamp,
    chance: Chance,
) -> Result<CertificatePlan, BadPlan> {
    let issued = Timestamp::from_secs(now.secs());
    if !holder.cutoffs.spare(issued) {
        return Err(BadPlan::TooSoon);
    }
    let longest = issued.plus(holder.certificate_ttl.min(LONGEST_CERTIFICATE));
    let ends = holder.ends.unwrap_or(longest).min(ca_ends).min(longest);
    let not_after = Timestamp::from_secs(ends.secs());
    if not_after < issued.plus(SHORTEST) {
        return Err(BadPlan::TooShort);
    }
    Ok(CertificatePlan {
        credential: chance.credential,
        spiffe_id: holder.spiffe_id.clone(),
        namespace: Some(holder.namespace.clone()),
        agent: holder.agent.clone(),
        lifecycle_version: holder.lifecycle_version,
        key,
        serial: chance.serial,
        issued,
        not_before: issued.minus(CERTIFICATE_BACKDATE),
        not_after,
    })
}

/// Plans a certificate for an operator who logged in: as long as `ttl` says, and no longer than the CA.
pub(crate) fn plan_operator(
    spiffe_id: SpiffeId,
    key: PublicKey,
    now: Timestamp,
    (ttl, ca_ends): (Duration, Timestamp),
    chance: Chance,
) -> Result<CertificatePlan, BadPlan> {
    let issued = Timestamp::from_secs(now.secs());
    let not_after = Timestamp::from_secs(ca_ends.min(issued.plus(ttl.min(LONGEST_LOGIN))).secs());
    if not_after < issued.plus(SHORTEST) {
        return Err(BadPlan::TooShort);
    }
    Ok(CertificatePlan {
        credential: chance.credential,
        spiffe_id,
        namespace: None,
        agent: None,
        lifecycle_version: 0,
        key,
        serial: chance.serial,
        issued,
        not_before: issued.minus(CERTIFICATE_BACKDATE),
        not_after,
    })
}

/// The TBSCertificate (RFC 5280 section 4.1) of a plan, under the CA's certificate and key.
pub(crate) fn to_be_signed(
    plan: &CertificatePlan,
    ca: &CertificateDer<'_>,
    ca_key: &PublicKey,
) -> Result<Vec<u8>, rcgen::Error> {
    let leaf = Leaf { spiffe_id: &plan.spiffe_id, dns: &[], ips: &[], ttl: Duration::ZERO };
    let mut params = leaf_params(&leaf, plan.issued).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
    let time = |t: Timestamp| t.to_datetime().ok_or(rcgen::Error::Time);
    params.not_before = time(plan.not_before)?;
    params.not_after = time(plan.not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(&plan.serial));
    let overheard = Overheard::new(ca_key);
    params.signed_by(&Spki(&plan.key), &Issuer::from_ca_cert_der(ca, &overheard)?)?;
    Ok(overheard.heard())
}

/// A certificate: the to-be-signed bytes, ecdsa-with-SHA256, and the signature (RFC 5280 section 4.1.1, RFC 5758 section 3.2).
pub(crate) fn assemble(to_be_signed: &[u8], signature: &[u8; 64]) -> Vec<u8> {
    const ECDSA_WITH_SHA256: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let (r, s) = signature.split_at(32);
    let mut bits = vec![0u8];
    bits.extend(tagged(0x30, &[integer(r), integer(s)].concat()));
    tagged(0x30, &[to_be_signed, &ECDSA_WITH_SHA256, &tagged(0x03, &bits)].concat())
}

/// A positive INTEGER in DER.
fn integer(big_endian: &[u8]) -> Vec<u8> {
    let zeros = big_endian.iter().take_while(|b| **b == 0).count();
    let mut digits = big_endian[zeros..].to_vec();
    if digits.first().is_none_or(|b| b & 0x80 != 0) {
        digits.insert(0, 0);
    }
    tagged(0x02, &digits)
}

/// Tag, length and content in DER.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let zeros = length.iter().take_while(|b| **b == 0).count();
            let digits = &length[zeros..];
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
            out.extend(digits);
        }
    }
    out.extend(content);
    out
}

struct Spki<'a>(&'a PublicKey);

impl PublicKeyData for Spki<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.as_sec1()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Stands where rcgen wants a key that signs, signs nothing, and keeps what was to be signed.
pub(crate) struct Overheard<'a> {
    key: &'a PublicKey,
    heard: Mutex<Vec<u8>>,
}

impl<'a> Overheard<'a> {
    pub(crate) fn new(key: &'a PublicKey) -> Self {
        Self { key, heard: Mutex::default() }
    }

    /// What was last to be signed.
    pub(crate) fn heard(self) -> Vec<u8> {
        self.heard.into_inner().unwrap_or_default()
    }
}

impl PublicKeyData for Overheard<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.as_sec1()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Overheard<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mut heard = self.heard.lock().map_err(|_| rcgen::Error::RemoteKeyError)?;
        *heard = message.to_vec();
        Ok(vec![0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_shortest_and_positive() {
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(tagged(4, &[7; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(tagged(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
    }

    proptest! {
        #[test]
        fn serials_are_positive_and_never_short(id: [u8; 10], serial: [u8; 16], secs in 0i64..4_000_000_000) {
            let chance = Chance::new(Timestamp::from_secs(secs), id, serial);
            prop_assert!((0x40..0x80).contains(&chance.serial[0]));
            prop_assert_eq!(&chance.serial[1..], &serial[1..]);
        }
    }
}
