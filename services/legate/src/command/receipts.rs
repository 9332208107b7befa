//! `legate audit receipts`: that what somebody told is in the log, asked for by whoever told it, and kept for whoever believes nobody.

use std::path::Path;

use legate_batch::rotated::follow;
use legate_merkle::{Checkpoint, TlogProof, VerifierKey, leaf_hash, verify_inclusion};
use legate_wire::audit::ingest_service_client::IngestServiceClient;
use legate_wire::audit::{AuditEvent, EventReceipt, GetReceiptsRequest, GetReceiptsResponse};
use prost::Message as _;

use super::Desk;
use super::audit::{unverified, verifier_key};
use super::prove::write;
use crate::cli::Receipts;
use crate::output::Format;
use crate::place::Service;
use crate::{Exit, Failure, identity, proto};

pub(super) async fn run(desk: Desk, args: Receipts) -> Result<Exit, Failure> {
    let key = verifier_key(&args.key)?;
    let audit = desk.line_as(Service::Audit, identity::open(&args.identity)?)?;
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir).map_err(|e| Failure::file(dir, e))?;
    }
    let mut out = desk.out();
    let end = args.first.saturating_add(u64::from(args.count));
    let mut next = args.first;
    while next < end {
        let count = u32::try_from(end - next).unwrap_or(args.count);
        let request = GetReceiptsRequest { epoch: args.epoch.clone(), first_seq: next, count };
        let answer =
            audit.ask(request, |c, r| async move { IngestServiceClient::new(c).get_receipts(r).await }).await?;
        let proofs = verified(&answer, (&args.epoch, next, count), &key)?;
        match out.format {
            Format::Json | Format::Jsonl => out.json(&proto::dynamic(&answer), desk.format == Format::Json)?,
            _ => {}
        }
        for ((receipt, proof), number) in answer.receipts.iter().zip(proofs).zip(next..) {
            if !matches!(out.format, Format::Json | Format::Jsonl) {
                let (leaf, size) = (receipt.leaf_index, answer.tree_size);
                out.line(&format!(
                    "event {number} of {} is leaf {leaf} of the log, in the tree of {size}",
                    args.epoch
                ))?;
            }
            if let Some(dir) = &args.out {
                keep(dir, number, receipt, &proof)?;
            }
        }
        next += answer.receipts.len() as u64;
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// Both files of one event.
fn keep(dir: &Path, number: u64, receipt: &EventReceipt, proof: &TlogProof) -> Result<(), Failure> {
    write(&dir.join(format!("{number}.leaf")), &receipt.leaf)?;
    write(&dir.join(format!("{number}.tlog-proof")), proof.to_string().as_bytes())
}

/// The proofs, each of which leads from an event of this epoch and number to the tree that the log's key signed.
fn verified(
    answer: &GetReceiptsResponse,
    (epoch, first, count): (&str, u64, u32),
    key: &VerifierKey,
) -> Result<Vec<TlogProof>, Failure> {
    if !(1..=count as usize).contains(&answer.receipts.len()) {
        return Err(unverified(format!("{} receipts came, of {count} that were asked for", answer.receipts.len())));
    }
    let (tree, _) = follow(key, answer.checkpoint.as_bytes(), &answer.key_rotations)
        .map_err(|e| unverified(format!("the checkpoint is refused: {e}")))?;
    let rotations = match answer.key_rotations.as_slice() {
        [] => None,
        some => Some(crate::evidence::rotations(some)?),
    };
    let proof = |(receipt, number): (&EventReceipt, u64)| {
        let hashes = proved(receipt, (epoch, number), &tree)?;
        let (index, checkpoint) = (receipt.leaf_index, answer.checkpoint.clone());
        Ok(TlogProof { extra: rotations.clone(), index, hashes, checkpoint })
    };
    answer.receipts.iter().zip(first..).map(proof).collect()
}

fn proved(receipt: &EventReceipt, (epoch, number): (&str, u64), tree: &Checkpoint) -> Result<Vec<[u8; 32]>, Failure> {
    let leaf = receipt.leaf_index;
    let emitter = AuditEvent::decode(receipt.leaf.as_slice()).ok().and_then(|event| event.emitter);
    if !emitter.is_some_and(|emitter| emitter.epoch == epoch && emitter.seq == number) {
        return Err(unverified(format!("leaf {leaf} is not event {number} of the epoch {epoch}")));
    }
    let hashes: Option<Vec<[u8; 32]>> = receipt.proof.iter().map(|hash| hash.as_slice().try_into().ok()).collect();
    let hashes = hashes.ok_or_else(|| unverified("a hash of the proof has not 32 bytes"))?;
    verify_inclusion(leaf, tree.size, &leaf_hash(&receipt.leaf), &hashes, &tree.root)
        .map_err(|e| unverified(format!("leaf {leaf}: {e}")))?;
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_merkle::{Frontier, SeedSigner, Signer as _, prove_among};
    use legate_wire::audit::Emitter;

    /// Two events of an epoch behind a leaf of somebody else's.
    fn answer(signer: &SeedSigner) -> GetReceiptsResponse {
        let event = |seq| AuditEvent {
            emitter: Some(Emitter { epoch: "e".into(), seq, ..Emitter::default() }),
            ..AuditEvent::default()
        };
        let leaves = [b"other".to_vec(), event(7).encode_to_vec(), event(8).encode_to_vec()];
        let hashes = leaves.each_ref().map(|leaf| leaf_hash(leaf));
        let mut tree = Frontier::default();
        hashes.iter().for_each(|hash| tree.push(*hash));
        let receipt = |at: usize| EventReceipt {
            leaf_index: at as u64,
            leaf: leaves[at].clone(),
            proof: prove_among(at as u64, &hashes).unwrap().iter().map(|hash| hash.to_vec()).collect(),
        };
        let checkpoint = Checkpoint::new("example.org/log", 3, tree.root()).sign(signer).unwrap().to_string();
        GetReceiptsResponse {
            receipts: vec![receipt(1), receipt(2)],
            tree_size: 3,
            checkpoint,
            key_rotations: Vec::new(),
        }
    }

    #[test]
    fn receipts_are_of_what_was_asked_for_under_the_logs_key_or_refused() {
        let signer = SeedSigner::new("example.org/log", &[7; 32]).unwrap();
        let good = answer(&signer);
        let proofs = verified(&good, ("e", 7, 2), signer.verifier()).unwrap();
        assert_eq!((proofs.len(), proofs[1].index), (2, 2));
        let stranger = SeedSigner::new("example.org/log", &[8; 32]).unwrap();
        assert!(verified(&good, ("e", 7, 2), stranger.verifier()).is_err());
        for asked in [("e", 6, 2), ("other", 7, 2), ("e", 7, 1)] {
            assert!(verified(&good, asked, signer.verifier()).is_err(), "{asked:?}");
        }
        let mut bent = good.clone();
        bent.receipts[1].leaf_index = 1;
        assert!(verified(&bent, ("e", 7, 2), signer.verifier()).is_err());
        bent.receipts.clear();
        assert!(verified(&bent, ("e", 7, 2), signer.verifier()).is_err());
    }
}
