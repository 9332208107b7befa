//! An auditor asks what happened: the index says where, the log says what.

use std::collections::BTreeMap;

use legate_rpc::Fault;
use tokio::time::timeout_at;

use super::{Call, Desk, reads};
use crate::domain::question::Question;
use crate::error::{AGAIN, AUDIT_INDEX_BEHIND, AUDIT_INDEX_UNAVAILABLE, of_index};
use crate::index::NotRead;
use crate::store::{event, head};

const USUAL: u32 = 100;
const LARGEST: u32 = 1_000;

/// Events in one answer, in bytes; clients take 4 MiB. An answer has at least one event.
const MOST_BYTES: usize = 3 << 20;

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
    let reading = desk.log.reading(move |log| {
        let mut leaves = Vec::with_capacity(found.len());
        let mut bytes = 0;
        for index in found {
            let leaf = log.read(index, index + 1, 1)?.pop();
            let (_, leaf) = leaf.ok_or_else(|| std::io::Error::other(format!("leaf {index} is not in the log")))?;
            bytes += leaf.len();
            if !leaves.is_empty() && bytes > MOST_BYTES {
                break;
            }
            leaves.push((index, leaf));
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(leaves)
    });
    let leaves = reading.await.map_err(Fault::broken)?.map_err(Fault::Broken)?;
    let next = match leaves.last() {
        Some((last, _)) if !is_last || leaves.len() < count => desk.log.pages().after(&asked, &last.to_string()),
        _ => String::new(),
    };
    record(desk, call, &ask.question, leaves.len());
    Ok(Page { leaves, next, indexed_through, log_size: desk.log.size() })
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
const MARGIN: std::time::Duration = std::time::Duration::from_millis(10);

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
