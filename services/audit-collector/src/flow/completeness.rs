//! Whether every executed action has the agent, the credential and the decision that it needs.

use legate_authority::Reach;
use legate_clock::Timestamp;
use legate_rpc::Fault;
use legate_wire::audit::AlertType;

use super::alerts::within;
use super::query::said;
use super::{Call, Desk, database, reads, rights, wait_for_index};
use crate::domain::detect::alert::Alert;
use crate::error::of_index;
use crate::store::executed::{self, Sums, Which};
use crate::store::{alert, detect, head, stretch};

const USUAL: u32 = 100;
const LARGEST: u32 = 1_000;

/// Alerts about emitters in one answer.
const EMITTERS: u64 = 100;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) namespace: String,
    pub(crate) agent_id: String,
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    pub(crate) page_size: u32,
    pub(crate) indexed_at_least: u64,
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) sums: Sums,
    pub(crate) incomplete: Vec<executed::Model>,
    pub(crate) is_cut: bool,
    pub(crate) emitters: Vec<Alert>,
    pub(crate) evidence_from: Option<Timestamp>,
    pub(crate) evidence_to: Option<Timestamp>,
    pub(crate) indexed_through: u64,
    pub(crate) log_size: u64,
}

/// Holds what was executed against what it needs, of what the caller may see.
#[tracing::instrument(skip_all)]
pub(crate) async fn report(desk: &Desk, call: &Call, ask: Ask) -> Result<Report, Fault> {
    let size = match ask.page_size {
        0 => USUAL,
        size @ 1..=LARGEST => size,
        _ => return Err(Fault::invalid("page_size", "1 to 1,000; 0 means 100")),
    };
    let judged = rights::ready(desk, call).await?;
    wait_for_index(desk, call, ask.indexed_at_least).await?;
    let (db, now, wanted) = (database(desk)?, desk.clock.now(), ask.clone());
    let reading = db.read("report_completeness", move |tx| {
        Box::pin(async move {
            let sees = judged.sees(tx, now).await?;
            let which = Which {
                namespaces: within(&wanted.namespace, &sees),
                agent: wanted.agent_id.clone(),
                from: wanted.from.map(Timestamp::micros),
                to: wanted.to.map(Timestamp::micros),
            };
            let is_whole = sees == Reach::Everywhere && wanted.namespace.is_empty() && wanted.agent_id.is_empty();
            let emitters = match is_whole {
                true => alert::list(tx, &about_emitters(&which), EMITTERS).await?,
                false => Vec::new(),
            };
            let most = usize::try_from(size).unwrap_or(usize::MAX);
            let mut incomplete = executed::incomplete(tx, &which, u64::from(size) + 1).await?;
            let is_cut = incomplete.len() > most;
            incomplete.truncate(most);
            Ok(Report {
                sums: executed::sums(tx, &which).await?,
                incomplete,
                is_cut,
                emitters,
                evidence_from: stretch::first_time(tx).await?,
                evidence_to: detect::log_time(tx).await?,
                indexed_through: head::get(tx).await?.map_or(0, |head| head.size()),
                log_size: 0,
            })
        })
    });
    let report = reading.await.map_err(of_index)?;
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let parts = [
        ("namespace", ask.namespace.clone()),
        ("agent_id", ask.agent_id),
        ("from_time", time(ask.from)),
        ("to_time", time(ask.to)),
    ];
    let read =
        reads::Read { kind: "log.completeness_read", namespace: ask.namespace, asked: said(&parts), refused: "" };
    reads::record(desk, call, read, report.incomplete.len()).await?;
    Ok(Report { log_size: desk.log.size(), ..report })
}

/// What there is about emitters in that time.
fn about_emitters(which: &Which) -> alert::Which {
    let types = [
        AlertType::EmitterGap,
        AlertType::EmitterRepeat,
        AlertType::EmitterSilent,
        AlertType::EmitterSignature,
        AlertType::EmitterRefused,
        AlertType::ForgedEvent,
    ];
    alert::Which { types: types.map(i32::from).to_vec(), from: which.from, to: which.to, ..alert::Which::default() }
}
