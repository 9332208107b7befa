//! What an agent may do by itself, or might as of the past: every permission that it has, held against its ceiling, its boundaries and
//! the policies.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::AgentId;
use legate_rpc::Fault;
use legate_view::{Agent, Reading, Snapshot};
use legate_wire::registry::AsOf;
use tokio::time::Instant;

use super::asker::{Asker, Right};
use super::asking::{Seat, known, seat, told};
use super::evaluate::{Desk, Policies};
use super::past::{self, Whom};
use super::record;
use crate::domain::answer::Answer;
use crate::domain::entitled::{Entitled, entitlements};
use crate::domain::policies::Compiled;
use crate::domain::preview::cells::Named;
use crate::domain::preview::compare::{Book, Side};
use crate::domain::preview::outlook::Holds;
use crate::domain::standing;
use crate::error::AGENT_UNKNOWN;

/// Entitlements that are told.
const TOLD: usize = 2_000;
/// The longest that is looked.
pub(super) const LONGEST: Duration = Duration::from_secs(10);
/// Kept back of the caller's patience for what comes behind the reading of the past.
const LOOKING: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct WhatCan {
    pub(crate) agent: AgentId,
    pub(crate) at_least_revision: u64,
    pub(crate) if_active: bool,
    pub(crate) with_never: bool,
    pub(crate) as_of: Option<AsOf>,
    /// By which moment it is judged, as of the past.
    pub(crate) at: Option<Timestamp>,
}

impl WhatCan {
    /// What an agent may do now.
    pub(crate) fn about(agent: AgentId) -> Self {
        Self { agent, at_least_revision: 0, if_active: false, with_never: false, as_of: None, at: None }
    }
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
    let ground = ground(desk, asker, &seat, &ask).await?;
    let shown = |agent: &&Arc<Agent>| seat.right.shows(&agent.label.namespace);
    let agent = ground.snapshot.agent(&ask.agent).filter(shown).cloned();
    let agent = agent.ok_or_else(|| Fault::refused(&AGENT_UNKNOWN, format!("no agent {} is known here", ask.agent)))?;
    let (revision, view_age, now) = (ground.snapshot.revision(), ground.view_age, ground.now);
    let mut event = record::searched(
        asker,
        agent.label.namespace.as_str(),
        revision,
        desk.clock.now(),
        [("question", "what_can".to_owned()), ("agent_id", agent.id.to_string())],
    );
    if ask.as_of.is_some() {
        event.details.insert("as_of_revision".to_owned(), revision.to_string());
        event.details.insert("judged_at".to_owned(), now.to_string());
    }
    let (until, right, turn) = (seat.until, seat.right, seat.turn);
    let (stopped, all, left_out) = see(desk, &right, ground, &agent, ask, until, turn).await?;
    let can = Can { agent: Some(agent), all, stopped, revision, view_age, now, left_out };
    told(desk, asker, event).await?;
    desk.metrics.asked("what_can");
    Ok(can)
}

/// Looks on a thread of its own: whether anything stops the agent, what it may do, and how much was left out. `turn` ends with the work,
/// also where the caller has left.
pub(super) async fn see<T: Send + 'static>(
    desk: &Arc<Desk>,
    right: &Right,
    ground: Ground,
    agent: &Arc<Agent>,
    ask: WhatCan,
    until: Instant,
    turn: T,
) -> Result<(Option<Answer>, Vec<Entitled>, u32), Fault> {
    let (working, right, agent) = (Arc::clone(desk), right.clone(), Arc::clone(agent));
    let made = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let (snapshot, now) = (&ground.snapshot, ground.now);
        let stopped = standing::judge(snapshot, &agent, now);
        let (all, left_out) = match (&stopped, ask.if_active) {
            (Some(_), false) => (Vec::new(), 0),
            _ => look_by(&working, ground.compiled.as_deref(), snapshot, &right, &agent, now, &ask, until),
        };
        (stopped, all, left_out)
    });
    made.await.map_err(Fault::broken)
}

/// What is looked at: the view, or what the registry keeps of its past.
pub(super) struct Ground {
    pub(super) snapshot: Arc<Snapshot>,
    /// To spare parsing the policies again.
    compiled: Option<Arc<Compiled>>,
    view_age: Option<Duration>,
    now: Timestamp,
}

impl Ground {
    /// The view.
    pub(super) fn present(desk: &Desk, reading: &Reading, agent: &AgentId, now: Timestamp) -> Self {
        let snapshot = Arc::clone(&reading.snapshot);
        let namespace = snapshot.agent(agent).map(|agent| agent.label.namespace.to_string());
        let compiled = namespace.and_then(|namespace| known(desk, &snapshot, &namespace));
        Self { snapshot, compiled, view_age: reading.age(), now }
    }

    /// What the registry keeps of the past, as far as it is about an agent.
    pub(super) async fn past(
        desk: &Desk,
        right: &Right,
        agent: &AgentId,
        as_of: AsOf,
        patience: Duration,
    ) -> Result<Self, Fault> {
        let whom = Whom { agents: [agent.clone()].into(), is_on_behalf: false, with_points: true };
        let past = past::read(&desk.archive, right, &whom, as_of, patience).await?;
        let compiled = match past.policies {
            Policies::Ready(compiled) => Some(compiled),
            _ => None,
        };
        Ok(Self { snapshot: Arc::new(past.snapshot), compiled, view_age: None, now: past.made })
    }
}

async fn ground(desk: &Desk, asker: &Asker, seat: &Seat, ask: &WhatCan) -> Result<Ground, Fault> {
    let Some(as_of) = ask.as_of else {
        return Ok(Ground::present(desk, &seat.reading, &ask.agent, seat.now));
    };
    let patience = asker.patience(LONGEST).saturating_sub(LOOKING);
    let past = Ground::past(desk, &seat.right, &ask.agent, as_of, patience).await?;
    Ok(Ground { now: ask.at.unwrap_or(past.now), ..past })
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
    let compiled = known(desk, snapshot, agent.label.namespace.as_str());
    look_by(desk, compiled.as_deref(), snapshot, right, agent, now, ask, until)
}

#[allow(clippy::too_many_arguments, reason = "what is looked at, by whom and until when; each is named once")]
fn look_by(
    desk: &Desk,
    compiled: Option<&Compiled>,
    snapshot: &Snapshot,
    right: &Right,
    agent: &Agent,
    now: Timestamp,
    ask: &WhatCan,
    until: Instant,
) -> (Vec<Entitled>, u32) {
    let namespace = agent.label.namespace.as_str();
    let mut side = Side { snapshot, book: Book::open(snapshot, namespace, compiled) };
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
