//! What can go wrong with a journal.

use std::path::PathBuf;

/// Why a journal cannot be opened, written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refused.
    #[error("{}: {why}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// The disk is full, and the reserve is used up.
    #[error("no space is left for {}", .0.display())]
    Full(PathBuf),
    /// A record that was written is no longer what it was.
    #[error("{}: record {index} is damaged", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The record.
        index: u64,
    },
    /// There are fewer records than there have to be; nothing was changed.
    #[error("{}: the journal ends at record {found}, and had {wanted}", .dir.display())]
    Short {
        /// The journal.
        dir: PathBuf,
        /// One more than the last whole record.
        found: u64,
        /// One more than the last record that there has to be.
        wanted: u64,
    },
    /// A file is no segment, or segments do not follow each other.
    #[error("{}: {why}", .path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A record is empty or larger than a segment holds.
    #[error("a record has 1 to {most} bytes, not {found}")]
    Size {
        /// The bound.
        most: usize,
        /// The record's size.
        found: usize,
    },
    /// A write or sync failed before; what is on disk is no longer known, so nothing more is written.
    #[error("the journal stopped at an earlier failure: {0}")]
    Poisoned(String),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    pub(crate) fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::StorageFull {
            return Self::Full(path.to_owned());
        }
        Self::Io { path: path.to_owned(), why: error.to_string() }
    }
}
