//! What an agent may do by itself: every permission that it has, held against its ceiling, its boundaries and the policies.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::AgentId;
use legate_rpc::Fault;
use legate_view::{Agent, Snapshot};
use tokio::time::Instant;

use super::asker::{Asker, Right};
use super::asking::{known, seat, told};
use super::evaluate::Desk;
use super::record;
use crate::domain::answer::Answer;
use crate::domain::entitled::{Entitled, entitlements};
use crate::domain::preview::cells::Named;
use crate::domain::preview::compare::{Book, Side};
use crate::domain::preview::outlook::Holds;
use crate::domain::standing;
use crate::error::AGENT_UNKNOWN;

/// Entitlements that are told.
const TOLD: usize = 2_000;
/// The longest that is looked.
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct WhatCan {
    pub(crate) agent: AgentId,
    pub(crate) at_least_revision: u64,
    pub(crate) if_active: bool,
    pub(crate) with_never: bool,
}

/// What an agent may do.
#[derive(Debug)]
pub(crate) struct Can {
    /// `None`: a token was shown that is no good.
    pub(crate) agent: Option<Arc<Agent>>,
    pub(crate) all: Vec<Entitled>,
    /// Why it may do nothing at all.
    pub(crate) stopped: Option<Answer>,
    pub(crate) revision: u64,
    pub(crate) view_age: Option<Duration>,
    pub(crate) now: Timestamp,
    pub(crate) left_out: u32,
}

/// Says what an agent may do.
///
/// # Errors
/// When the caller may not search, the agent is not known to it, the view is old, others ask already, or it cannot be recorded.
#[tracing::instrument(skip_all)]
pub(crate) async fn what_can(desk: &Arc<Desk>, asker: &Asker, ask: WhatCan) -> Result<Can, Fault> {
    let seat = seat(desk, asker, ask.at_least_revision, LONGEST, Right::may_search).await?;
    let shown = |agent: &&Arc<Agent>| seat.right.shows(&agent.label.namespace);
    let agent = seat.reading.snapshot.agent(&ask.agent).filter(shown).cloned();
    let agent = agent.ok_or_else(|| Fault::refused(&AGENT_UNKNOWN, format!("no agent {} is known here", ask.agent)))?;
    let (revision, view_age, now) = (seat.reading.snapshot.revision(), seat.reading.age(), seat.now);
    let event = record::searched(
        asker,
        agent.label.namespace.as_str(),
        revision,
        desk.clock.now(),
        [("question", "what_can".to_owned()), ("agent_id", agent.id.to_string())],
    );
    let working = Arc::clone(desk);
    let made = tokio::task::spawn_blocking(move || {
        // The turn ends with the work, also where the caller has left.
        let _turn = seat.turn;
        let stopped = standing::judge(&seat.reading.snapshot, &agent, now);
        let (all, left_out) = match (&stopped, ask.if_active) {
            (Some(_), false) => (Vec::new(), 0),
            _ => look(&working, &seat.reading.snapshot, &seat.right, &agent, now, &ask, seat.until),
        };
        Can { agent: Some(agent), all, stopped, revision, view_age, now, left_out }
    });
    let can = made.await.map_err(Fault::broken)?;
    told(desk, asker, event).await?;
    desk.metrics.asked("what_can");
    Ok(can)
}

pub(super) fn look(
    desk: &Desk,
    snapshot: &Snapshot,
    right: &Right,
    agent: &Agent,
    now: Timestamp,
    ask: &WhatCan,
    until: Instant,
) -> (Vec<Entitled>, u32) {
    let namespace = agent.label.namespace.as_str();
    let compiled = known(desk, snapshot, namespace);
    let mut side = Side { snapshot, book: Book::open(snapshot, namespace, compiled.as_deref()) };
    let mut named = Named::default();
    if let Some(Ok(compiled)) = side.book.compiled() {
        named.add(compiled);
    }
    named.add_points(snapshot, namespace);
    let is_over = || Instant::now() >= until;
    let (mut all, mut left_out) = entitlements(&desk.bench, &mut side, agent, &named, now, &is_over);
    all.retain(|one| ask.with_never || !matches!(one.holds, Holds::Never));
    // An enforcement point learns of the resources that it may ask about, type by type.
    all.retain(|one| right.asks_about(&one.cell.kind));
    left_out = left_out.saturating_add(u32::try_from(all.len().saturating_sub(TOLD)).unwrap_or(u32::MAX));
    all.truncate(TOLD);
    (all, left_out)
}
