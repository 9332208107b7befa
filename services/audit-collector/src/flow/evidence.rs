//! Somebody takes events out as evidence: that is an event too, and the proof of it seals what was taken.

use std::collections::BTreeMap;

use legate_authority::{Place, Right};
use legate_rpc::Fault;
use legate_wire::audit::{AuditEvent, Outcome};

use super::query::said;
use super::rights::Judged;
use super::{Call, Desk, checkpoint, database, reads, rights};
use crate::domain::question::Question;
use crate::error::{AUDIT_NOT_IN_TREE, of_index};
use crate::log::{Inclusion, Own};

/// The type of the record.
const KIND: &str = "log.evidence_made";

/// What was taken out.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// SHA-256 of the manifest.
    pub(crate) manifest: [u8; 32],
    pub(crate) question: Question,
    pub(crate) events: u64,
    /// The tree that the proofs lead to.
    pub(crate) tree_size: u64,
    pub(crate) is_complete: bool,
    /// The proof of the record has to lead to a tree that the witnesses' quorum cosigned.
    pub(crate) cosigned: bool,
    /// `dossier` or `report`; empty: the events that answer the question.
    pub(crate) kind: &'static str,
}

/// The record, and its proof.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) leaf_index: u64,
    pub(crate) proved: Inclusion,
}

/// Puts it on record, and answers with the proof once a checkpoint covers the record. For whoever may read in the namespace that
/// is named, or anything at all where none is: what of it he could read was judged when he asked for it.
#[tracing::instrument(skip_all, fields(events = ask.events))]
pub(crate) async fn record(desk: &Desk, call: &Call, ask: Ask) -> Result<Recorded, Fault> {
    let judged = rights::ready(desk, call).await?;
    if let Judged::ByRoles(..) = judged {
        let (db, now) = (database(desk)?, desk.clock.now());
        let reading = db.read("judge_reader", move |tx| {
            let judged = judged.clone();
            Box::pin(async move { judged.sees(tx, now).await })
        });
        let sees = reading.await.map_err(of_index)?;
        let namespace = &ask.question.namespace;
        if !namespace.is_empty() && !sees.has(Place::of(namespace)) {
            let text = format!("{} needs the right READ in {namespace} to take evidence out of it", call.caller);
            let refusal = Fault::refused(&legate_rpc::OPERATOR_NOT_PERMITTED, text);
            return Err(refusal.with("right", Right::Read.word()));
        }
    }
    let covered = desk.log.published().borrow().size;
    if ask.tree_size > covered || ask.events > ask.tree_size {
        let text = format!(
            "{} events of a tree of {} leaves; the newest checkpoint covers {covered}",
            ask.events, ask.tree_size
        );
        return Err(Fault::refused(&AUDIT_NOT_IN_TREE, text).with("checkpoint_size", covered.to_string()));
    }
    checkpoint::can_be(desk, ask.cosigned)?;
    reads::broke_glass(desk, call);
    let leaf_index = desk.log.record(Own::from_event(KIND, event(desk, call, &ask))).await?;

    let covering = checkpoint::covering(desk, call, ask.cosigned, leaf_index + 1).await;
    let covering = covering.map_err(|fault| fault.with("leaf_index", leaf_index.to_string()))?;
    let size = covering.size;
    let proving = desk.log.reading(move |log| log.prove_inclusion(leaf_index, size));
    let mut proved = proving.await.map_err(Fault::broken)??;
    // Of that tree, and not of the newest.
    proved.checkpoint = covering.note;
    desk.metrics.read(KIND, usize::try_from(ask.events).unwrap_or(usize::MAX));
    Ok(Recorded { leaf_index, proved })
}

/// The record: who, what was asked, how much, of which tree, and the hash that ties the pack to it.
fn event(desk: &Desk, call: &Call, ask: &Ask) -> AuditEvent {
    let mut details = said(&ask.question.parts());
    reads::shorten(&mut details);
    reads::hide(desk, &mut details);
    let digest: String = ask.manifest.iter().map(|byte| format!("{byte:02x}")).collect();
    details.extend(BTreeMap::from([
        ("manifest_sha256".to_owned(), digest),
        ("events".to_owned(), ask.events.to_string()),
        ("tree_size".to_owned(), ask.tree_size.to_string()),
        ("is_complete".to_owned(), ask.is_complete.to_string()),
    ]));
    if !ask.kind.is_empty() {
        details.insert("kind".to_owned(), ask.kind.to_owned());
    }
    details.extend(call.emergency.iter().map(|why| ("emergency".to_owned(), why.clone())));
    AuditEvent {
        actor: call.caller.clone(),
        namespace: ask.question.namespace.clone(),
        outcome: Outcome::Success.into(),
        trace_id: call.trace.trace_id.clone(),
        span_id: call.trace.span_id.clone(),
        details,
        ..AuditEvent::default()
    }
}
