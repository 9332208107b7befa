//! Making and checking signatures with P-256 and SHA-256: the two traits, and p256 behind them.

use core::fmt;

use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::pkcs8::DecodePrivateKey as _;

use crate::{BadKey, PublicKey};

/// The signer could not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key could not sign")]
pub struct SigningFailed;

/// Signs with a P-256 key that it alone holds.
pub trait EcSigner {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// ECDSA with SHA-256 over `message`, as r and s of 32 bytes each (RFC 7518 section 3.4).
    ///
    /// # Errors
    /// [`SigningFailed`] when the key, or the way to it, fails.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SigningFailed>;
}

/// Checks signatures of one P-256 key.
pub trait EcVerifier {
    /// Whether `signature`, r and s of 32 bytes each, is ECDSA with SHA-256 over `message` by the key.
    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool;
}

/// A private key in memory, by p256: portable, about a quarter as fast as aws-lc-rs.
#[derive(Clone)]
pub struct P256Signer {
    key: p256::ecdsa::SigningKey,
    public: PublicKey,
}

impl fmt::Debug for P256Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P256Signer({}, hidden)", self.public.kid())
    }
}

impl P256Signer {
    /// The key whose secret number is `scalar`, big-endian.
    ///
    /// # Errors
    /// [`BadKey::Point`] when it is zero or not below the order of the curve.
    pub fn from_scalar(scalar: &[u8; 32]) -> Result<Self, BadKey> {
        p256::SecretKey::from_slice(scalar).map(|key| Self::of(&key)).map_err(|_| BadKey::Point)
    }

    /// Reads a key in PKCS #8 DER (RFC 5208).
    ///
    /// # Errors
    /// [`BadKey::Form`] when the bytes are not a P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, BadKey> {
        p256::SecretKey::from_pkcs8_der(der).map(|key| Self::of(&key)).map_err(|_| BadKey::Form)
    }

    fn of(key: &p256::SecretKey) -> Self {
        Self { public: PublicKey::of(&key.public_key()), key: key.into() }
    }
}

impl EcSigner for P256Signer {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SigningFailed> {
        let signature: p256::ecdsa::Signature = self.key.try_sign(message).map_err(|_| SigningFailed)?;
        Ok(signature.to_bytes().into())
    }
}

/// A public key, by p256: portable, about a fifth as fast as aws-lc-rs.
#[derive(Clone, Debug)]
pub struct P256Verifier(p256::ecdsa::VerifyingKey);

impl P256Verifier {
    /// Checks signatures of `key`.
    ///
    /// # Panics
    /// Never: a [`PublicKey`] is a point of the curve.
    #[must_use]
    pub fn new(key: &PublicKey) -> Self {
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key.as_sec1());
        Self(key.expect("a PublicKey was found on the curve when it was made"))
    }
}

impl EcVerifier for P256Verifier {
    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        p256::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| self.0.verify(message, &signature).is_ok())
    }
}
