//! A runtime's own P-256 key: made here, kept here, shown to nobody.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

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
    }
}
