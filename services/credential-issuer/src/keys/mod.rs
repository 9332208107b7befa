//! Keys that sign, behind a trait that shows no key: in files, or in a token behind PKCS #11.

mod authority;
pub(crate) mod bundle;
mod file;
mod pepper;
#[cfg(feature = "pkcs11")]
mod pkcs11;
#[cfg(feature = "pkcs11")]
mod stores;
mod verifier;
mod wrapping;

use std::fmt::Debug;
use std::sync::Arc;

use legate_token::{KeyId, PublicKey, SigningFailed};

pub use crate::domain::keyring::KeyUse;
pub(crate) use authority::{Authority, Certified, ends_at, key_of, self_signed};
pub use file::{FileKeys, Rewrapped};
use legate_kek::KekError;
pub use legate_kek::{Kek, kek_path};
pub(crate) use pepper::Pepper;
#[cfg(feature = "pkcs11")]
pub use pkcs11::Pkcs11Keys;
#[cfg(feature = "pkcs11")]
pub(crate) use stores::Stores;
pub(crate) use verifier::Verifier;

/// Signs with one P-256 key that it alone holds.
#[tonic::async_trait]
pub trait Signer: Send + Sync + Debug {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// ECDSA with SHA-256 over `message`, as r and s of 32 bytes each.
    ///
    /// # Errors
    /// [`SigningFailed`] when the key, or the way to it, fails.
    async fn sign(&self, message: &[u8]) -> Result<[u8; 64], SigningFailed>;

    /// Where it lies.
    fn place(&self) -> KeyPlace;

    /// Whether it can still be used, as far as that is known.
    async fn is_there(&self) -> bool {
        true
    }
}

/// Where the private half of a key lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file, encrypted under the key-encryption key.
    File,
    /// In the PKCS #11 token of that label.
    Token(Arc<str>),
}

/// Where keys are kept. Which of them signs, and until when, stands in the database.
#[tonic::async_trait]
pub trait KeyStore: Send + Sync + Debug {
    /// Makes a new key for a use, and keeps it before it returns.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong and what to do.
    async fn create(&self, purpose: KeyUse) -> Result<Arc<dyn Signer>, KeyError>;

    /// The key of that id and use; `None`: it is not here.
    ///
    /// # Errors
    /// When it is here and cannot be used.
    async fn open(&self, purpose: KeyUse, kid: &KeyId) -> Result<Option<Arc<dyn Signer>>, KeyError>;

    /// Destroys a key that signs no more; harmless where it is not here.
    ///
    /// # Errors
    /// When it stays.
    async fn destroy(&self, purpose: KeyUse, kid: &KeyId) -> Result<(), KeyError>;

    /// The one key for a use that an earlier version kept; `None`: there is none. It is then kept as those that are made.
    ///
    /// # Errors
    /// When it is here and cannot be used.
    async fn adopt(&self, purpose: KeyUse) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        let _ = purpose;
        Ok(None)
    }

    /// Whether it does its work, by what it did last. Never waits.
    ///
    /// # Errors
    /// What it does not do.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Sees whether it does its work, for [`check`](Self::check).
    async fn probe(&self) {}
}

/// Why keys cannot be used. Never holds any part of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file is missing, unreadable, readable for others, or not what it should be.
    #[error("{what}: {why}")]
    File {
        /// The file.
        what: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// A hardware module, or its token, is not there, refuses, or does not answer.
    #[error("{what}: {why}")]
    Module {
        /// The module or its token.
        what: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// Somebody else is at work where it would do harm.
    #[error("{what}: {why}")]
    InUse {
        /// The directory.
        what: String,
        /// Who it is, and what would come of it.
        why: String,
    },
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
}

impl From<KekError> for KeyError {
    fn from(e: KekError) -> Self {
        match e {
            KekError::File { what, why } => Self::File { what, why },
            KekError::NoRandomness => Self::NoRandomness,
        }
    }
}

impl KeyError {
    fn file(path: &std::path::Path, why: impl ToString) -> Self {
        Self::File { what: path.display().to_string(), why: why.to_string() }
    }
}

/// Whether there is nothing of that name, not even a link. Whatever else keeps a file from being seen is no reason to
/// make another: it would take the place of one that comes back.
fn is_missing(path: &std::path::Path) -> Result<bool, KeyError> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(false),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(KeyError::file(path, e)),
    }
}
