//! Checkpoints (C2SP tlog-checkpoint): a log's name, size and root, as the text of a signed note.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64, Encoding};

use crate::{Hash, Note, NoteError, SignError, Signer, VerifierKey};

/// Why a checkpoint is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note is refused.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note's text is not a checkpoint.
    #[error("not a checkpoint: {0}")]
    Form(&'static str),
    /// The key that signs trees of its size did not sign it.
    #[error(
        "a tree of {size} leaves is signed by {key}, and this one is not: it is of another log, or a key signed that did not then"
    )]
    NotInForce {
        /// How many leaves it has.
        size: u64,
        /// The key that signs such trees.
        key: String,
    },
    /// It is of another log.
    #[error("a checkpoint of {found:?}, not of {wanted:?}")]
    Origin {
        /// The log that was asked for.
        wanted: String,
        /// The log it is of.
        found: String,
    },
}

/// What a log was at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// The number of leaves.
    pub size: u64,
    /// The root hash over them.
    pub root: Hash,
    /// More lines, not empty; others do not know what they mean.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint without extensions.
    #[must_use]
    pub fn new(origin: &str, size: u64, root: Hash) -> Self {
        Self { origin: origin.to_string(), size, root, extensions: Vec::new() }
    }

    /// Reads the text of a checkpoint, which nobody has signed yet.
    ///
    /// # Errors
    /// [`CheckpointError::Form`].
    pub fn parse_text(text: &str) -> Result<Self, CheckpointError> {
        let form = CheckpointError::Form;
        let body = text.strip_suffix('\n').ok_or(form("it does not end with a newline"))?;
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|o| !o.is_empty()).ok_or(form("no origin"))?;
        let digits = lines.next().ok_or(form("no size"))?;
        let size: u64 = digits.parse().map_err(|_| form("the size is not a number"))?;
        // One text for each size: no sign, no leading zero.
        if size.to_string() != digits {
            return Err(form("the size is not in its shortest form"));
        }
        let encoded = lines.next().ok_or(form("no root hash"))?;
        let root = Base64::decode_vec(encoded).map_err(|_| form("the root hash is not base64"))?;
        let root = root.try_into().map_err(|_| form("the root hash has not 32 bytes"))?;
        let extensions: Vec<String> = lines.map(ToString::to_string).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(form("an empty line"));
        }
        Ok(Self { origin: origin.to_string(), size, root, extensions })
    }

    /// Reads a signed checkpoint of the log `origin`, signed by `key`.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(note: &[u8], key: &VerifierKey, origin: &str) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        note.verify(key)?;
        let checkpoint = Self::parse_text(note.text())?;
        if checkpoint.origin != origin {
            return Err(CheckpointError::Origin { wanted: origin.to_string(), found: checkpoint.origin });
        }
        Ok(checkpoint)
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(&self, signer: &dyn Signer) -> Result<Note, SignError> {
        Note::sign(&self.to_string(), &[signer])
    }
}

/// The text that is signed.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, Base64::encode_string(&self.root))?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
