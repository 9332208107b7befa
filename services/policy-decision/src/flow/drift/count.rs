//! Findings are counted by type for the metrics, every hour, by the same look as is answered with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use legate_authority::Reach;
use legate_rpc::Fault;
use tokio::time::Instant;

use super::gather::gather;
use super::{USUAL, look, page};
use crate::domain::drift::Kind;
use crate::error::USAGE_UNAVAILABLE;
use crate::flow::asker::Right;
use crate::flow::asking::{AGAIN, fresh};
use crate::flow::evaluate::Desk;
use crate::flow::roster::{Place, place};

/// How often everything is looked at for the metrics, and how soon after the start, or after a failure.
const ROUND: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_secs(60);
/// Agents of one step of a round.
const STEP: usize = 500;
/// The longest that a step takes.
const STEP_LASTS: Duration = Duration::from_secs(30);

/// Counts findings by type for the metrics, for as long as the process lives.
pub(crate) async fn count_forever(desk: Arc<Desk>) {
    let mut pause = SOON;
    loop {
        tokio::time::sleep(pause).await;
        pause = match count(&desk).await {
            Ok(counts) => {
                desk.metrics.drifted(&counts);
                ROUND
            }
            Err(fault) => {
                tracing::debug!(%fault, "drift is not counted; it is tried again");
                SOON
            }
        };
    }
}

/// How many findings there are of each type.
pub(crate) async fn count(desk: &Arc<Desk>) -> Result<BTreeMap<Kind, u64>, Fault> {
    let mut counts: BTreeMap<Kind, u64> = Kind::ALL.into_iter().map(|kind| (kind, 0)).collect();
    let right = Right::Operator(Reach::Everywhere);
    let mut begun = None;
    let mut after: Option<Place> = None;
    loop {
        // Each step is of the view as it is then: nothing old is held on to for as long as a round takes.
        let (reading, now) = fresh(desk)?;
        let snapshot = reading.snapshot.clone();
        let roster = desk.rosters.of(&snapshot, None, *begun.get_or_insert(snapshot.revision()));
        let (agents, is_more) = page(&roster, &snapshot, &right, STEP, after.as_ref());
        let last = agents.last().map(|last| place(last));
        let gathered = gather(desk, &snapshot, &roster, &agents, Instant::now() + STEP_LASTS).await?;
        if gathered.evidence.to().is_none() {
            return Err(Fault::unavailable(&USAGE_UNAVAILABLE, "the audit log was not heard yet", AGAIN));
        }
        let looking = tokio::task::spawn_blocking(move || look(&snapshot, agents, &gathered, USUAL, now, &|| false));
        let looked = looking.await.map_err(Fault::broken)?;
        for finding in looked.found.iter().flat_map(|one| &one.findings) {
            *counts.entry(finding.kind).or_default() += 1;
        }
        if !is_more {
            return Ok(counts);
        }
        after = last;
    }
}
