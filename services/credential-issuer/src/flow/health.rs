//! Whether the credentials of a fleet are rotated in time: a page of them, each judged, and how many are how.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use legate_clock::Timestamp;
use legate_ids::{AgentId, Name, Principal, SpiffeId};
use legate_rpc::Fault;
use legate_view::{Snapshot, after_cutoff};

use super::{Call, Desk, list};
use crate::domain::health::{self, Facts, Health, REMEMBERED, Stale};
use crate::domain::whom::Whom;
use crate::error::{AGAIN, of_tx};
use crate::store::credential::{self, Seen};

/// Rows that one call looks at, at most.
const LOOKED_AT: usize = 5_000;
/// Rows in one query.
const AT_ONCE: u64 = 500;
/// The fleet is counted no more often than this.
const EVERY: Duration = Duration::from_secs(60);

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// `None`: about everybody whom the caller may see.
    pub(crate) whom: Option<Whom>,
    /// None: in any.
    pub(crate) states: Vec<Health>,
    /// For how long a credential has to be unused to be stale.
    pub(crate) unused_after: Duration,
    pub(crate) stale_only: bool,
    pub(crate) page_size: u32,
    pub(crate) page_token: String,
}

/// One credential, judged.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) row: credential::Model,
    pub(crate) health: Health,
    /// From when on it counts as due.
    pub(crate) due: Timestamp,
    pub(crate) is_succeeded: bool,
    /// Why it is stale, and since when.
    pub(crate) stale: Option<(Stale, Timestamp)>,
    /// The name of the agent that holds it.
    pub(crate) agent: Option<Name>,
}

/// How many credentials of a type are how.
pub(crate) type Counts = BTreeMap<(Health, i32), u64>;

/// For how long a credential has to be unused to be stale, where nobody says otherwise: a quarter.
pub(crate) const USUAL: Duration = Duration::from_secs(90 * 86_400);

/// One page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub(crate) judged: Vec<Judged>,
    /// Of everything that this call looked at.
    pub(crate) counts: Counts,
    pub(crate) next: String,
    pub(crate) revision: u64,
}

/// One page of them, those first that end first, and how many there were on the way.
#[tracing::instrument(skip_all)]
pub(crate) async fn health(desk: &Desk, call: &Call, ask: Ask) -> Result<Page, Fault> {
    let size = list::page_size(ask.page_size)?;
    let sees = desk.mandate(call).await?.sees();
    let question = format!("{:?} {:?} {:?} {}", ask.whom, ask.states, ask.unused_after, ask.stale_only);
    let question = ["health", call.peer.id_text(), &question];
    let mut place = read_place(desk, &question, &ask.page_token)?;
    let snapshot = desk.fresh()?.snapshot;
    let namespace = ask.whom.as_ref().and_then(|whom| whom.namespace.as_ref()).map(ToString::to_string);
    let which = Seen { namespace, sees, since: desk.clock.now().minus(REMEMBERED) };
    let (mut page, mut looked_at) = (Page { revision: snapshot.revision(), ..Page::default() }, 0);
    'pages: loop {
        let rows = some(desk, &which, place.clone()).await?;
        let is_last = (rows.len() as u64) < AT_ONCE;
        for (row, judged) in judge(desk, &snapshot, rows, ask.unused_after).await? {
            if page.judged.len() == size || looked_at == LOOKED_AT {
                break 'pages;
            }
            looked_at += 1;
            place = Some((row.0, row.1));
            let Some(judged) = judged.filter(|judged| concerns(&ask, &snapshot, &judged.row)) else { continue };
            *page.counts.entry((judged.health, judged.row.kind)).or_default() += 1;
            let is_asked_for = (ask.states.is_empty() || ask.states.contains(&judged.health))
                && (!ask.stale_only || judged.stale.is_some());
            page.judged.extend(is_asked_for.then_some(judged));
        }
        if is_last {
            place = None;
            break;
        }
    }
    desk.record_emergency(call).await?;
    let next = place.map(|(ends, id)| desk.pepper.pages().after(&question, &format!("{ends} {id}")));
    Ok(Page { next: next.unwrap_or_default(), ..page })
}

fn read_place(desk: &Desk, question: &[&str], token: &str) -> Result<Option<(i64, String)>, Fault> {
    let Some(place) = desk.pepper.pages().read(question, token)? else { return Ok(None) };
    let read = place.split_once(' ').and_then(|(ends, id)| Some((ends.parse().ok()?, id.to_owned())));
    read.map(Some).ok_or_else(|| Fault::broken("a page token that is ours and cannot be read"))
}

async fn some(desk: &Desk, which: &Seen, after: Option<(i64, String)>) -> Result<Vec<credential::Model>, Fault> {
    let read = desk.db.read("credential_health", |tx| {
        let (which, after) = (which.clone(), after.clone());
        Box::pin(async move { credential::by_end(tx, &which, after, AT_ONCE).await })
    });
    read.await.map_err(of_tx)
}

fn concerns(ask: &Ask, snapshot: &Snapshot, row: &credential::Model) -> bool {
    let Some(whom) = &ask.whom else { return true };
    let agent = AgentId::parse(&row.agent_id).ok().and_then(|id| snapshot.agent(&id));
    match agent {
        Some(agent) => whom.has(snapshot, agent),
        // An enforcement point has no class and no owner.
        None => whom.is_all() && whom.namespace.as_ref().is_none_or(|name| row.namespace == name.as_str()),
    }
}

