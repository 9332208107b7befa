//! Signatures by the keys of certificates, of what is no handshake: made by who we are, verified by a certificate alone.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use legate_clock::Timestamp;
use legate_ids::SpiffeId;
use rustls::SignatureScheme;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::certificate::{BadCertificate, Root, Side, check_usage, only_uri};
use crate::identity::Identity;

/// ECDSA by P-256 with SHA-256, as RFC 8446 section 4.2.3 numbers it.
pub const ECDSA_P256_SHA256: u16 = 0x0403;

/// A signature, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// How it is signed: [`ECDSA_P256_SHA256`].
    pub scheme: u16,
    /// The signature in DER.
    pub signature: Vec<u8>,
    /// The certificate of the key, and those behind it, in DER.
    pub chain: Vec<Vec<u8>>,
}

/// What a key signs for a purpose: the purpose's name, a zero byte, the message. With the same key a handshake signs what begins with 64
/// spaces (RFC 8446 section 4.4.3), a request for a certificate what begins with a DER sequence, and an assertion what holds no zero byte.
fn to_be_signed(purpose: &str, message: &[u8]) -> Vec<u8> {
    debug_assert!(purpose.bytes().all(|b| b.is_ascii_graphic()) && !purpose.starts_with('0'));
    [purpose.as_bytes(), &[0], message].concat()
}

impl Identity {
    /// Signs a message for a purpose with the key of our certificate. `None`: we show none, or its key is not of P-256.
    #[must_use]
    pub fn sign(&self, purpose: &str, message: &[u8]) -> Option<Signed> {
        let current = self.key()?;
        let signer = current.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])?;
        let signature = signer.sign(&to_be_signed(purpose, message));
        let signature = signature.inspect_err(|error| tracing::error!(%error, "our key does not sign")).ok()?;
        let chain = current.cert.iter().map(|one| one.to_vec()).collect();
        Some(Signed { scheme: ECDSA_P256_SHA256, signature, chain })
    }
}

/// Whoever a certificate names. That a CA vouches for it is another question: [`Trust::vouches_for`](crate::Trust::vouches_for).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatory {
    /// Whom it names.
    pub spiffe_id: SpiffeId,
    /// From when it holds.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    key: Vec<u8>,
}

impl Signatory {
    /// Reads a leaf certificate in DER.
    ///
    /// # Errors
    /// [`BadCertificate`]: it is no leaf of ours.
    pub fn read(der: &[u8]) -> Result<Self, BadCertificate> {
        let (rest, cert) = X509Certificate::from_der(der).map_err(|_| BadCertificate::Malformed)?;
        if !rest.is_empty() {
            return Err(BadCertificate::Malformed);
        }
        let spiffe_id = only_uri(&cert, Root::Services)?;
        check_usage(&cert, Side::Client)?;
        let validity = cert.validity();
        Ok(Self {
            spiffe_id,
            not_before: Timestamp::from_secs(validity.not_before.timestamp()),
            not_after: Timestamp::from_secs(validity.not_after.timestamp()),
            key: cert.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// Whether this one's key signed the message for the purpose.
    #[must_use]
    pub fn signed(&self, scheme: u16, purpose: &str, message: &[u8], signature: &[u8]) -> bool {
        // A point that is not on the curve is no key, and verifies nothing.
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.key);
        scheme == ECDSA_P256_SHA256 && key.verify(&to_be_signed(purpose, message), signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use super::*;
    use crate::pki;
    use proptest::prelude::*;

    fn identity() -> Identity {
        let now = Timestamp::from_secs(1_800_000_000);
        let ca = pki::Ca::generate("services", now, Duration::from_secs(3_600)).unwrap();
        let id = SpiffeId::parse("spiffe://example.org/legate/registry").unwrap();
        let leaf = pki::Leaf { spiffe_id: &id, dns: &["localhost"], ips: &[], ttl: Duration::from_secs(60) };
        let issued = ca.issue(&leaf, now).unwrap();
        Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap()
    }

    #[test]
    fn what_a_key_signed_is_verified_by_its_certificate_and_for_its_purpose_only() {
        let me = identity();
        let signed = me.sign("a/1", b"message").unwrap();
        let who = Signatory::read(&signed.chain[0]).unwrap();
        assert_eq!(Some(&who.spiffe_id), me.spiffe_id().as_ref());
        assert!(who.signed(signed.scheme, "a/1", b"message", &signed.signature));
        assert!(!who.signed(signed.scheme, "b/1", b"message", &signed.signature));
        assert!(!who.signed(signed.scheme, "a/1", b"another", &signed.signature));
        assert!(!who.signed(0x0503, "a/1", b"message", &signed.signature));
        let other = Signatory::read(&identity().sign("a/1", b"").unwrap().chain[0]).unwrap();
        assert!(!other.signed(signed.scheme, "a/1", b"message", &signed.signature));
        assert_eq!(Identity::anonymous().sign("a/1", b"message"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in any::<usize>(), byte in any::<u8>(), signature in prop::collection::vec(any::<u8>(), 0..90)) {
            static SIGNED: std::sync::LazyLock<Signed> = std::sync::LazyLock::new(|| identity().sign("a/1", b"m").unwrap());
            let mut der = SIGNED.chain[0].clone();
            let at = at % der.len();
            der[at] = byte;
            if let Ok(who) = Signatory::read(&der) {
                let _either = who.signed(SIGNED.scheme, "a/1", b"m", &SIGNED.signature);
            }
            let who = Signatory::read(&SIGNED.chain[0]).unwrap();
            prop_assert!(!who.signed(SIGNED.scheme, "a/1", b"m", &signature));
        }
    }
}
