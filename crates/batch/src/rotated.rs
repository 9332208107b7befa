//! A rotation of the log's key as it rests: the event by which the log tells of it, back, and the keys that a log's rotations make.

use std::collections::BTreeMap;

use legate_merkle::{
    Checkpoint, CheckpointError, Hash, KeyChain, Note, NoteError, ProofError, Rotation, RotationError, VerifierKey,
    leaf_hash, verify_inclusion,
};
use legate_wire::audit::{AuditEvent, KeyRotation, Outcome};
use prost::Message as _;

/// The type of that event.
pub const ROTATED: &str = "log.key_rotated";

/// Under which name it holds the signed note.
const NOTE: &str = "rotation";

/// The end of the SPIFFE ID of whoever may say it.
const COLLECTOR: &str = "/legate/audit-collector";

/// Why the keys of a log are not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRotated {
    /// The event is none.
    #[error("leaf {at} is no {ROTATED} by the log's own collector")]
    Event {
        /// Its place.
        at: u64,
    },
    /// What it holds does not hold.
    #[error("leaf {at} says that the log's key is followed by another, and that does not hold: {why}")]
    Rotation {
        /// Its place.
        at: u64,
        /// What is wrong.
        why: RotationError,
    },
    /// It is not proved to be there.
    #[error("leaf {at} says that the log's key is followed by another, and is not proved to be in the log: {why}")]
    Proof {
        /// Its place.
        at: u64,
        /// What is wrong.
        why: ProofError,
    },
    /// The key that was given is none of the log's.
    #[error(
        "the log is signed by {newest}, and no rotation that it shows leads there from the key that was given, {given}"
    )]
    Stranger {
        /// The key that was given.
        given: String,
        /// The one that signs.
        newest: String,
    },
    /// The checkpoint is refused.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// The event that tells of a rotation; who tells it, when and under which id is set by the log.
#[must_use]
pub fn event(rotation: &Rotation, reason: &str) -> AuditEvent {
    let details = BTreeMap::from([
        (NOTE.to_owned(), rotation.to_string()),
        ("from".to_owned(), rotation.from().to_string()),
        ("to".to_owned(), rotation.to().to_string()),
    ]);
    AuditEvent {
        r#type: ROTATED.to_owned(),
        outcome: Outcome::Success.into(),
        reason: reason.to_owned(),
        details,
        ..AuditEvent::default()
    }
}

/// What the event at a place of the log says of the log's key, where it says anything: both signatures hold, and it speaks of its own
/// place. Whether it speaks of that tree is for whoever knows it.
///
/// # Errors
/// [`NotRotated::Rotation`].
pub fn rotated(event: &AuditEvent, at: u64) -> Result<Option<Rotation>, NotRotated> {
    let by = event.emitter.as_ref().map(|emitter| emitter.spiffe_id.as_str()).unwrap_or_default();
    if event.r#type != ROTATED || !by.ends_with(COLLECTOR) {
        return Ok(None);
    }
    let wrong = |why| NotRotated::Rotation { at, why };
    let note = event.details.get(NOTE).ok_or(wrong(RotationError::Form("it holds none")))?;
    let rotation = Rotation::open(note.as_bytes()).map_err(wrong)?;
    if rotation.size() != at {
        return Err(wrong(RotationError::Order(rotation.size())));
    }
    Ok(Some(rotation))
}

/// The keys that lead to a checkpoint: by rotations that are each proved to be in its tree, from the key that was given or through it.
/// The checkpoint is signed by the last of them.
///
/// # Errors
/// [`NotRotated`].
pub fn follow(
    given: &VerifierKey,
    note: &[u8],
    rotations: &[KeyRotation],
) -> Result<(Checkpoint, KeyChain), NotRotated> {
    let of_form = |note: &[u8]| Checkpoint::parse_text(Note::parse(note)?.text());
    let tree = of_form(note)?;
    let chain = proved(rotations, tree.size, &tree.root)?.unwrap_or_else(|| KeyChain::new(given.clone()));
    if !chain.has(given) {
        let (given, newest) = (given.to_string(), chain.newest().to_string());
        return Err(NotRotated::Stranger { given, newest });
    }
    let checkpoint = match chain.open(note) {
        // Nothing was said of any rotation: it is simply not this key's.
        Err(CheckpointError::NotInForce { .. }) if rotations.is_empty() => {
            return Err(CheckpointError::Note(NoteError::Unsigned(given.to_string())).into());
        }
        opened => opened?,
    };
    Ok((checkpoint, chain))
}

/// The keys of rotations, each proved to be in the tree of this size and root; `None` where there are none.
fn proved(rotations: &[KeyRotation], size: u64, root: &Hash) -> Result<Option<KeyChain>, NotRotated> {
    let mut chain: Option<KeyChain> = None;
    for one in rotations {
        let at = one.leaf_index;
        let no_proof = |why| NotRotated::Proof { at, why };
        let hashes: Option<Vec<Hash>> = one.proof.iter().map(|hash| hash.as_slice().try_into().ok()).collect();
        let hashes = hashes.ok_or(no_proof(ProofError::Length))?;
        verify_inclusion(at, size, &leaf_hash(&one.leaf), &hashes, root).map_err(no_proof)?;
        let event = AuditEvent::decode(one.leaf.as_slice()).map_err(|_| NotRotated::Event { at })?;
        let rotation = rotated(&event, at)?.ok_or(NotRotated::Event { at })?;
        let begun = chain.get_or_insert_with(|| KeyChain::new(rotation.from().clone()));
        begun.push(rotation).map_err(|why| NotRotated::Rotation { at, why })?;
    }
    Ok(chain)
}
