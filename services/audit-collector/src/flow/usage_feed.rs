//! The registry hears what agents used, stretch by stretch, out of the leaves themselves: the index may be behind, or be made
//! again, and nothing is counted twice or left out.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_merkle::Hash;
use legate_rpc::Fault;
use legate_wire::audit::AuditEvent;
use prost::Message as _;
use tokio::time::{Instant, timeout_at};

use super::{Call, Desk, MARGIN};
use crate::domain::detect::fact::Services;
use crate::domain::digest::Digest;
use crate::error::AUDIT_NOT_THIS_LOG;
use crate::log::{Log, NotProved};

/// Leaves of one stretch, and their bytes.
const LEAVES: u64 = 2_048;
const BYTES: usize = 4 << 20;

/// So long is waited for new leaves.
const WAIT: Duration = Duration::from_secs(5);

/// Where the reader is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) after: u64,
    /// `None`: at the beginning.
    pub(crate) root: Option<Hash>,
}

/// What the next stretch says.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) origin: String,
    pub(crate) through: u64,
    pub(crate) root: Hash,
    pub(crate) is_newest: bool,
    pub(crate) at: Timestamp,
    pub(crate) first: Option<Timestamp>,
    pub(crate) digest: Digest,
}

/// Reads the next stretch, or waits for one.
///
/// # Errors
/// `AUDIT_NOT_THIS_LOG` when the log does not begin as the reader heard it.
#[tracing::instrument(skip_all)]
pub(crate) async fn read(desk: &Desk, call: &Call, ask: Ask) -> Result<Heard, Fault> {
    let mut published = desk.log.published();
    let until = (Instant::now() + WAIT).min(call.deadline.checked_sub(MARGIN).unwrap_or(call.deadline));
    let stopping = desk.stopping.get().cloned().unwrap_or_default();
    let news = async { drop(published.wait_for(|now| now.size > ask.after).await) };
    // Where nothing comes, that is the answer.
    tokio::select! {
        () = stopping.cancelled() => {}
        _ = timeout_at(until, news) => {}
    }
    // What is covered is noted before the time, so that nothing that the log held then is left out of "everything".
    let (end, at) = (desk.log.published().borrow().size, desk.clock.now());
    let services = Services::beside(desk.index.registry());
    let reading = desk.log.reading(move |log| stretch(log, &ask, end, &services));
    let Some(Stretch { through, root, digest, first }) = reading.await.map_err(Fault::broken)?? else {
        let text = "the log does not begin with the leaves that the reader heard";
        return Err(Fault::refused(&AUDIT_NOT_THIS_LOG, text).with("log_size", end.to_string()));
    };
    let origin = desk.index.origin().to_owned();
    Ok(Heard { origin, through, root, is_newest: through >= end, at, first, digest })
}

/// What some leaves come to.
struct Stretch {
    through: u64,
    root: Hash,
    digest: Digest,
    first: Option<Timestamp>,
}

/// The next leaves, up to `end`; `None`: the log does not begin as the reader heard it.
fn stretch(log: &Log, ask: &Ask, end: u64, services: &Services) -> Result<Option<Stretch>, Fault> {
    if !is_ours(log, ask, end)? {
        return Ok(None);
    }
    let leaves = log.read(ask.after, end.min(ask.after + LEAVES), BYTES).map_err(Fault::broken)?;
    let mut digest = Digest::default();
    for (_, leaf) in &leaves {
        // A leaf that is no event was refused when it came.
        if let Ok(event) = AuditEvent::decode(leaf.as_slice()) {
            digest.take(&event, services);
        }
    }
    digest.settle();
    let through = ask.after + leaves.len() as u64;
    let root = if through == 0 { legate_merkle::empty_root() } else { log.root_at(through).map_err(Fault::from)? };
    let first = log.read(0, end.min(1), BYTES).map_err(Fault::broken)?;
    let first = first.first().and_then(|(_, leaf)| AuditEvent::decode(leaf.as_slice()).ok());
    let first = first.and_then(|event| event.time).and_then(|time| Timestamp::try_from(time).ok());
    Ok(Some(Stretch { through, root, digest, first }))
}

