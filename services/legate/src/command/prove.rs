//! `legate audit prove`: one event, proved and verified here, and the proof in files that others read.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use legate_merkle::{Receipt, TlogProof, VerifierKey, leaf_hash, verify_inclusion};
use legate_wire::audit::ProveInclusionRequest;
use legate_wire::audit::proof_service_client::ProofServiceClient;

use super::Desk;
use super::audit::{newest, unverified};
use crate::evidence::said;
use crate::output::{Row, event_details};
use crate::place::Service;
use crate::{Exit, Failure, proto};

/// What is written, and where.
pub(super) struct Files {
    pub(super) tlog_proof: Option<PathBuf>,
    pub(super) cose_receipt: Option<PathBuf>,
    pub(super) entry: Option<PathBuf>,
}

pub(super) async fn prove(
    desk: Desk,
    leaf_index: u64,
    cosigned: bool,
    key: VerifierKey,
    files: Files,
) -> Result<Exit, Failure> {
    let audit = desk.line(Service::Audit)?;
    // The tree comes first, with the keys that lead to its signature. A cosigned one is waited for.
    let at_least = if cosigned { leaf_index.saturating_add(1) } else { 0 };
    let newest = newest(&audit, &key, cosigned, at_least).await?;
    let (signed, tree_size) = (&newest.tree, newest.tree.size);
    let request = ProveInclusionRequest { leaf_index, tree_size, with_cose_receipt: files.cose_receipt.is_some() };
    let mut answer =
        audit.ask(request, |c, r| async move { ProofServiceClient::new(c).prove_inclusion(r).await }).await?;
    // The one that comes with the proof may be of a later tree.
    answer.checkpoint = newest.answer.checkpoint.clone();
    if signed.size != answer.tree_size || signed.root.as_slice() != answer.root_hash.as_slice() {
        return Err(unverified("the proof is for another tree than the signed checkpoint"));
    }
    let proof: Option<Vec<[u8; 32]>> = answer.proof.iter().map(|h| h.as_slice().try_into().ok()).collect();
    let proof = proof.ok_or_else(|| unverified("a hash of the proof has not 32 bytes"))?;
    let leaf = leaf_hash(&answer.leaf);
    verify_inclusion(leaf_index, signed.size, &leaf, &proof, &signed.root)
        .map_err(|e| unverified(format!("leaf {leaf_index}: {e}")))?;
    let event = said(&answer.leaf, &answer.personal)
        .map_err(|what| unverified(format!("leaf {leaf_index} is in the log: {what}")))?;
    if files.cose_receipt.is_some() {
        Receipt::decode(&answer.cose_receipt)
            .and_then(|receipt| receipt.verify(&answer.leaf, newest.keys.newest()))
            .map_err(|e| unverified(format!("the receipt of leaf {leaf_index}: {e}")))?;
    }
    let mut details = event_details(&event);
    details.push((
        "proved",
        format!(
            "leaf {leaf_index} is in the log of size {} signed by {}; {} hashes lead to its root",
            signed.size,
            newest.keys.name(),
            proof.len()
        ),
    ));
    let rotations = newest.rotations();
    let extra = if rotations.is_empty() { None } else { Some(crate::evidence::rotations(rotations)?) };
    let as_file = TlogProof { extra, index: leaf_index, hashes: proof, checkpoint: answer.checkpoint.clone() };
    let as_file = as_file.to_string();
    for (path, bytes) in [
        (&files.tlog_proof, as_file.as_bytes()),
        (&files.cose_receipt, answer.cose_receipt.as_slice()),
        (&files.entry, answer.leaf.as_slice()),
    ] {
        if let Some(path) = path {
            write(path, bytes)?;
            details.push(("written", path.display().to_string()));
        }
    }
    let row = Row { cells: Vec::new(), name: event.event_id.clone(), message: proto::dynamic(&answer), node: None };
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}

/// Nothing is overwritten.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all())).map_err(|e| Failure::file(path, e))
}
