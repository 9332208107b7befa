//! Keys of signed notes (C2SP signed-note): Ed25519, named, with a four-byte id.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// The signature type of Ed25519.
const ED25519: u8 = 0x01;

/// Why a key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A name is empty, or has a space or a plus.
    #[error("a key's name is not empty and has neither white space nor plus")]
    Name,
    /// The text has not the form NAME+ID+BASE64.
    #[error("a verifier key is NAME+ID+BASE64: the name, eight hexadecimal digits, the key in base64")]
    Form,
    /// A key of another type.
    #[error("the key is of a type that is not known; Ed25519 is")]
    Type,
    /// The id does not belong to the name and key.
    #[error("the key's id does not belong to its name and key")]
    Id,
    /// Not a point, or one of small order, under which a signature proves nothing.
    #[error("the bytes are not a usable Ed25519 public key")]
    Point,
}

/// Whether a text may be the name of a key.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+' || c.is_control())
}

/// A public key with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl VerifierKey {
    /// A key and its name.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn new(name: &str, key: &[u8; 32]) -> Result<Self, KeyError> {
        if !is_name(name) {
            return Err(KeyError::Name);
        }
        let point = VerifyingKey::from_bytes(key).map_err(|_| KeyError::Point)?;
        if point.is_weak() {
            return Err(KeyError::Point);
        }
        // C2SP signed-note: SHA-256(name || 0x0A || type || public key), the first four bytes.
        let hash = Sha256::new_with_prefix(name).chain_update([b'\n', ED25519]).chain_update(key).finalize();
        let mut id = [0; 4];
        id.copy_from_slice(&hash[..4]);
        Ok(Self { name: name.to_string(), id, key: point })
    }

    /// Reads the C2SP text form, `NAME+ID+BASE64`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, rest) = text.split_once('+').ok_or(KeyError::Form)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Form)?;
        let mut bytes = [0; 33];
        let key = Base64::decode(key, &mut bytes).map_err(|_| KeyError::Form)?;
        let (kind, key) = key.split_first().ok_or(KeyError::Form)?;
        if *kind != ED25519 {
            return Err(KeyError::Type);
        }
        let key: &[u8; 32] = key.try_into().map_err(|_| KeyError::Form)?;
        let parsed = Self::new(name, key)?;
        if format!("{:08x}", u32::from_be_bytes(parsed.id)) != id {
            return Err(KeyError::Id);
        }
        Ok(parsed)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id.
    #[must_use]
    pub const fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Whether the signature is this key's over `message`, by the strict rule: keys and nonces of small order,
    /// encodings that are not canonical and cofactored equality are refused.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

/// The C2SP text form.
impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [ED25519; 33];
        bytes[1..].copy_from_slice(self.key.as_bytes());
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id), Base64::encode_string(&bytes))
    }
}

/// A signer could not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signer did not sign: {0}")]
pub struct SignError(pub String);

/// Whatever holds a log's private key.
pub trait Signer: Send + Sync + fmt::Debug {
    /// The public half.
    fn verifier(&self) -> &VerifierKey;

    /// Signs a message with Ed25519.
    ///
    /// # Errors
    /// [`SignError`] when the key is out of reach.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
}

/// A private key in memory, wiped when it goes.
pub struct SeedSigner {
    key: SigningKey,
    verifier: VerifierKey,
}

impl SeedSigner {
    /// The key that 32 secret random bytes make (RFC 8032 section 5.1.5).
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(name, key.verifying_key().as_bytes())?;
        Ok(Self { key, verifier })
    }
}

impl fmt::Debug for SeedSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeedSigner({}, key hidden)", self.verifier)
    }
}

impl Signer for SeedSigner {
    fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.key.sign(message).to_bytes())
    }
}
