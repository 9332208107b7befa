//! A runtime's own P-256 key: made here, kept here, shown to nobody.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use p256::pkcs8::DecodePrivateKey as _;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::CertificateDer;
use zeroize::{Zeroize as _, Zeroizing};

use crate::ClientError;

/// A private key and what can be asked of it.
pub struct RuntimeKey(KeyPair);

impl std::fmt::Debug for RuntimeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RuntimeKey(hidden)")
    }
}

impl RuntimeKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, ClientError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(ClientError::key)
    }

    /// Reads a key from PKCS #8 PEM.
    ///
    /// # Errors
    /// When the text is not a P-256 key.
    pub fn from_pem(pem: &str) -> Result<Self, ClientError> {
        KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256).map(Self).map_err(ClientError::key)
    }

    /// The key as PKCS #8 PEM, to be kept in a file of mode 0600.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// The key as PKCS #8 DER, for whoever it was made for.
    #[must_use]
    pub fn to_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    /// The key as a private JWK (RFC 7517), to be kept in a file of mode 0600: what OAuth libraries sign client assertions
    /// with.
    ///
    /// # Errors
    /// When the key cannot be read back (it can).
    pub fn to_private_jwk(&self) -> Result<Zeroizing<String>, ClientError> {
        let key = self.secret()?;
        let d = Zeroizing::new(Base64UrlUnpadded::encode_string(&Zeroizing::new(key.to_bytes())));
        let mut jwk = members(&key);
        jwk.push_str(",\"d\":\"");
        jwk.push_str(&d);
        jwk.push_str("\"}");
        Ok(Zeroizing::new(jwk))
    }

    /// The public half as a JWK, to be registered.
    ///
    /// # Errors
    /// As [`RuntimeKey::to_private_jwk`].
    pub fn to_public_jwk(&self) -> Result<String, ClientError> {
        Ok(members(&self.secret()?) + "}")
    }

    fn secret(&self) -> Result<p256::SecretKey, ClientError> {
        let der = Zeroizing::new(self.0.serialize_der());
        p256::SecretKey::from_pkcs8_der(&der).map_err(|_| ClientError::Key("the key is not a P-256 key".into()))
    }

    /// A certificate request (PKCS #10, RFC 2986) in DER that proves the key is held. It names nobody: the issuer does that.
    ///
    /// # Errors
    /// When signing fails.
    pub fn request(&self) -> Result<Vec<u8>, ClientError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(ClientError::key)?;
        Ok(request.der().to_vec())
    }
}

/// Leaves nothing of the key in memory that was ours.
impl Drop for RuntimeKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The members of the public JWK, without the closing brace.
fn members(key: &p256::SecretKey) -> String {
    let point = p256::ecdsa::VerifyingKey::from(key.public_key()).to_sec1_point(false);
    let text = |at: std::ops::Range<usize>| Base64UrlUnpadded::encode_string(&point.as_bytes()[at]);
    format!(r#"{{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","x":"{}","y":"{}""#, text(1..33), text(33..65))
}

/// Certificates in DER as one PEM text, leaf first.
#[must_use]
pub fn chain_pem(chain: &[Vec<u8>]) -> String {
    chain.iter().map(|der| legate_mtls::pki::to_pem(&CertificateDer::from(der.as_slice()))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_key_survives_its_file_and_is_never_printed() {
        let key = RuntimeKey::generate().unwrap();
        let pem = key.to_pem();
        assert!(!format!("{key:?}").contains("PRIVATE"));
        let again = RuntimeKey::from_pem(&pem).unwrap();
        assert_eq!(again.to_pem(), pem);
        assert!(RuntimeKey::from_pem("-----BEGIN PRIVATE KEY-----").is_err());
        assert!(key.request().unwrap().len() > 100);
        let (public, private) = (again.to_public_jwk().unwrap(), again.to_private_jwk().unwrap());
        assert_eq!(private.split(",\"d\"").next(), public.strip_suffix('}'));
        assert_eq!(*private, *key.to_private_jwk().unwrap());
    }
}
