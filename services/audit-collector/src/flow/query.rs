//! An auditor asks what happened: the index says where, the log says what.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use legate_authority::Reach;
use legate_db::Tx;
use legate_merkle::Hash;
use legate_rpc::Fault;
use legate_wire::audit::AuditEvent;

use super::rights::Judged;
use super::{Call, Desk, database, reads, rights, wait_for_index};
use crate::domain::question::{Order, Question};
use crate::error::{AUDIT_DESCENDANTS_TOO_MANY, of_index};
use crate::index::NotRead;
use crate::log::{Log, NotProved, Published, Signed};
use crate::personal::{Seen, Vault};
use crate::store::event::{self, key};
use crate::store::search::{Families, Found, Search};
use crate::store::{head, made_by, stretch};

const USUAL: u32 = 100;
const LARGEST: u32 = 1_000;
/// With proofs, each of which takes some twenty hashes of a large log.
const LARGEST_PROVED: u32 = 200;

/// Events whose texts are looked through for one page.
const SEARCHED: u64 = 2_000;

/// An agent, those that it made and those that they made.
const FAMILY: usize = 200;

/// Events in one answer, in bytes; clients take 4 MiB. An answer has at least one event.
const MOST_BYTES: usize = 3 << 20;

/// Leaves with signatures in one answer, in bytes.
const MOST_SIGNATURES: usize = 768 << 10;

/// Leaves so near to each other are read together, and so many bytes of them at once.
const TOGETHER: u64 = 256;
const CHUNK: usize = 256 << 10;

/// What is asked, and which page of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) question: Question,
    pub(crate) order: Order,
    pub(crate) with_proofs: bool,
    pub(crate) page_size: u32,
    pub(crate) page_token: String,
    pub(crate) indexed_at_least: u64,
    /// The tree that proofs lead to, and that the answer is of; 0: the newest.
    pub(crate) proof_tree_size: u64,
}

/// One page.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Events, in order.
    pub(crate) leaves: Vec<Seen>,
    pub(crate) next: String,
    /// Whether the bound on work ended it.
    pub(crate) is_partial: bool,
    pub(crate) indexed_through: u64,
    pub(crate) log_size: u64,
    /// The leaf with the signature of each that its emitter signed.
    pub(crate) attested: BTreeMap<u64, u64>,
    pub(crate) proofs: Option<Proofs>,
}

/// What proves the events of a page, one for each.
#[derive(Clone, Debug)]
pub(crate) struct Proofs {
    /// Audit paths.
    pub(crate) paths: Vec<Vec<Hash>>,
    pub(crate) signatures: Vec<Option<Signed>>,
    /// The checkpoint that they lead to.
    pub(crate) published: Published,
}

/// One page of the events that answer the question and that the caller may see, in order.
#[tracing::instrument(skip_all)]
pub(crate) async fn query(desk: &Desk, call: &Call, ask: Ask) -> Result<Page, Fault> {
    let largest = if ask.with_proofs { LARGEST_PROVED } else { LARGEST };
    let size = match ask.page_size {
        0 => USUAL,
        size if size <= largest => size,
        _ => return Err(Fault::invalid("page_size", "1 to 1,000, with proofs 1 to 200; 0 means 100")),
    };
    let parts = ask.question.parts();
    let order = format!("{:?} {} {}", ask.order, ask.with_proofs, ask.proof_tree_size);
    let asked: Vec<&str> =
        ["events", &call.caller, &order].into_iter().chain(parts.iter().map(|(_, value)| value.as_str())).collect();
    let after = match desk.log.pages().read(&asked, &ask.page_token)? {
        None => None,
        Some(last) => Some(last.parse::<u64>().map_err(Fault::broken)?),
    };
    let judged = rights::ready(desk, call).await?;
    wait_for_index(desk, call, ask.indexed_at_least).await?;

    // With proofs an event comes twice, decoded and as the bytes that are proved, and there are signatures.
    let bytes = if ask.with_proofs { MOST_BYTES / 3 } else { MOST_BYTES };
    let below = if ask.proof_tree_size == 0 { u64::MAX } else { ask.proof_tree_size };
    let place = Place { after, order: ask.order, size: size.into(), bytes, below };
    let mut shown = look(desk, &judged, &ask.question, place).await?;
    let proofs = if ask.with_proofs { Some(prove(desk, &mut shown, ask.proof_tree_size).await?) } else { None };
    let next = shown.more_behind.map(|last| desk.log.pages().after(&asked, &last.to_string())).unwrap_or_default();
    let record = reads::Read {
        kind: "log.queried",
        namespace: ask.question.namespace.clone(),
        asked: said(&parts),
        refused: "",
    };
    reads::record(desk, call, record, shown.leaves.len()).await?;
    Ok(Page {
        is_partial: shown.more_behind.is_some() && shown.is_cut,
        leaves: shown.leaves,
        next,
        indexed_through: shown.indexed_through,
        log_size: desk.log.size(),
        attested: shown.attested,
        proofs,
    })
}

