//! Receipts: that what was told is in the log's tree, under a checkpoint that the log's key signed, verified here before anything
//! leaves the disk.

use std::fmt;

use legate_merkle::{Checkpoint, Hash, ProofError, VerifierKey, leaf_hash, verify_inclusion};
use legate_wire::audit::{AuditEvent, GetReceiptsResponse};
use prost::Message as _;

use crate::ClientError;

/// The public keys of the log, by which a reporter verifies receipts: its key of now, and others that it had or will have.
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

    /// The checkpoint, where one of the keys signed it for the log of its name.
    fn open(&self, note: &str) -> Option<Checkpoint> {
        self.0.iter().find_map(|key| Checkpoint::open(note.as_bytes(), key, key.name()).ok())
    }
}

/// Why a receipt shows nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadReceipt {
    #[error("it has {0} receipts, and not 1 to as many as were asked for")]
    Count(usize),
    #[error("no key of the log that is configured signed its checkpoint")]
    Checkpoint,
    #[error("leaf {0} is not what was told")]
    Leaf(u64),
    #[error("leaf {leaf} is not proved: {why}")]
    Proof { leaf: u64, why: ProofError },
}

/// How many of the events that were told, from the first on, these receipts show to be in the log: each leaf is the event, byte for
/// byte but for the commitments to names, whose salts are new with every offer.
pub(super) fn verified(answer: &GetReceiptsResponse, told: &[AuditEvent], keys: &LogKeys) -> Result<usize, BadReceipt> {
    let count = answer.receipts.len();
    if !(1..=told.len()).contains(&count) {
        return Err(BadReceipt::Count(count));
    }
    let checkpoint = keys.open(&answer.checkpoint).ok_or(BadReceipt::Checkpoint)?;
    for (receipt, told) in answer.receipts.iter().zip(told) {
        let leaf = receipt.leaf_index;
        if !is_of(&receipt.leaf, told) {
            return Err(BadReceipt::Leaf(leaf));
        }
        let proof: Result<Vec<Hash>, _> = receipt.proof.iter().map(|hash| Hash::try_from(hash.as_slice())).collect();
        let proof = proof.map_err(|_| BadReceipt::Proof { leaf, why: ProofError::Length })?;
        verify_inclusion(leaf, checkpoint.size, &leaf_hash(&receipt.leaf), &proof, &checkpoint.root)
            .map_err(|why| BadReceipt::Proof { leaf, why })?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_merkle::{SeedSigner, Signer as _, prove_among};
    use legate_wire::audit::{Emitter, EventReceipt};

    const ORIGIN: &str = "example.org/audit-log";

    fn event(seq: u64) -> AuditEvent {
        AuditEvent {
            event_id: format!("evt_{seq}"),
            emitter: Some(Emitter { spiffe_id: "spiffe://example.org/ns/a/enforcer/b".into(), epoch: "e".into(), seq }),
            subject: if seq.is_multiple_of(2) { "user:ada".into() } else { String::new() },
            ..AuditEvent::default()
        }
    }

    /// What an honest log answers about events that it has beside others.
    fn answer(told: &[AuditEvent], signer: &SeedSigner) -> GetReceiptsResponse {
        let leaves: Vec<Vec<u8>> =
            told.iter().map(|one| legate_personal::split(one.clone(), rand::random).event.encode_to_vec()).collect();
        let mut hashes = vec![leaf_hash(b"other"); 3];
        hashes.extend(leaves.iter().map(|leaf| leaf_hash(leaf)));
        let mut tree = legate_merkle::Frontier::default();
        hashes.iter().for_each(|hash| tree.push(*hash));
        let note = Checkpoint::new(ORIGIN, hashes.len() as u64, tree.root()).sign(signer).unwrap().to_string();
        let receipt = |(at, leaf): (u64, Vec<u8>)| EventReceipt {
            leaf_index: at,
            leaf,
            proof: prove_among(at, &hashes).unwrap().iter().map(|hash| hash.to_vec()).collect(),
        };
        GetReceiptsResponse {
            receipts: (3..).zip(leaves).map(receipt).collect(),
            tree_size: hashes.len() as u64,
            checkpoint: note,
        }
    }

    #[test]
    fn what_is_there_is_shown_and_nothing_else() {
        let signer = SeedSigner::new(ORIGIN, &[7; 32]).unwrap();
        let other = SeedSigner::new(ORIGIN, &[8; 32]).unwrap();
        let keys = LogKeys::parse(&format!("{}\n{}\n", other.verifier(), signer.verifier())).unwrap();
        let told: Vec<AuditEvent> = (1..=6).map(event).collect();
        let good = answer(&told, &signer);
        assert_eq!(verified(&good, &told, &keys), Ok(6));
        let mut part = good.clone();
        part.receipts.truncate(2);
        assert_eq!(verified(&part, &told, &keys), Ok(2));

        part.receipts.clear();
        assert_eq!(verified(&part, &told, &keys), Err(BadReceipt::Count(0)));
        assert_eq!(verified(&good, &told[..5], &keys), Err(BadReceipt::Count(6)));
        let stranger = LogKeys::parse(&other.verifier().to_string()).unwrap();
        assert_eq!(verified(&good, &told, &stranger), Err(BadReceipt::Checkpoint));
        // Another name, another event, and one that is proved to be there in the place of the one that was told.
        let mut others = told.clone();
        others[1].subject = String::new();
        assert_eq!(verified(&good, &others, &keys), Err(BadReceipt::Leaf(4)));
        others[1] = AuditEvent { reason: "other".into(), ..told[1].clone() };
        assert_eq!(verified(&answer(&others, &signer), &told, &keys), Err(BadReceipt::Leaf(4)));
        let mut swapped = good.clone();
        swapped.receipts.swap(0, 1);
        assert!(matches!(verified(&swapped, &told, &keys), Err(BadReceipt::Leaf(_))));
        // A tree that does not have it.
        let mut without = good.clone();
        without.checkpoint = answer(&others, &signer).checkpoint;
        assert!(matches!(verified(&without, &told, &keys), Err(BadReceipt::Proof { leaf: 3, .. })));
        let mut short = good.clone();
        short.receipts[0].proof[0] = vec![0; 31];
        assert!(matches!(verified(&short, &told, &keys), Err(BadReceipt::Proof { leaf: 3, .. })));
        let mut moved = good;
        moved.receipts[0].leaf_index = 2;
        assert!(matches!(verified(&moved, &told, &keys), Err(BadReceipt::Proof { leaf: 2, .. })));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "\n \n", "no key", "example.org/audit-log+00000000+AAAA"] {
            assert!(matches!(LogKeys::parse(text), Err(ClientError::Key(_))), "{text:?}");
        }
    }
}
