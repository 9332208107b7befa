//! Checks signatures of one public key, by aws-lc-rs.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use legate_token::{EcVerifier, PublicKey};

/// A public key that is ready to verify.
pub(crate) struct Verifier(UnparsedPublicKey<[u8; 65]>);

impl Verifier {
    pub(crate) fn new(key: &PublicKey) -> Self {
        Self(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, *key.as_sec1()))
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl EcVerifier for Verifier {
    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify(message, signature).is_ok()
    }
}
