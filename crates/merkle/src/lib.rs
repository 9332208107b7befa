//! The log as arithmetic: RFC 6962 trees and proofs, C2SP tiles, signed notes, checkpoints, cosignatures of witnesses, policies
//! and proofs in files, COSE receipts, the keys of a log one after the other, offline verification.
//!
//! Nothing here reads a file or a clock. Node hashes, tiles and bundles come from closures of the caller, so the
//! collector that writes a log and the auditor that distrusts it use the same lines.
#![no_std]

extern crate alloc;

mod bundle;
mod cbor;
mod checkpoint;
mod cosignature;
mod frontier;
mod hash;
mod key;
mod note;
mod policy;
mod proof;
mod receipt;
mod rotation;
mod tile;
mod tlog_proof;
mod walk;
mod witness;

pub use bundle::{BundleError, MAX_ENTRY, decode_bundle, encode_bundle};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use cosignature::{Cosigner, CosignerKey};
pub use frontier::Frontier;
pub use hash::{Hash, empty_root, leaf_hash, node_hash};
pub use key::{KeyError, SeedSigner, SignError, Signer, VerifierKey};
pub use note::{MAX_NOTE, Note, NoteError, NoteSignature};
pub use policy::{Cosigned, MAX_POLICY, NotCosigned, Policy, PolicyError, Witness};
pub use proof::{
    ProofError, RangeError, inclusion_root, prove_among, prove_consistency, prove_inclusion, root_of,
    verify_consistency, verify_inclusion, verify_subtree_consistency,
};
pub use receipt::{MAX_RECEIPT, Receipt, ReceiptError};
pub use rotation::{KeyChain, MAX_ROTATIONS, Rotation, RotationError};
pub use tile::{
    PathError, TILE_HEIGHT, TILE_WIDTH, TileId, TileKind, decode_tile, encode_tile, new_tiles, node_in_tile,
};
pub use tlog_proof::{MAX_TLOG_PROOF, TlogProof, TlogProofError};
pub use walk::{Walk, WalkError, WalkReport, walk};
pub use witness::{AddCheckpoint, BadRequest, MAX_ADD_CHECKPOINT, Refusal, judge};
