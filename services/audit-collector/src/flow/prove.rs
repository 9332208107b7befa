//! Proofs: a leaf is in a tree, a tree is the beginning of another.

use std::collections::BTreeMap;

use legate_merkle::{Receipt, VerifierKey};
use legate_rpc::Fault;

use super::rights::Judged;
use super::{Call, Desk, database, reads, rights};
use crate::error::of_index;
use crate::log::{Consistency, Inclusion, NotProved};
use crate::personal::Seen;

/// Which leaf, in which tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) leaf_index: u64,
    pub(crate) tree_size: u64,
    pub(crate) with_cose_receipt: bool,
}

/// A leaf that is proved to be in a tree, and what it says; the receipt is empty where it was not asked for.
#[derive(Clone, Debug)]
pub(crate) struct Proved {
    pub(crate) inclusion: Inclusion,
    pub(crate) seen: Seen,
    pub(crate) receipt: Vec<u8>,
}

/// Proves that a leaf is in a tree. It shows the leaf, so it is for whoever may see it, and is recorded as a read.
#[tracing::instrument(skip(desk, call))]
pub(crate) async fn inclusion(desk: &Desk, call: &Call, ask: Ask) -> Result<Proved, Fault> {
    let Ask { leaf_index: index, tree_size: size, with_cose_receipt } = ask;
    let judged = rights::ready(desk, call).await?;
    let proving = desk.log.reading(move |log| {
        let proved = log.prove_inclusion(index, size)?;
        let seen = log.seen(vec![(index, proved.leaf.clone())]).pop().unwrap_or_default();
        Ok::<_, NotProved>((proved, seen))
    });
    let (proved, seen) = proving.await.map_err(Fault::broken)??;
    let namespace = seen.event.namespace.clone();
    // Whom the configuration names needs no index.
    if let Judged::ByRoles(..) = judged {
        let (db, now) = (database(desk)?, desk.clock.now());
        let reading = db.read("judge_reader", move |tx| {
            let judged = judged.clone();
            Box::pin(async move { judged.sees(tx, now).await })
        });
        rights::demand(call, &reading.await.map_err(of_index)?, &namespace)?;
    }
    let proved = match desk.cosigned.newest() {
        Some(cosigned) if cosigned.size == proved.size => Inclusion { checkpoint: cosigned.note, ..proved },
        _ => proved,
    };
    let asked = BTreeMap::from([("leaf_index".to_owned(), index.to_string())]);
    reads::record(desk, call, reads::Read { kind: "log.proved", namespace, asked, refused: "" }, 1).await?;
    let receipt = if with_cose_receipt { receipt(desk, index, &proved)? } else { Vec::new() };
    Ok(Proved { inclusion: proved, seen, receipt })
}

/// The proof as a COSE receipt: the log's key signs the root once more, in COSE's own form.
fn receipt(desk: &Desk, index: u64, proved: &Inclusion) -> Result<Vec<u8>, Fault> {
    let key = VerifierKey::parse(desk.log.verifier_key()).map_err(Fault::broken)?;
    let unsigned = Receipt::unsigned(&key, proved.size, index, proved.proof.clone());
    let signature = desk.log.sign(&unsigned.to_be_signed(&proved.root)).map_err(Fault::broken)?;
    Ok(unsigned.signed(signature).encode())
}

/// Proves that the tree of `first` leaves is the beginning of that of `second`. It shows hashes only.
#[tracing::instrument(skip(desk))]
pub(crate) async fn consistency(desk: &Desk, first: u64, second: u64) -> Result<Consistency, Fault> {
    if first == 0 {
        return Err(Fault::invalid("first_size", "is 1 or more: everything continues the empty log"));
    }
    let proving = desk.log.reading(move |log| log.prove_consistency(first, second));
    Ok(proving.await.map_err(Fault::broken)??)
}
