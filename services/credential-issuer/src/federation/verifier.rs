//! Signatures of issuers outside, checked by aws-lc-rs.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use legate_token::{Algorithm, ForeignKey, ForeignVerifier};

/// Checks signatures of every kind that is spoken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AwsLc;

impl ForeignVerifier for AwsLc {
    fn verify(&self, algorithm: Algorithm, key: &ForeignKey, message: &[u8], signature: &[u8]) -> bool {
        match (algorithm, key) {
            (Algorithm::Es256, ForeignKey::P256(point)) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            (Algorithm::Es384, ForeignKey::P384(point)) => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature).is_ok()
            }
            (Algorithm::EdDsa, ForeignKey::Ed25519(point)) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature).is_ok()
            }
            (Algorithm::Rs256, ForeignKey::Rsa(n, e)) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            (Algorithm::Ps256, ForeignKey::Rsa(n, e)) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature).is_ok()
            }
            _ => false,
        }
    }
}
