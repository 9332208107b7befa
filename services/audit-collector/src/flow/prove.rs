//! Proofs: a leaf is in a tree, a tree is the beginning of another.

use std::collections::BTreeMap;

use legate_rpc::Fault;

use super::{Call, Desk, reads};
use crate::log::{Consistency, Inclusion};

/// Proves that the leaf at `index` is in the tree of `size`. It shows the leaf, so it is recorded as a read.
#[tracing::instrument(skip(desk, call))]
pub(crate) async fn inclusion(desk: &Desk, call: &Call, index: u64, size: u64) -> Result<Inclusion, Fault> {
    let proving = desk.log.reading(move |log| log.prove_inclusion(index, size));
    let proved = proving.await.map_err(Fault::broken)??;
    let details = BTreeMap::from([("leaf_index".to_owned(), index.to_string())]);
    reads::record(desk, call, "log.proved", details);
    Ok(proved)
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
