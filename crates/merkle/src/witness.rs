//! What a witness is asked and how it judges (C2SP tlog-witness, `add-checkpoint`), without its keys, its clock and its disk.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64, Encoding};

use crate::{Checkpoint, Hash, MAX_NOTE, Note, VerifierKey, empty_root, verify_consistency};

/// The longest request that is read.
pub const MAX_ADD_CHECKPOINT: usize = MAX_NOTE + (4 << 10);

/// The standard allows so many lines of proof.
const MOST_HASHES: usize = 63;

/// A request that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an add-checkpoint request: {0}")]
pub struct BadRequest(pub &'static str);

/// A checkpoint that is to be cosigned, and the proof that it continues what the witness cosigned last. Nothing of it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of what the witness cosigned last; 0: nothing.
    pub old: u64,
    /// The proof that the new tree continues that one.
    pub proof: Vec<Hash>,
    /// The signed checkpoint.
    pub note: Note,
}

impl AddCheckpoint {
    /// Reads a request.
    ///
    /// # Errors
    /// [`BadRequest`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadRequest> {
        if bytes.len() > MAX_ADD_CHECKPOINT {
            return Err(BadRequest("it is over 68 KiB"));
        }
        let whole = core::str::from_utf8(bytes).map_err(|_| BadRequest("it is not UTF-8"))?;
        let (head, note) = whole.split_once("\n\n").ok_or(BadRequest("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let digits = lines.next().and_then(|line| line.strip_prefix("old ")).ok_or(BadRequest("no line `old SIZE`"))?;
        let old: u64 = digits.parse().map_err(|_| BadRequest("the old size is not a number"))?;
        // One text for each size: no sign, no leading zero.
        if old.to_string() != digits {
            return Err(BadRequest("the old size is not in its shortest form"));
        }
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == MOST_HASHES {
                return Err(BadRequest("it has over 63 hashes"));
            }
            let hash = Base64::decode_vec(line).map_err(|_| BadRequest("a hash is not base64"))?;
            proof.push(hash.try_into().map_err(|_| BadRequest("a hash has not 32 bytes"))?);
        }
        let note = Note::parse(note.as_bytes()).map_err(|_| BadRequest("the checkpoint is not a signed note"))?;
        Ok(Self { old, proof, note })
    }
}

/// The request.
impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", Base64::encode_string(hash)))?;
        write!(f, "\n{}", self.note)
    }
}

/// Why a checkpoint is not cosigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 403: the log did not sign it.
    #[error("the log's key did not sign the checkpoint: {0}")]
    Unsigned(String),
    /// 400: the tree would shrink.
    #[error("the old size is larger than the checkpoint's")]
    Backwards,
    /// 409: the witness is at another size.
    #[error("what was cosigned last has {0} leaves")]
    Conflict(u64),
    /// 422: it is not shown that the log only grew, or it did not.
    #[error("the checkpoint does not continue what was cosigned last: {0}")]
    Inconsistent(String),
}

/// Judges a request about the log of this key, of which `latest` was cosigned last: the order of the checks is the standard's.
///
/// # Errors
/// [`Refusal`].
pub fn judge(
    request: &AddCheckpoint,
    new: &Checkpoint,
    key: &VerifierKey,
    latest: Option<&Checkpoint>,
) -> Result<(), Refusal> {
    let inconsistent = |why: &dyn fmt::Display| Refusal::Inconsistent(why.to_string());
    request.note.verify(key).map_err(|e| Refusal::Unsigned(e.to_string()))?;
    if request.old > new.size {
        return Err(Refusal::Backwards);
    }
    let known = latest.map_or(0, |latest| latest.size);
    if request.old != known {
        return Err(Refusal::Conflict(known));
    }
    if new.size == 0 && new.root != empty_root() {
        return Err(inconsistent(&"a tree without leaves has another root"));
    }
    match latest {
        Some(latest) if latest.size > 0 => {
            verify_consistency(latest.size, new.size, &latest.root, &new.root, &request.proof)
                .map_err(|e| inconsistent(&e))
        }
        // Every tree continues the empty one.
        _ if request.proof.is_empty() => Ok(()),
        _ => Err(inconsistent(&"there is nothing to prove where nothing was cosigned before")),
    }
}
