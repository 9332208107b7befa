//! The keys of a log, one after the other: that one follows on another is said by both, about a tree of the log.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64, Encoding};

use crate::{Checkpoint, CheckpointError, Hash, KeyError, Note, NoteError, SignError, Signer, VerifierKey};

/// The first line. What follows is no size, so that no rotation reads as a checkpoint, nor a checkpoint as a rotation.
const HEADER: &str = "legate.log-key-rotation/v1";

/// A log has so many keys at most in its life.
const MOST_ROTATIONS: usize = 4_096;

/// The longest text of rotations that is read.
pub const MAX_ROTATIONS: usize = MOST_ROTATIONS * 1_024;

/// Why a rotation is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// Not one at all.
    #[error("not a rotation of a log's key: {0}")]
    Form(&'static str),
    /// One of its keys is none.
    #[error("not a rotation of a log's key: {0}")]
    Key(#[from] KeyError),
    /// One of the two keys did not sign it.
    #[error("{which} did not sign the rotation: {why}")]
    Unsigned {
        /// Which of the two.
        which: &'static str,
        /// What is wrong.
        why: NoteError,
    },
    /// It is of another log.
    #[error("the rotation is of {found}, and this log is {wanted}")]
    OtherLog {
        /// The name of this log.
        wanted: String,
        /// That of the other one.
        found: String,
    },
    /// The key that it ends is not the one that signs.
    #[error("the rotation follows on the key {found}, and {wanted} signs there")]
    NotNext {
        /// The key that signs.
        wanted: String,
        /// The one that it follows on.
        found: String,
    },
    /// Its place is not behind those before it.
    #[error("the rotation at {0} is not behind the one before it")]
    Order(u64),
    /// A key comes back.
    #[error("the key {0} was one of this log's before, and none comes back")]
    Again(String),
    /// There are too many.
    #[error("there are over 4,096 rotations")]
    TooMany,
}

/// That a log's key is followed by another one, signed by both.
///
/// It speaks of the tree that was there: whoever has the old key and not this log cannot pass its rotation off as this log's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    from: VerifierKey,
    to: VerifierKey,
    size: u64,
    root: Hash,
    note: Note,
}

impl Rotation {
    /// Has both keys sign that the second follows on the first, in the log whose first `size` leaves have this root.
    ///
    /// # Errors
    /// [`SignError`] when a key is out of reach, or the two are not two keys of one log.
    pub fn sign(size: u64, root: Hash, from: &dyn Signer, to: &dyn Signer) -> Result<Self, SignError> {
        let text = text(from.verifier(), to.verifier(), size, &root);
        let note = Note::sign(&text, &[from, to])?;
        Self::of(note).map_err(|e| SignError(e.to_string()))
    }

    /// Reads a rotation, and verifies that both keys signed it.
    ///
    /// # Errors
    /// [`RotationError`].
    pub fn open(bytes: &[u8]) -> Result<Self, RotationError> {
        Self::of(Note::parse(bytes).map_err(|_| RotationError::Form("it is not a signed note"))?)
    }

    fn of(note: Note) -> Result<Self, RotationError> {
        let form = RotationError::Form;
        let body = note.text().strip_suffix('\n').ok_or(form("it does not end with a newline"))?;
        let lines: Vec<&str> = body.split('\n').collect();
        let [HEADER, from, to, size, root] = lines.as_slice() else {
            return Err(form("it is not the five lines of one"));
        };
        let from = VerifierKey::parse(behind(from, "from ")?)?;
        let to = VerifierKey::parse(behind(to, "to ")?)?;
        let size: u64 = behind(size, "size ")?.parse().map_err(|_| form("the size is not a number"))?;
        let root = Base64::decode_vec(behind(root, "root ")?).map_err(|_| form("the root hash is not base64"))?;
        let root = root.try_into().map_err(|_| form("the root hash has not 32 bytes"))?;
        // One text for each rotation.
        if text(&from, &to, size, &root) != note.text() {
            return Err(form("it is not written in its one form"));
        }
        if from.name() != to.name() {
            let (wanted, found) = (from.name().to_string(), to.name().to_string());
            return Err(RotationError::OtherLog { wanted, found });
        }
        if from.public() == to.public() {
            return Err(form("a key does not follow on itself"));
        }
        for (which, key) in [("the key that ends", &from), ("the key that follows", &to)] {
            note.verify(key).map_err(|why| RotationError::Unsigned { which, why })?;
        }
        Ok(Self { from, to, size, root, note })
    }

    /// The key that ends.
    #[must_use]
    pub const fn from(&self) -> &VerifierKey {
        &self.from
    }

    /// The key that signs from there on.
    #[must_use]
    pub const fn to(&self) -> &VerifierKey {
        &self.to
    }

    /// How many leaves there were before it: its own place in the log. Trees that hold it are signed by the key that follows.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root over these.
    #[must_use]
    pub const fn root(&self) -> &Hash {
        &self.root
    }
}

/// The signed note.
impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.note)
    }
}

