//! Proofs in files (C2SP tlog-proof): an index, an inclusion proof and the checkpoint that it leads to, as text.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64, Encoding};

use crate::{
    Checkpoint, CheckpointError, Hash, KeyChain, MAX_NOTE, ProofError, VerifierKey, leaf_hash, verify_inclusion,
};

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The longest file that is read.
pub const MAX_TLOG_PROOF: usize = 4 * MAX_NOTE;

/// No tree is higher.
const MOST_HASHES: usize = 63;

/// Why a proof is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// Not one at all.
    #[error("not a tlog-proof: {0}")]
    Form(&'static str),
    /// Its checkpoint is refused.
    #[error("its checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// It proves something else.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// A proof, nothing of it checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Whatever the application put there; nobody vouches for it.
    pub extra: Option<Vec<u8>>,
    /// The entry's index.
    pub index: u64,
    /// The audit path, from the leaf upwards.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

impl TlogProof {
    /// Reads a file.
    ///
    /// # Errors
    /// [`TlogProofError::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        let form = TlogProofError::Form;
        if bytes.len() > MAX_TLOG_PROOF {
            return Err(form("it is over 256 KiB"));
        }
        let text = core::str::from_utf8(bytes).map_err(|_| form("it is not UTF-8"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(form("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(form("the first line is not c2sp.org/tlog-proof@v1"));
        }
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let extra = extra.map(|line| Base64::decode_vec(&line["extra ".len()..])).transpose();
        let extra = extra.map_err(|_| form("the extra data is not base64"))?;
        let digits = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(form("no index"))?;
        let index: u64 = digits.parse().map_err(|_| form("the index is not a number"))?;
        // One text for each index: no sign, no leading zero.
        if index.to_string() != digits {
            return Err(form("the index is not in its shortest form"));
        }
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == MOST_HASHES {
                return Err(form("it has over 63 hashes"));
            }
            let hash = Base64::decode_vec(line).map_err(|_| form("a hash is not base64"))?;
            hashes.push(hash.try_into().map_err(|_| form("a hash has not 32 bytes"))?);
        }
        Ok(Self { extra, index, hashes, checkpoint: checkpoint.to_string() })
    }

    /// Checks that `entry` is in the log that `key` signs, at the index: gives the checkpoint that says so.
    ///
    /// # Errors
    /// [`TlogProofError`].
    pub fn verify(&self, entry: &[u8], key: &VerifierKey) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), key, key.name())?;
        verify_inclusion(self.index, checkpoint.size, &leaf_hash(entry), &self.hashes, &checkpoint.root)?;
        Ok(checkpoint)
    }

    /// The same by whichever of a log's keys signs trees of that size.
    ///
    /// # Errors
    /// [`TlogProofError`].
    pub fn verify_by(&self, entry: &[u8], keys: &KeyChain) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = keys.open(self.checkpoint.as_bytes())?;
        verify_inclusion(self.index, checkpoint.size, &leaf_hash(entry), &self.hashes, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

/// The file.
impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", Base64::encode_string(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", Base64::encode_string(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}