/// The places of rows, and how each is; `None`: dead, and nobody shows it.
async fn judge(
    desk: &Desk,
    snapshot: &Snapshot,
    rows: Vec<credential::Model>,
    unused_after: Duration,
) -> Result<Vec<((i64, String), Option<Judged>)>, Fault> {
    let now = desk.clock.now();
    let ids: Vec<String> = rows.iter().map(|row| row.spiffe_id.clone()).collect();
    let read = desk.db.read("newest_credentials", |tx| {
        let ids = ids.clone();
        Box::pin(async move { credential::newest(tx, ids, now).await })
    });
    let newest: HashMap<(String, i32), i64> = read.await.map_err(of_tx)?.into_iter().collect();
    let judged = rows.into_iter().map(|row| {
        let place = (row.not_after, row.id.clone());
        let key = (row.spiffe_id.clone(), row.kind);
        let is_succeeded = newest.get(&key).is_some_and(|issued| *issued > row.issued_at);
        let agent = AgentId::parse(&row.agent_id).ok().and_then(|id| snapshot.agent(&id));
        let policy = agent.and_then(|agent| snapshot.credential_policy_of(agent).ok().flatten());
        let facts = Facts {
            issued: Timestamp::from_micros(row.issued_at),
            ends: Timestamp::from_micros(row.not_after),
            is_dead: is_dead(snapshot, &row, now),
            is_succeeded,
            misused: row.misused_at.map(Timestamp::from_micros),
            rotate_before: policy.and_then(|policy| policy.rotate_before),
        };
        let judged = health::judge(&facts, now);
        let due = facts.ends.minus(health::window(&facts));
        let last = row.last_used_at.map(Timestamp::from_micros);
        let used = health::Use { last, minimum: unused_after };
        let name = agent.map(|agent| agent.label.name.clone());
        let judged = judged.map(|health| {
            // A certificate lives for a day at most, and ends by itself.
            let is_kept = row.kind != credential::CERTIFICATE;
            let stale = is_kept.then(|| health::stale(&facts, health, used, now)).flatten();
            Judged { row, health, due, is_succeeded, stale, agent: name }
        });
        (place, judged)
    });
    Ok(judged.collect())
}

/// Whether it was revoked, never signed, or its holder was stopped or cut off after it was issued.
fn is_dead(snapshot: &Snapshot, row: &credential::Model, now: Timestamp) -> bool {
    if row.state != credential::ISSUED {
        return true;
    }
    let Ok(id) = AgentId::parse(&row.agent_id) else {
        let principal = SpiffeId::parse(&row.spiffe_id).ok().and_then(|id| Principal::of(&id).ok());
        return match principal {
            Some(Principal::Enforcer { namespace, name }) => {
                snapshot.enforcement_point(namespace.as_str(), name.as_str()).is_none()
            }
            Some(Principal::Node { namespace, name }) => snapshot.node(namespace.as_str(), name.as_str()).is_none(),
            _ => false,
        };
    };
    let Some(agent) = snapshot.agent(&id) else { return true };
    let life = snapshot.life_of(agent, now);
    let is_of_this_life =
        row.kind != credential::CERTIFICATE || u64::try_from(row.lifecycle_version) == Ok(life.lifecycle_version);
    // One that is suspended may be resumed; whether its credentials come back its cut-off says.
    let is_over = matches!(
        life.stop,
        Some(legate_view::Stop::State(legate_view::AgentState::Retired | legate_view::AgentState::Expired))
    );
    is_over || !is_of_this_life || !after_cutoff(Timestamp::from_micros(row.issued_at), life.cutoff())
}

/// Counts the whole fleet for as long as the process lives.
pub(crate) async fn count_forever(desk: Arc<Desk>) {
    loop {
        let began = Instant::now();
        match count(&desk).await {
            Ok((counts, stale)) => {
                desk.metrics.health(&counts);
                desk.metrics.stale(&stale);
            }
            Err(fault) => {
                tracing::debug!(%fault, "the credentials could not be counted; it is tried again");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        }
        // A large fleet is counted less often: the database is there for others.
        tokio::time::sleep(EVERY.max(began.elapsed() * 20)).await;
    }
}

/// How many credentials of a type are stale.
pub(crate) type StaleCounts = BTreeMap<(Stale, i32), u64>;

/// How many credentials there are of each type, how they are, and how many are stale.
pub(crate) async fn count(desk: &Desk) -> Result<(Counts, StaleCounts), Fault> {
    let which =
        Seen { namespace: None, sees: legate_authority::Reach::Everywhere, since: desk.clock.now().minus(REMEMBERED) };
    let (mut counts, mut stale, mut place) = (Counts::new(), StaleCounts::new(), None);
    loop {
        let rows = some(desk, &which, place).await?;
        let Some(last) = rows.last() else { return Ok((counts, stale)) };
        place = Some((last.not_after, last.id.clone()));
        let snapshot = desk.fresh()?.snapshot;
        for (_, judged) in judge(desk, &snapshot, rows, USUAL).await? {
            if let Some(judged) = judged {
                *counts.entry((judged.health, judged.row.kind)).or_default() += 1;
                if let Some((why, _)) = judged.stale {
                    *stale.entry((why, judged.row.kind)).or_default() += 1;
                }
            }
        }
    }
}