fn behind<'a>(line: &'a str, word: &str) -> Result<&'a str, RotationError> {
    line.strip_prefix(word).ok_or(RotationError::Form("a line has another word in front"))
}

fn text(from: &VerifierKey, to: &VerifierKey, size: u64, root: &Hash) -> String {
    alloc::format!("{HEADER}\nfrom {from}\nto {to}\nsize {size}\nroot {}\n", Base64::encode_string(root))
}

/// The keys of a log in their order, each followed by the next as both of them said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChain {
    first: VerifierKey,
    rotations: Vec<Rotation>,
}

impl KeyChain {
    /// One key, which nothing followed on as far as is known.
    #[must_use]
    pub const fn new(first: VerifierKey) -> Self {
        Self { first, rotations: Vec::new() }
    }

    /// The keys of these rotations; `None` where there are none.
    ///
    /// # Errors
    /// [`RotationError`] when one does not follow on the one before.
    pub fn of(rotations: impl IntoIterator<Item = Rotation>) -> Result<Option<Self>, RotationError> {
        let mut chain: Option<Self> = None;
        for rotation in rotations {
            chain.get_or_insert_with(|| Self::new(rotation.from.clone())).push(rotation)?;
        }
        Ok(chain)
    }

    /// Reads the text of a chain, which is that of its rotations.
    ///
    /// # Errors
    /// [`RotationError`]; of an empty text too.
    pub fn parse(bytes: &[u8]) -> Result<Self, RotationError> {
        let form = RotationError::Form;
        if bytes.len() > MAX_ROTATIONS {
            return Err(RotationError::TooMany);
        }
        let text = core::str::from_utf8(bytes).map_err(|_| form("it is not UTF-8"))?;
        let (mut rotations, mut note) = (Vec::new(), String::new());
        for line in text.split_inclusive('\n') {
            if line.trim_end_matches('\n') == HEADER && !note.is_empty() {
                rotations.push(Rotation::open(note.as_bytes())?);
                note.clear();
            }
            note.push_str(line);
        }
        rotations.push(Rotation::open(note.as_bytes())?);
        Self::of(rotations)?.ok_or(form("it is empty"))
    }

    /// Adds what comes next.
    ///
    /// # Errors
    /// [`RotationError`] when it does not follow on what is there.
    pub fn push(&mut self, rotation: Rotation) -> Result<(), RotationError> {
        let newest = self.newest();
        if rotation.from.name() != newest.name() {
            let (wanted, found) = (newest.name().to_string(), rotation.from.name().to_string());
            return Err(RotationError::OtherLog { wanted, found });
        }
        if rotation.from != *newest {
            let (wanted, found) = (newest.to_string(), rotation.from.to_string());
            return Err(RotationError::NotNext { wanted, found });
        }
        if self.rotations.last().is_some_and(|last| rotation.size <= last.size) {
            return Err(RotationError::Order(rotation.size));
        }
        if self.has(&rotation.to) {
            return Err(RotationError::Again(rotation.to.to_string()));
        }
        if self.rotations.len() == MOST_ROTATIONS {
            return Err(RotationError::TooMany);
        }
        self.rotations.push(rotation);
        Ok(())
    }

    /// What is known of it, in order.
    #[must_use]
    pub fn rotations(&self) -> &[Rotation] {
        &self.rotations
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &VerifierKey> {
        core::iter::once(&self.first).chain(self.rotations.iter().map(Rotation::to))
    }

    /// Whether a key is one of them.
    #[must_use]
    pub fn has(&self, key: &VerifierKey) -> bool {
        self.keys().any(|known| known == key)
    }

    /// The key that signs now.
    #[must_use]
    pub fn newest(&self) -> &VerifierKey {
        self.rotations.last().map_or(&self.first, Rotation::to)
    }

    /// The name of all of them, which is the log's.
    #[must_use]
    pub fn name(&self) -> &str {
        self.first.name()
    }

    /// The key that signs trees of so many leaves: the one that followed in the last rotation that such a tree holds.
    #[must_use]
    pub fn in_force(&self, size: u64) -> &VerifierKey {
        let last = self.rotations.iter().rev().find(|rotation| rotation.size < size);
        last.map_or(&self.first, Rotation::to)
    }

    /// Reads a signed checkpoint of this log, signed by the key that signs trees of its size.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(&self, note: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let note = Note::parse(note)?;
        let checkpoint = Checkpoint::parse_text(note.text())?;
        let key = self.in_force(checkpoint.size);
        note.verify(key).map_err(|e| match e {
            NoteError::Unsigned(_) => CheckpointError::NotInForce { size: checkpoint.size, key: key.to_string() },
            e => e.into(),
        })?;
        if checkpoint.origin != self.name() {
            return Err(CheckpointError::Origin { wanted: self.name().to_string(), found: checkpoint.origin });
        }
        Ok(checkpoint)
    }
}

/// Its rotations, one behind the other.
impl fmt::Display for KeyChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rotations.iter().try_for_each(|rotation| write!(f, "{rotation}"))
    }
}
