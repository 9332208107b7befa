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
    #[error(
        "the key is of the signature type 0x{found:02x}, and 0x{wanted:02x} is known here (0x01 signs notes, 0x04 cosigns, both Ed25519)"
    )]
    Type {
        /// The type that it has.
        found: u8,
        /// The type that it has to have.
        wanted: u8,
    },
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

/// The id and the point of a key of a signature type.
pub(crate) fn named(name: &str, kind: u8, key: &[u8; 32]) -> Result<([u8; 4], VerifyingKey), KeyError> {
    if !is_name(name) {
        return Err(KeyError::Name);
    }
    let point = VerifyingKey::from_bytes(key).map_err(|_| KeyError::Point)?;
    if point.is_weak() {
        return Err(KeyError::Point);
    }
    // C2SP signed-note: SHA-256(name || 0x0A || type || public key), the first four bytes.
    let hash = Sha256::new_with_prefix(name).chain_update([b'\n', kind]).chain_update(key).finalize();
    let mut id = [0; 4];
    id.copy_from_slice(&hash[..4]);
    Ok((id, point))
}

/// Reads the C2SP text form of a key of this signature type: its name, its id, and its bytes.
pub(crate) fn read(text: &str, wanted: u8) -> Result<(&str, [u8; 4], [u8; 32]), KeyError> {
    let (name, rest) = text.split_once('+').ok_or(KeyError::Form)?;
    let (id, key) = rest.split_once('+').ok_or(KeyError::Form)?;
    let bytes = Base64::decode_vec(key).map_err(|_| KeyError::Form)?;
    let (kind, key) = bytes.split_first().ok_or(KeyError::Form)?;
    if *kind != wanted {
        return Err(KeyError::Type { found: *kind, wanted });
    }
    let key: &[u8; 32] = key.try_into().map_err(|_| KeyError::Form)?;
    let number = u32::from_str_radix(id, 16).map_err(|_| KeyError::Form)?;
    // Eight digits, lower case: one text for each key.
    if format!("{number:08x}") != id {
        return Err(KeyError::Form);
    }
    Ok((name, number.to_be_bytes(), *key))
}

/// Writes it.
pub(crate) fn show(f: &mut fmt::Formatter<'_>, name: &str, id: [u8; 4], kind: u8, key: &VerifyingKey) -> fmt::Result {
    let mut bytes = [kind; 33];
    bytes[1..].copy_from_slice(key.as_bytes());
    write!(f, "{name}+{:08x}+{}", u32::from_be_bytes(id), Base64::encode_string(&bytes))
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
        let (id, key) = named(name, ED25519, key)?;
        Ok(Self { name: name.to_string(), id, key })
    }

    /// Reads the C2SP text form, `NAME+ID+BASE64`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, id, key) = read(text, ED25519)?;
        let parsed = Self::new(name, &key)?;
        if parsed.id != id {
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

    /// The bytes of the public key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
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
        show(f, &self.name, self.id, ED25519, &self.key)
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
