//! Cosignatures of checkpoints (C2SP tlog-cosignature, Ed25519): that a witness saw the log only grow, and when.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::key::{self, named};
use crate::{KeyError, Note, NoteError, NoteSignature};

/// The signature type of timestamped cosignatures by Ed25519.
const COSIGNATURE: u8 = 0x04;

/// A witness's public key with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignerKey {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl CosignerKey {
    /// A key and its name.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn new(name: &str, key: &[u8; 32]) -> Result<Self, KeyError> {
        let (id, key) = named(name, COSIGNATURE, key)?;
        Ok(Self { name: name.to_string(), id, key })
    }

    /// Reads the C2SP text form, `NAME+ID+BASE64`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, id, key) = key::read(text, COSIGNATURE)?;
        let parsed = Self::new(name, &key)?;
        if parsed.id == id { Ok(parsed) } else { Err(KeyError::Id) }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes of the public key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether a signature line says that it is by this key.
    #[must_use]
    pub fn is_named_by(&self, line: &NoteSignature) -> bool {
        line.name == self.name && line.id == self.id
    }

    /// When this key cosigned the note, in seconds since 1970; the latest time where it did more than once. `None`: it did not.
    ///
    /// # Errors
    /// [`NoteError::Wrong`] when a line names the key and is not by it: such a note is malformed (C2SP signed-note).
    pub fn cosigned(&self, note: &Note) -> Result<Option<u64>, NoteError> {
        let mut latest = None;
        for line in note.signatures().iter().filter(|line| self.is_named_by(line)) {
            let time = self.time(note.text(), line).ok_or_else(|| NoteError::Wrong(self.name.clone()))?;
            latest = latest.max(Some(time));
        }
        Ok(latest)
    }

    fn time(&self, text: &str, line: &NoteSignature) -> Option<u64> {
        let (time, signature) = line.signature.split_first_chunk::<8>()?;
        let time = u64::from_be_bytes(*time);
        let signature: &[u8; 64] = signature.try_into().ok()?;
        // C2SP tlog-cosignature: not above 2^63 - 1.
        let is_time = i64::try_from(time).is_ok();
        let signed = self.key.verify_strict(message(time, text).as_bytes(), &Signature::from_bytes(signature));
        (is_time && signed.is_ok()).then_some(time)
    }
}

/// The C2SP text form.
impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        key::show(f, &self.name, self.id, COSIGNATURE, &self.key)
    }
}

/// What is signed: never the text of any note, since none begins so and goes on with a time.
fn message(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// A witness's private key in memory, wiped when it goes.
pub struct Cosigner {
    key: SigningKey,
    verifier: CosignerKey,
}

impl Cosigner {
    /// The key that 32 secret random bytes make (RFC 8032 section 5.1.5).
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let verifier = CosignerKey::new(name, key.verifying_key().as_bytes())?;
        Ok(Self { key, verifier })
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &CosignerKey {
        &self.verifier
    }

    /// Cosigns the text of a checkpoint at a time, in seconds since 1970. Whether the log only grew is for the caller to know.
    #[must_use]
    pub fn cosign(&self, checkpoint: &str, time: u64) -> NoteSignature {
        let mut signature: Vec<u8> = time.to_be_bytes().to_vec();
        signature.extend_from_slice(&self.key.sign(message(time, checkpoint).as_bytes()).to_bytes());
        NoteSignature { name: self.verifier.name.clone(), id: self.verifier.id, signature }
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cosigner({}, key hidden)", self.verifier)
    }
}
