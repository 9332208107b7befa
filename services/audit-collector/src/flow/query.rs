//! An auditor asks what happened: the index says where, the log says what.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use legate_rpc::Fault;
use tokio::time::timeout_at;

use super::{Call, Desk, reads};
use crate::domain::question::Question;
use crate::error::{AGAIN, AUDIT_INDEX_BEHIND, AUDIT_INDEX_UNAVAILABLE, of_index};
use crate::index::NotRead;
use crate::log::Log;
use crate::store::{event, head};

const USUAL: u32 = 100;
const LARGEST: u32 = 1_000;

/// Events in one answer, in bytes; clients take 4 MiB. An answer has at least one event.
const MOST_BYTES: usize = 3 << 20;

/// Leaves so near to each other are read together, and so many bytes of them at once.
const TOGETHER: u64 = 256;
const CHUNK: usize = 256 << 10;

/// What is asked, and which page of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) question: Question,
    pub(crate) page_size: u32,
    pub(crate) page_token: String,
    pub(crate) indexed_at_least: u64,
}

/// One page.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Leaves and their places, newest first.
    pub(crate) leaves: Vec<(u64, Vec<u8>)>,
    pub(crate) next: String,
    pub(crate) indexed_through: u64,
    pub(crate) log_size: u64,
}

/// One page of the events that answer the question, newest first.
#[tracing::instrument(skip_all)]
pub(crate) async fn query(desk: &Desk, call: &Call, ask: Ask) -> Result<Page, Fault> {
    let size = match ask.page_size {
        0 => USUAL,
        size @ 1..=LARGEST => size,
        _ => return Err(Fault::invalid("page_size", "1 to 1,000; 0 means 100")),
    };
    let parts = ask.question.parts();
    let asked: Vec<&str> = ["events", &call.caller].into_iter().chain(parts.iter().map(String::as_str)).collect();
    let before = match desk.log.pages().read(&asked, &ask.page_token)? {
        None => None,
        Some(last) => Some(last.parse::<u64>().map_err(Fault::broken)?),
    };
    wait_for_index(desk, call, ask.indexed_at_least).await?;

    let (mut found, indexed_through) = look_up(desk, &ask.question, before, size).await?;
    let is_last = u32::try_from(found.len()).is_ok_and(|n| n <= size);
    found.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    let count = found.len();
    let reading = desk.log.reading(move |log| leaves_at(log, &found));
    let leaves = reading.await.map_err(Fault::broken)?.map_err(Fault::broken)?;
    let next = match leaves.last() {
        Some((last, _)) if !is_last || leaves.len() < count => desk.log.pages().after(&asked, &last.to_string()),
        _ => String::new(),
    };
    record(desk, call, &ask.question, leaves.len());
    Ok(Page { leaves, next, indexed_through, log_size: desk.log.size() })
}

/// The leaves at these places, newest first: as many as one answer holds. Neighbours are read together.
fn leaves_at(log: &Log, mut places: &[u64]) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let mut leaves = Vec::with_capacity(places.len());
    let mut bytes = 0;
    while let Some(newest) = places.first() {
        let near = places.partition_point(|place| newest - place < TOGETHER);
        let (these, rest) = places.split_at(near);
        let mut wanted = these.iter().rev().copied().peekable();
        let mut found = Vec::with_capacity(these.len());
        while let Some(&from) = wanted.peek() {
            let batch = log.read(from, newest + 1, CHUNK).map_err(io::Error::other)?;
            if batch.is_empty() {
                return Err(io::Error::other(format!("leaf {from} is not in the log")));
            }
            found.extend(batch.into_iter().filter(|(index, _)| wanted.next_if_eq(index).is_some()));
        }
        for (index, leaf) in found.into_iter().rev() {
            bytes += leaf.len();
            if bytes > MOST_BYTES && !leaves.is_empty() {
                return Ok(leaves);
            }
            leaves.push((index, leaf));
        }
        places = rest;
    }
    Ok(leaves)
}

/// Waits, within the deadline, until the index is so far.
async fn wait_for_index(desk: &Desk, call: &Call, at_least: u64) -> Result<(), Fault> {
    let mut through = desk.index.through();
    let reached = timeout_at(call.deadline - MARGIN, through.wait_for(|through| *through >= at_least)).await;
    if let Ok(Ok(_)) = reached {
        return Ok(());
    }
    let now = *desk.index.through().borrow();
    let why = format!("the index holds {now} leaves, and {at_least} were asked for");
    Err(Fault::unavailable(&AUDIT_INDEX_BEHIND, why, AGAIN).with("indexed_through", now.to_string()))
}

/// Kept back of the deadline, so that the refusal is ours and says how far the index is.
const MARGIN: Duration = Duration::from_millis(10);

/// The places of one page and one more, and how far the index was at that moment.
async fn look_up(desk: &Desk, question: &Question, before: Option<u64>, size: u32) -> Result<(Vec<u64>, u64), Fault> {
    let Some(db) = desk.index.db() else {
        let why = desk.index.trouble().unwrap_or_else(|| "the index is not open".to_owned());
        return Err(Fault::unavailable(&AUDIT_INDEX_UNAVAILABLE, why, AGAIN));
    };
    let question = question.clone();
    db.read("query_events", move |tx| {
        Box::pin(async move {
            let head = head::get(tx).await?;
            let found = event::page(tx, &question, before, u64::from(size) + 1).await?;
            Ok::<_, NotRead>((found, head.map_or(0, |h| h.size())))
        })
    })
    .await
    .map_err(of_index)
}

/// What was asked, by whom, and how much was shown.
fn record(desk: &Desk, call: &Call, question: &Question, shown: usize) {
    const NAMES: [&str; 14] = [
        "agent_id",
        "actor",
        "type",
        "namespace",
        "action",
        "resource_type",
        "resource_id",
        "outcome",
        "trace_id",
        "credential_id",
        "decision_id",
        "emitter",
        "from_time",
        "to_time",
    ];
    let asked = NAMES.into_iter().zip(question.parts()).filter(|(_, value)| !value.is_empty() && value != "0");
    let mut details: BTreeMap<String, String> = asked.map(|(name, value)| (format!("asked.{name}"), value)).collect();
    details.insert("shown".to_owned(), shown.to_string());
    reads::record(desk, call, "log.queried", details);
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
            let read: Vec<u64> = leaves_at(&log, &places).unwrap().into_iter().map(|(place, _)| place).collect();
            assert_eq!(read, places);
        }
        assert!(leaves_at(&log, &[5_000]).is_err());
        let large = |n: u64| vec![u8::try_from(n).unwrap(); 60 << 10].into();
        let events = (0..60).map(large).collect();
        log.append(crate::log::Offer { producer: producer("registry", "e2"), first_seq: 1, events }).await.unwrap();
        let size = log.size();
        let places: Vec<u64> = (0..size).rev().collect();
        assert_eq!(leaves_at(&log, &places).unwrap().len(), MOST_BYTES / (60 << 10));
        tasks.close().await;
    }
}