/// Proves what a page shows, which ends where it has as many signatures as an answer holds.
async fn prove(desk: &Desk, shown: &mut Shown, size: u64) -> Result<Proofs, Fault> {
    let by = |seen: &Seen| (seen.at, shown.attested.get(&seen.at).copied());
    let mut events: Vec<(u64, Option<u64>)> = shown.leaves.iter().map(by).collect();
    let proving = desk.log.reading(move |log| {
        let leaves: Vec<u64> = events.iter().map(|(leaf, _)| *leaf).collect();
        let (mut paths, published) = log.prove_each(&leaves, size)?;
        let signatures = log.prove_signatures(&events, published.size, MOST_SIGNATURES)?;
        paths.truncate(signatures.len());
        events.truncate(signatures.len());
        Ok::<_, NotProved>((Proofs { paths, signatures, published }, events.len()))
    });
    let (proofs, count) = proving.await.map_err(Fault::broken)??;
    if count < shown.leaves.len() {
        shown.leaves.truncate(count);
        shown.more_behind = shown.leaves.last().map(|seen| seen.at);
        shown.is_cut = true;
    }
    Ok(proofs)
}

/// What of a question was asked, for the record.
pub(super) fn said(parts: &[(&'static str, String)]) -> BTreeMap<String, String> {
    let asked = parts.iter().filter(|(_, value)| !value.is_empty());
    asked.map(|(name, value)| (format!("asked.{name}"), value.clone())).collect()
}

/// Where a page begins, and how many it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) after: Option<u64>,
    pub(super) order: Order,
    pub(super) size: u64,
    /// An answer has no more, but one event at least.
    pub(super) bytes: usize,
    /// No leaf from here on.
    pub(super) below: u64,
}

/// What a page shows.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) leaves: Vec<Seen>,
    /// The leaf with the signature of each that its emitter signed.
    pub(super) attested: BTreeMap<u64, u64>,
    /// There may be more behind this leaf.
    pub(super) more_behind: Option<u64>,
    /// Whether a bound on work or bytes ended it before it was full.
    pub(super) is_cut: bool,
    pub(super) indexed_through: u64,
}

/// Looks up one page, and reads it in the log.
pub(super) async fn look(desk: &Desk, judged: &Judged, question: &Question, place: Place) -> Result<Shown, Fault> {
    let is_searched = !question.text.is_empty();
    let wanted = if is_searched { SEARCHED } else { place.size.saturating_add(1) };
    let (mut found, attested, indexed_through) =
        look_up(desk, judged, question, Place { size: wanted, ..place }).await?;
    let (order, size, most) = (place.order, usize::try_from(place.size).unwrap_or(usize::MAX), place.bytes);
    let mut places = std::mem::take(&mut found.leaves);
    if !is_searched && places.len() > size {
        places.truncate(size);
        found.more_behind = places.last().copied();
    }
    let text = question.text.clone();
    let reading = desk.log.reading(move |log| {
        let mut read = Vec::new();
        let bytes = if is_searched { usize::MAX } else { most };
        let mut rest = places.as_slice();
        let mut taken = 0;
        // A text is looked for in some events at a time, until the page is full.
        while !rest.is_empty() && read.len() < size {
            let (these, later) = rest.split_at(rest.len().min(if is_searched { 200 } else { usize::MAX }));
            let leaves = log.seen(leaves_at(log, these, order, bytes)?);
            let got = leaves.len();
            for (at, seen) in leaves.into_iter().enumerate() {
                taken = seen.at;
                if !is_searched || holds(&seen.event, &text) {
                    read.push(seen);
                }
                let is_full =
                    || read.len() >= size || read.iter().map(|e: &Seen| e.leaf.len()).sum::<usize>() > most / 2;
                if is_searched && is_full() {
                    let is_last = at + 1 == got && later.is_empty();
                    return Ok((read, (!is_last).then_some(taken)));
                }
            }
            if got < these.len() {
                return Ok((read, Some(taken)));
            }
            rest = later;
        }
        Ok::<_, io::Error>((read, None))
    });
    let (leaves, stopped) = reading.await.map_err(Fault::broken)?.map_err(Fault::broken)?;
    let more_behind = stopped.or(found.more_behind);
    let is_cut = leaves.len() < size;
    Ok(Shown { leaves, attested, more_behind, is_cut, indexed_through })
}

