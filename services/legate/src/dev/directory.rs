//! A development suite's directory: its own or empty, and used by one suite at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::error::DIRECTORY_NOT_OURS;

/// What marks a directory as ours; its lock is held while a suite runs.
const MARK: &str = ".legate-dev";

/// A directory that is ours for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Takes a directory: made when it is not there, refused when it holds anything that is not ours.
    ///
    /// # Errors
    /// `DIRECTORY_NOT_OURS`, or `FILE_REFUSED` when it cannot be used at all.
    pub fn claim(dir: &Path) -> Result<Self, Failure> {
        let refused = |e: std::io::Error| Failure::file(dir, e);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(refused)?;
        let mark = dir.join(MARK);
        if !mark.exists() && std::fs::read_dir(dir).map_err(refused)?.next().is_some() {
            let what = format!("{} is not empty, and legate dev did not make it", dir.display());
            return Err(Failure::local(&DIRECTORY_NOT_OURS, what));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&mark)
            .map_err(|e| Failure::file(&mark, e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let what = format!("another legate dev uses {}", dir.display());
                Err(Failure::local(&DIRECTORY_NOT_OURS, what))
            }
            Err(TryLockError::Error(e)) => Err(Failure::file(&mark, e)),
        }
    }

    /// The same for a suite that has to begin with nothing.
    ///
    /// # Errors
    /// As [`Directory::claim`], and when there was a suite before.
    pub fn claim_empty(dir: &Path) -> Result<Self, Failure> {
        if dir.join(MARK).exists() {
            let what = format!("{} holds the data of a suite, and this one begins with nothing", dir.display());
            return Err(Failure::local(&DIRECTORY_NOT_OURS, what));
        }
        Self::claim(dir)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_directory_is_ours_or_empty_and_has_one_user() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        let first = Directory::claim(&dir).unwrap();
        assert_eq!(Directory::claim(&dir).unwrap_err().reason, "DIRECTORY_NOT_OURS");
        drop(first);
        std::fs::write(dir.join("registry.db"), "data").unwrap();
        Directory::claim(&dir).unwrap();
        assert_eq!(Directory::claim_empty(&dir).unwrap_err().reason, "DIRECTORY_NOT_OURS");
        let foreign = root.path().join("c");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("x"), "y").unwrap();
        assert_eq!(Directory::claim(&foreign).unwrap_err().reason, "DIRECTORY_NOT_OURS");
        assert_eq!(Directory::claim(&foreign.join("x")).unwrap_err().reason, "FILE_REFUSED");
        assert!(!foreign.join(MARK).exists());
    }
}
