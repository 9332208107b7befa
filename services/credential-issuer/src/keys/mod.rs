//! Keys that sign, behind a trait that shows no key: in files today, in a KMS or behind PKCS #11 by another implementation.

mod authority;
mod file;
mod pepper;
mod verifier;

use std::fmt::Debug;
use std::sync::Arc;

use legate_token::{PublicKey, SigningFailed};

pub(crate) use authority::Authority;
pub use file::FileKeys;
pub(crate) use pepper::Pepper;
pub(crate) use verifier::Verifier;

/// What a key is for. One key never has two uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Signs certificates of agents and enforcement points.
    WorkloadsCa,
    /// Signs certificates of operators who log in.
    OperatorsCa,
    /// Signs access tokens.
    AccessTokens,
}

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
}

/// Where keys are kept.
#[tonic::async_trait]
pub trait KeyStore: Send + Sync + Debug {
    /// The key for a use; made when there is none yet.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong and what to do.
    async fn open(&self, purpose: KeyUse) -> Result<Arc<dyn Signer>, KeyError>;
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
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
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