/// Whether one of the texts of an event that may be searched holds this one.
fn holds(event: &AuditEvent, text: &str) -> bool {
    let resource = event.resource.iter().flat_map(|resource| [&resource.r#type, &resource.id]);
    [&event.action, &event.reason, &event.reason_code].into_iter().chain(resource).any(|one| one.contains(text))
}

/// The leaves at these places, in their order: as many as hold `most` bytes. Neighbours are read together.
fn leaves_at(log: &Log, places: &[u64], order: Order, most: usize) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let mut leaves = Vec::with_capacity(places.len());
    let (mut bytes, mut places) = (0, places);
    while let Some(first) = places.first() {
        let near = places.partition_point(|place| first.abs_diff(*place) < TOGETHER);
        let (these, rest) = places.split_at(near);
        let mut found = neighbours(log, these, order)?;
        if order == Order::NewestFirst {
            found.reverse();
        }
        for (index, leaf) in found {
            bytes += leaf.len();
            if bytes > most && !leaves.is_empty() {
                return Ok(leaves);
            }
            leaves.push((index, leaf));
        }
        places = rest;
    }
    Ok(leaves)
}

/// Leaves that are near to each other, the oldest first.
fn neighbours(log: &Log, places: &[u64], order: Order) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let mut wanted: Vec<u64> = places.to_vec();
    if order == Order::NewestFirst {
        wanted.reverse();
    }
    let end = wanted.last().map_or(0, |last| last + 1);
    let mut wanted = wanted.into_iter().peekable();
    let mut found = Vec::with_capacity(places.len());
    while let Some(&from) = wanted.peek() {
        let batch = log.read(from, end, CHUNK).map_err(io::Error::other)?;
        if batch.is_empty() {
            return Err(io::Error::other(format!("leaf {from} is not in the log")));
        }
        found.extend(batch.into_iter().filter(|(index, _)| wanted.next_if_eq(index).is_some()));
    }
    Ok(found)
}

/// The places of one page, what of it is signed and where, and how far the index was at that moment.
async fn look_up(
    desk: &Desk,
    judged: &Judged,
    question: &Question,
    place: Place,
) -> Result<(Found, BTreeMap<u64, u64>, u64), Fault> {
    let (question, judged, now) = (question.clone(), judged.clone(), desk.clock.now());
    let vault = desk.log.vault().clone();
    database(desk)?
        .read("query_events", move |tx| {
            Box::pin(async move {
                let sees = judged.sees(tx, now).await?;
                let size = head::get(tx).await?.map_or(0, |head| head.size());
                let found = found(tx, (&question, &vault), &sees, size, place).await?;
                let attested = event::attested(tx, &found.leaves).await?;
                Ok::<_, NotRead>((found, attested, size))
            })
        })
        .await
        .map_err(of_index)
}

async fn found(
    tx: &Tx,
    (question, vault): (&Question, &Vault),
    sees: &Reach,
    size: u64,
    place: Place,
) -> Result<Found, NotRead> {
    let families = Families {
        of_agent: agents(tx, &question.agent_id, question.descendants).await?,
        of_via: agents(tx, &question.via_agent_id, question.descendants).await?,
    };
    let mut within: Range<u64> = stretch::during(tx, question.from, question.to, size).await?;
    within.end = within.end.min(place.below);
    if let Some(after) = place.after {
        within = place.order.behind(after, within);
    }
    Search::plan(question, &families, sees, vault).page(tx, within, place.order, place.size).await
}

/// The agents that are asked about; none where none is.
pub(super) async fn agents(tx: &Tx, agent: &str, descendants: bool) -> Result<Vec<String>, NotRead> {
    match (agent, descendants) {
        ("", _) => Ok(Vec::new()),
        (agent, false) => Ok(vec![key(agent)]),
        (agent, true) => family(tx, agent).await,
    }
}

/// An agent, those that it made and those that they made.
async fn family(tx: &Tx, agent: &str) -> Result<Vec<String>, NotRead> {
    made_by::family(tx, agent, FAMILY).await?.ok_or_else(|| {
        let text = format!("{agent}, the agents that it made and those that they made are more than {FAMILY}");
        NotRead::Flow(Fault::refused(&AUDIT_DESCENDANTS_TOO_MANY, text))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::log::tests::scene::{append, open, producer};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn leaves_are_read_wherever_they_are_and_no_more_than_an_answer_holds() {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open(dir.path()).await;
        append(&log, &producer("registry", "e1"), 1, 1_000).await.unwrap();
        let every = |step| (0..1_000).rev().step_by(step).collect::<Vec<u64>>();
        for places in [every(1), every(7), every(255), every(300), vec![999, 743, 742, 0], vec![]] {
            let read: Vec<u64> = leaves_at(&log, &places, Order::NewestFirst, MOST_BYTES)
                .unwrap()
                .into_iter()
                .map(|(place, _)| place)
                .collect();
            assert_eq!(read, places);
            let oldest: Vec<u64> = places.iter().rev().copied().collect();
            let read = leaves_at(&log, &oldest, Order::OldestFirst, MOST_BYTES).unwrap();
            assert_eq!(read.into_iter().map(|(place, _)| place).collect::<Vec<_>>(), oldest);
        }
        assert!(leaves_at(&log, &[5_000], Order::NewestFirst, MOST_BYTES).is_err());
        let large = |n: u64| vec![u8::try_from(n).unwrap(); 60 << 10].into();
        let events = (0..60).map(large).collect();
        let offer = crate::log::Offer {
            producer: producer("registry", "e2"),
            first_seq: 1,
            events,
            personal: BTreeMap::new(),
            signature: None,
        };
        log.append(offer).await.unwrap();
        let size = log.size();
        let places: Vec<u64> = (0..size).rev().collect();
        assert_eq!(leaves_at(&log, &places, Order::NewestFirst, MOST_BYTES).unwrap().len(), MOST_BYTES / (60 << 10));
        tasks.close().await;
    }
}
