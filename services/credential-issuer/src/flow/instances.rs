//! An operator sees which copies of an agent run: newest first, a page at a time, or one of them.

use std::collections::BTreeMap;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_ids::{AgentId, InstanceId, Name};
use legate_rpc::Fault;
use legate_view::{Snapshot, after_cutoff};

use super::{Call, Desk, list};
use crate::domain::instance::{Facts, State};
use crate::error::{INSTANCE_NOT_FOUND, of_tx};
use crate::store::instance;

/// So many are looked at for one page at most; where few fit, a page can be short.
const LOOKED_AT: usize = 5_000;
/// So many of them are read at once.
const AT_ONCE: usize = 500;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) agent_id: String,
    pub(crate) namespace: String,
    /// That this node attested, `NAMESPACE/NAME`; empty: of all.
    pub(crate) node: String,
    /// None: in any.
    pub(crate) states: Vec<State>,
    pub(crate) page_size: u32,
    pub(crate) page_token: String,
}

/// One page, and the token for the next one; empty when it was the last.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(desk: &Desk, call: &Call, ask: Ask) -> Result<(Vec<(instance::Model, State)>, String), Fault> {
    if !ask.agent_id.is_empty() {
        AgentId::parse(&ask.agent_id).map_err(|e| Fault::invalid("agent_id", e.to_string()))?;
    }
    if !ask.namespace.is_empty() {
        Name::parse(&ask.namespace).map_err(|e| Fault::invalid("namespace", e.to_string()))?;
    }
    if !ask.node.is_empty() {
        let parts = ask.node.split_once('/').map(|(namespace, name)| (Name::parse(namespace), Name::parse(name)));
        if !matches!(parts, Some((Ok(_), Ok(_)))) {
            return Err(Fault::invalid("node", "is NAMESPACE/NAME"));
        }
    }
    let size = list::page_size(ask.page_size)?;
    let sees = desk.mandate(call).await?.sees();
    let states = format!("{:?}", ask.states);
    let question = ["instances", call.peer.id_text(), &ask.agent_id, &ask.namespace, &states, &ask.node];
    let mut before = desk.pepper.pages().read(&question, &ask.page_token)?;
    // Most of them have ended, and are looked at only where somebody asks for such.
    let all_hold =
        !ask.states.is_empty() && ask.states.iter().all(|state| matches!(state, State::Live | State::CutOff));
    let which = instance::Which {
        agent_id: ask.agent_id.clone(),
        namespace: ask.namespace.clone(),
        node: ask.node.clone(),
        sees,
        not_ended_at: all_hold.then(|| desk.clock.now()),
    };
    let (mut page, mut looked_at, mut is_last) = (Vec::new(), 0, false);
    while page.len() < size && looked_at < LOOKED_AT && !is_last {
        let limit = if ask.states.is_empty() { size + 1 - page.len() } else { AT_ONCE };
        let (which, from) = (which.clone(), before.clone());
        let read = desk.db.read("list_instances", move |tx| {
            Box::pin(async move { instance::page(tx, &which, from.as_deref(), limit as u64).await })
        });
        let rows = read.await.map_err(of_tx)?;
        is_last = rows.len() < limit;
        looked_at += rows.len();
        for (row, state) in judged(desk, rows).await? {
            let fits = ask.states.is_empty() || ask.states.contains(&state);
            if fits && page.len() == size {
                is_last = false;
                break;
            }
            before = Some(row.id.clone());
            page.extend(fits.then_some((row, state)));
        }
    }
    desk.record_emergency(call).await?;
    let next = before.filter(|_| !is_last).map(|last| desk.pepper.pages().after(&question, &last));
    Ok((page, next.unwrap_or_default()))
}

/// One instance; one that the caller may not see is not there.
#[tracing::instrument(skip_all, fields(legate.instance = %id))]
pub(crate) async fn get(desk: &Desk, call: &Call, id: InstanceId) -> Result<(instance::Model, State), Fault> {
    let mandate = desk.mandate(call).await?;
    let text = id.to_string();
    let row = desk.db.read("get_instance", move |tx| {
        let id = text.clone();
        Box::pin(async move { instance::by_id(tx, &id).await })
    });
    let row = row.await.map_err(of_tx)?.filter(|row| mandate.may(Right::Read, Place::In(&row.namespace)));
    let row = row.ok_or_else(|| Fault::refused(&INSTANCE_NOT_FOUND, format!("no instance {id}")))?;
    desk.record_emergency(call).await?;
    let mut judged = judged(desk, vec![row]).await?;
    judged.pop().ok_or_else(|| Fault::broken("an instance was read and is not there"))
}

/// Where instances stand, by their credentials and by the view.
pub(super) async fn judged(desk: &Desk, rows: Vec<instance::Model>) -> Result<Vec<(instance::Model, State)>, Fault> {
    let now = desk.clock.now();
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let read = desk.db.read("credentials_of_instances", move |tx| {
        let ids = ids.clone();
        Box::pin(async move { instance::with_credentials(tx, ids, now).await })
    });
    let with_credentials = read.await.map_err(of_tx)?;
    let reading = desk.fresh()?;
    let mut lives = BTreeMap::new();
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let life = lives.entry(row.agent_id.clone()).or_insert_with(|| life(&reading.snapshot, &row.agent_id, now));
        let facts = Facts {
            is_revoked: row.revoked_at.is_some(),
            has_credential: with_credentials.contains(&row.id),
            ends: Timestamp::from_micros(row.ends_at),
            is_of_this_life: life.is_some_and(|(version, cutoff)| {
                u64::try_from(row.lifecycle_version) == Ok(version)
                    && after_cutoff(Timestamp::from_micros(row.renewed_at), cutoff)
            }),
        };
        let state = State::of(facts, now);
        all.push((row, state));
    }
    Ok(all)
}

/// The lifecycle version and the last cut-off of an agent that can work now.
pub(super) fn life(snapshot: &Snapshot, agent: &str, now: Timestamp) -> Option<(u64, Option<Timestamp>)> {
    let agent = snapshot.agent(&AgentId::parse(agent).ok()?)?;
    let life = snapshot.life_of(agent, now);
    life.stop.is_none().then(|| (life.lifecycle_version, life.cutoff()))
}