/// Whether the log begins as the reader heard it.
fn is_ours(log: &Log, ask: &Ask, end: u64) -> Result<bool, Fault> {
    let Some(root) = ask.root.filter(|_| ask.after > 0) else { return Ok(ask.after == 0) };
    if ask.after > end {
        // The checkpoint's file may be older than what it said once; the leaves are there, or the log is another one.
        return if ask.after > log.size() { Ok(false) } else { Err(Fault::from(NotProved::Range { size: end })) };
    }
    Ok(log.root_at(ask.after).map_err(Fault::from)? == root)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeMap;

    use legate_ids::EventId;
    use legate_wire::audit::{Emitter, EventResource, Outcome};

    use super::*;
    use crate::domain::producers::Producer;
    use crate::log::Offer;
    use crate::log::tests::scene::{ME, append, open, producer, until_published};

    fn services() -> Services {
        Services::beside(&ME.replace("audit-collector", "registry"))
    }

    /// `count` allowed decisions about one agent.
    fn decisions(of: &Producer, first_seq: u64, count: u64) -> Offer {
        let event = |seq| AuditEvent {
            event_id: EventId::from_parts(seq, [1; 10]).to_string(),
            emitter: Some(Emitter { spiffe_id: of.spiffe_id.clone(), epoch: of.epoch.clone(), seq }),
            time: Some(Timestamp::from_secs(1_800_000_000).into()),
            r#type: "decision.made".into(),
            agent_id: "agt_1".into(),
            action: "invoice:read".into(),
            resource: Some(EventResource { r#type: "Invoice".into(), ..EventResource::default() }),
            outcome: Outcome::Success.into(),
            ..AuditEvent::default()
        };
        let events = (first_seq..first_seq + count).map(|seq| event(seq).encode_to_vec().into()).collect();
        Offer { producer: of.clone(), first_seq, events, personal: BTreeMap::new(), signature: None }
    }

    /// Everything, stretch by stretch; how often it was used, and where that ended.
    fn heard(log: &Log, mut ask: Ask, end: u64) -> (i64, usize, Ask) {
        let (mut count, mut stretches) = (0, 0);
        loop {
            let next = stretch(log, &ask, end, &services()).unwrap().unwrap();
            count += next.digest.used.values().map(|tally| tally.count).sum::<i64>();
            if next.through == ask.after {
                return (count, stretches, ask);
            }
            stretches += 1;
            ask = Ask { after: next.through, root: Some(next.root) };
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_leaf_is_heard_once_and_another_log_is_not_taken_for_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open(dir.path()).await;
        let (policy, other) = (producer("policy-decision", "e1"), producer("registry", "e1"));
        log.append(decisions(&policy, 1, 3_000)).await.unwrap();
        append(&log, &other, 1, 50).await.unwrap();
        let end = until_published(&log).await;
        let (count, stretches, place) = heard(&log, Ask::default(), end);
        assert!(count == 3_000 && stretches >= 2, "{count} in {stretches}");
        assert_eq!(place.after, end);
        log.append(decisions(&policy, 3_001, 7)).await.unwrap();
        let end = until_published(&log).await;
        assert_eq!(heard(&log, place.clone(), end).0, 7);
        // Heard as another, or longer than this one is.
        let other = Ask { after: place.after, root: Some([7; 32]) };
        assert!(stretch(&log, &other, end, &services()).unwrap().is_none());
        let longer = Ask { after: log.size() + 9, root: place.root };
        assert!(stretch(&log, &longer, end, &services()).unwrap().is_none());
        let first = stretch(&log, &Ask::default(), end, &services()).unwrap().unwrap();
        assert!(first.first.is_some());
        tasks.close().await;
    }
}
