//! Receipts: that what was told is in the log's tree, under a checkpoint that the log's key signed, verified here before anything
//! leaves the disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use legate_batch::rotated::{NotRotated, follow};
use legate_merkle::{Checkpoint, Hash, KeyChain, ProofError, VerifierKey, leaf_hash, verify_inclusion};
use legate_wire::audit::{AuditEvent, GetReceiptsResponse};
use prost::Message as _;

use super::spool::replace;
use crate::ClientError;

/// Public keys of the log, by which a reporter verifies receipts: one that it has or had is enough, as receipts come with the rotations
/// that lead from it to the one that signs.
#[derive(Clone)]
pub struct LogKeys(Vec<VerifierKey>);

impl fmt::Debug for LogKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(VerifierKey::name)).finish()
    }
}

impl LogKeys {
    /// Reads keys in C2SP verifier-key form, one a line, as the log's `log.pub` has it.
    ///
    /// # Errors
    /// [`ClientError::Key`] where there is none, or a line is none.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<VerifierKey> =
            lines.map(|line| VerifierKey::parse(line).map_err(ClientError::key)).collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(ClientError::Key("there is no key of a log".to_owned()));
        }
        Ok(Self(keys))
    }
}

/// The keys that were given, and the rotations that receipts have shown since, which are kept: a key that was followed by another is
/// not believed any more of trees that hold its rotation, whatever a later receipt leaves out.
#[derive(Debug)]
pub(super) struct Keyring {
    given: LogKeys,
    shown: Option<KeyChain>,
    path: PathBuf,
}

impl Keyring {
    /// The keys, with the rotations that are kept in `path`.
    pub(super) fn open(given: LogKeys, path: &Path) -> io::Result<Self> {
        let shown = match std::fs::read(path) {
            Ok(text) => {
                let damaged = |e| io::Error::other(format!("{}: {e}", path.display()));
                Some(KeyChain::parse(&text).map_err(damaged)?)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        Ok(Self { given, shown, path: path.to_owned() })
    }

    /// The checkpoint, where the key signed it that is in force for trees of its size.
    fn checkpoint(&mut self, answer: &GetReceiptsResponse) -> Result<Checkpoint, BadReceipt> {
        let note = answer.checkpoint.as_bytes();
        let mut why = None;
        let opened = self.given.0.iter().find_map(|key| {
            let followed = follow(key, note, &answer.key_rotations);
            followed.map_err(|e| why.get_or_insert(e).clone()).ok()
        });
        let Some((checkpoint, keys)) = opened else {
            return Err(why.map_or(BadReceipt::Forgotten, BadReceipt::Keys));
        };
        let known = self.shown.as_ref().map(KeyChain::rotations).unwrap_or_default();
        let mut wanted = known.iter().filter(|rotation| rotation.size() < checkpoint.size);
        if !wanted.all(|rotation| keys.rotations().contains(rotation)) {
            return Err(BadReceipt::Forgotten);
        }
        if keys.rotations().len() > known.len() {
            replace(&self.path, keys.to_string().as_bytes()).map_err(|e| BadReceipt::Kept(e.to_string()))?;
            self.shown = Some(keys);
        }
        Ok(checkpoint)
    }
}

/// Why a receipt shows nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadReceipt {
    #[error("it has {0} receipts, and not 1 to as many as were asked for")]
    Count(usize),
    #[error("no key of the log that is configured leads to the one that signed its checkpoint: {0}")]
    Keys(NotRotated),
    #[error("its tree leaves out a rotation of the log's key that was shown before")]
    Forgotten,
    #[error("the rotations of the log's key cannot be kept: {0}")]
    Kept(String),
    #[error("leaf {0} is not what was told")]
    Leaf(u64),
    #[error("leaf {0} is in the log, and another event of ours with the number of what was told")]
    Other(u64),
    #[error("leaf {leaf} is not proved: {why}")]
    Proof { leaf: u64, why: ProofError },
}

/// How many of the events that were told, from the first on, these receipts show to be in the log: each leaf is the event, byte for
/// byte but for the commitments to names, whose salts are new with every offer. Where another event of ours has the number of one, those
/// before it.
pub(super) fn verified(
    answer: &GetReceiptsResponse,
    told: &[AuditEvent],
    keys: &mut Keyring,
) -> Result<usize, BadReceipt> {
    let count = answer.receipts.len();
    if !(1..=told.len()).contains(&count) {
        return Err(BadReceipt::Count(count));
    }
    let checkpoint = keys.checkpoint(answer)?;
    for (shown, (receipt, told)) in answer.receipts.iter().zip(told).enumerate() {
        let leaf = receipt.leaf_index;
        let is_told = is_of(&receipt.leaf, told);
        if !is_told && !has_the_number_of(&receipt.leaf, told) {
            return Err(BadReceipt::Leaf(leaf));
        }
        let proof: Result<Vec<Hash>, _> = receipt.proof.iter().map(|hash| Hash::try_from(hash.as_slice())).collect();
        let proof = proof.map_err(|_| BadReceipt::Proof { leaf, why: ProofError::Length })?;
        verify_inclusion(leaf, checkpoint.size, &leaf_hash(&receipt.leaf), &proof, &checkpoint.root)
            .map_err(|why| BadReceipt::Proof { leaf, why })?;
        match is_told {
            true => {}
            false if shown > 0 => return Ok(shown),
            false => return Err(BadReceipt::Other(leaf)),
        }
    }
    Ok(count)
}

fn is_of(leaf: &[u8], told: &AuditEvent) -> bool {
    let Ok(there) = AuditEvent::decode(leaf) else { return false };
    let mut wanted = legate_personal::split(told.clone(), || [0; 32]).event;
    if wanted.personal.len() != there.personal.len() {
        return false;
    }
    wanted.personal = there.personal;
    wanted.encode_to_vec() == leaf
}

/// Whether it is an event of the same emitter and epoch, with the same number.
fn has_the_number_of(leaf: &[u8], told: &AuditEvent) -> bool {
    AuditEvent::decode(leaf).is_ok_and(|there| there.emitter.is_some() && there.emitter == told.emitter)
}

#[cfg(test)]
mod tests;
