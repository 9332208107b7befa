//! An emitter's receipts: that what it told is in the log's tree, under a signed checkpoint; they show nobody anything that he
//! did not tell himself, so none is a read that is recorded.

use legate_rpc::Fault;
use legate_wire::audit::AuditEvent;
use prost::Message as _;
use tokio::time::timeout_at;

use super::{Call, Desk, MARGIN, Reader, append, database};
use crate::domain::event::is_epoch;
use crate::domain::otlp;
use crate::domain::producers::Producer;
use crate::error::{AGAIN, AUDIT_INDEX_BEHIND, AUDIT_NOT_TOLD, of_index, spent};
use crate::log::{Log, Published, Rotated};
use crate::store::numbered;

/// Leaves and proofs of one answer, in bytes; what is behind is asked for again.
const BYTES: usize = 2 << 20;

/// Which events.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) epoch: String,
    pub(crate) first_seq: u64,
    pub(crate) count: u32,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) leaf_index: u64,
    pub(crate) leaf: Vec<u8>,
    pub(crate) proof: Vec<legate_merkle::Hash>,
}

/// A beginning of what was asked for, proved to be in one tree.
#[derive(Clone, Debug)]
pub(crate) struct Receipts {
    pub(crate) all: Vec<Receipt>,
    pub(crate) published: Published,
    /// The rotations of the log's key that this tree holds.
    pub(crate) rotations: Vec<Rotated>,
}

/// Proves that events of the caller's own are in the log. Whose they are is the caller's certificate, and nothing else.
#[tracing::instrument(skip_all, fields(count = ask.count))]
pub(crate) async fn receipts(desk: &Desk, call: &Call, ask: Ask) -> Result<Receipts, Fault> {
    let Reader::Emitter(_) = &call.reader else {
        return Err(Fault::broken("a caller was let in who emits nothing"));
    };
    let Ask { epoch, first_seq, count } = ask;
    if !is_epoch(&epoch) || epoch == otlp::EPOCH {
        return Err(Fault::invalid("epoch", "is 1 to 64 of A-Z a-z 0-9 _ -, and not otlp"));
    }
    if !(1..=append::MOST).contains(&usize::try_from(count).unwrap_or(usize::MAX)) {
        return Err(Fault::invalid("count", "is 1 to 1,024"));
    }
    if first_seq == 0 || first_seq.checked_add(u64::from(count)).is_none() {
        return Err(Fault::invalid("first_seq", "events are counted from 1"));
    }
    // Each is a walk through the tree: nobody asks for more than may be told.
    let taken = desk.receipts.lock().take(&call.caller, "", (2, count as usize), desk.clock.monotonic());
    taken.map_err(|wait| spent(&call.caller, wait))?;
    let producer = Producer { spiffe_id: call.caller.clone(), epoch };
    let last = desk.log.last(producer.clone()).await?;
    if last < first_seq {
        let text = format!("event {first_seq} of the caller's epoch {} is not in the log", producer.epoch);
        return Err(Fault::refused(&AUDIT_NOT_TOLD, text).with("last_seq", last.to_string()));
    }
    let leaves = leaves(desk, call, &producer, first_seq, u64::from(count)).await?;
    let proving = desk.log.reading(move |log| prove(log, &leaves, &producer, first_seq));
    let Receipts { all, published, rotations } = proving.await.map_err(Fault::broken)??;
    desk.metrics.receipts(all.len());
    Ok(Receipts { all, published: desk.cosigned.of(published), rotations })
}

/// Where they are, once the index holds the first of them.
async fn leaves(desk: &Desk, call: &Call, producer: &Producer, first: u64, count: u64) -> Result<Vec<u64>, Fault> {
    let mut through = desk.index.through();
    let until = call.deadline.checked_sub(MARGIN).unwrap_or(call.deadline);
    loop {
        let now = *through.borrow_and_update();
        let its = producer.clone();
        let db = database(desk)?;
        let reading = db.read("receipts", move |tx| {
            let its = its.clone();
            Box::pin(async move { numbered::leaves(tx, (&its.spiffe_id, &its.epoch), first, count).await })
        });
        let found = reading.await.map_err(of_index)?;
        if !found.is_empty() {
            return Ok(found);
        }
        if !matches!(timeout_at(until, through.changed()).await, Ok(Ok(()))) {
            let text = format!("the index does not hold event {first} of the caller's epoch yet");
            return Err(Fault::unavailable(&AUDIT_INDEX_BEHIND, text, AGAIN).with("indexed_through", now.to_string()));
        }
    }
}

fn prove(log: &Log, leaves: &[u64], producer: &Producer, first_seq: u64) -> Result<Receipts, Fault> {
    let (mut bytes, mut read) = (0, Vec::with_capacity(leaves.len()));
    for (index, seq) in leaves.iter().zip(first_seq..) {
        let found = log.read(*index, index + 1, 1).map_err(Fault::broken)?.pop();
        let (_, leaf) = found.ok_or_else(|| Fault::broken(format!("leaf {index} cannot be read")))?;
        // The index is derived: what it says is held against the log before it is anybody's.
        let emitter = AuditEvent::decode(leaf.as_slice()).ok().and_then(|event| event.emitter).unwrap_or_default();
        if (&emitter.spiffe_id, &emitter.epoch, emitter.seq) != (&producer.spiffe_id, &producer.epoch, seq) {
            return Err(Fault::broken(format!("leaf {index} is not event {seq} of its emitter, as the index says")));
        }
        // 64 hashes are the longest path.
        bytes += leaf.len() + 64 * size_of::<legate_merkle::Hash>();
        if bytes > BYTES && !read.is_empty() {
            break;
        }
        read.push((*index, leaf));
    }
    let proved: Vec<u64> = read.iter().map(|(index, _)| *index).collect();
    let (proofs, published) = log.prove_each(&proved, 0)?;
    let receipt = |((leaf_index, leaf), proof)| Receipt { leaf_index, leaf, proof };
    let all = read.into_iter().zip(proofs).map(receipt).collect();
    Ok(Receipts { all, rotations: log.prove_rotations(published.size)?, published })
}
