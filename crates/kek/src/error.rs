//! Why the key-encryption key cannot be used.

use std::path::Path;

/// Never holds any part of a key.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
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

impl KekError {
    pub(crate) fn file(path: &Path, why: impl ToString) -> Self {
        Self::File { what: path.display().to_string(), why: why.to_string() }
    }
}

/// Whether there is nothing of that name, not even a link. Whatever else keeps a file from being seen is no reason to
/// make another: it would take the place of one that comes back.
pub(crate) fn is_missing(path: &Path) -> Result<bool, KekError> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(false),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(KekError::file(path, e)),
    }
}
