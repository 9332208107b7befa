//! What would become of the agents of a person who leaves, told without changing anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{DeparturePreview, OffboardPersonRequest, OffboardPersonResponse};

use super::offboard::{check_surroundings, narrowed, row};
use super::succession::{FIELDS, persons_of};
use super::{By, Desk};
use crate::domain::check;
use crate::domain::kind::Key;
use crate::domain::succession::{Settled, delegator, settle};
use crate::domain::terms::{self, Fact};
use crate::store::{departure, object, refuse, search};

/// Agents that are looked at, and no more.
const LOOKED_AT: usize = 10_000;
/// Facts that are read at once.
const AT_ONCE: u64 = 1_000;
/// Agents that are named.
const NAMED: usize = 100;

/// Looks at every agent that names the person, as if it had left.
#[tracing::instrument(skip_all)]
pub(crate) async fn preview(
    desk: &Arc<Desk>,
    by: &By,
    ask: OffboardPersonRequest,
) -> Result<OffboardPersonResponse, Fault> {
    super::stage::refusal(check::check_departure(&ask))?;
    let now = desk.clock.now();
    desk.look("preview_departure", by, move |look| {
        Box::pin(async move {
            look.mandate.demand(Right::Administer, Place::of(&ask.namespace)).map_err(refuse)?;
            check_surroundings(look.tx, &ask).await?;
            let departure = row(&ask, String::new(), now.micros(), &look.by.actor, &look.by.reason);
            let mut told = outlook(look.tx, &departure, now).await?;
            let (grants, all) = grants_of(look.tx, &departure).await?;
            (told.delegation_grants, told.is_exact) = (grants, told.is_exact && all);
            told.operator_bindings = u32::try_from(narrowed(look.tx, &ask).await?.len()).unwrap_or(u32::MAX);
            Ok(OffboardPersonResponse {
                departure: Some(departure.told()),
                revision: look.revision,
                preview: Some(told),
            })
        })
    })
    .await
}

async fn outlook(tx: &Tx, departure: &departure::Model, now: Timestamp) -> TxResult<DeparturePreview, Fault> {
    let (ids, is_exact) = agents_of(tx, departure).await?;
    let mut told = DeparturePreview { is_exact, ..DeparturePreview::default() };
    let mut orphans = BTreeSet::new();
    let ids: Vec<String> = ids.into_iter().collect();
    for some in ids.chunks(AT_ONCE as usize) {
        let rows = object::by_ids(tx, some.iter().cloned().collect()).await?;
        let agents = rows.iter().filter(|row| row.holds_name).map(|row| row.declaration());
        let agents = agents.collect::<TxResult<Vec<_>, Fault>>()?;
        let mut departed = departure::of(tx, persons_of(&agents, &departure.successor)).await?;
        departed.add(&departure.person, departure.gone());
        for agent in agents {
            let Some(Object::Agent(mut agent)) = agent.object else { continue };
            let was_orphaned = agent.status.as_ref().is_some_and(|status| status.orphaned_time.is_some());
            told.agents_named += 1;
            match settle(&mut agent, &departed, std::time::Duration::ZERO, now, ("", "")) {
                Settled::Same | Settled::PassedOn if was_orphaned => told.agents_orphaned += 1,
                Settled::Orphaned => told.agents_orphaned += 1,
                Settled::PassedOn | Settled::AnsweredFor => {
                    told.agents_passing += 1;
                    continue;
                }
                Settled::Same => continue,
            }
            let metadata = agent.metadata.unwrap_or_default();
            orphans.insert(Key::new(legate_wire::registry::Kind::Agent, &metadata.namespace, &metadata.name));
        }
    }
    told.orphans = orphans.into_iter().take(NAMED).map(|key| key.to_string()).collect();
    Ok(told)
}

/// How many grants let agents act for the person, among so many that are looked at; whether these are all.
async fn grants_of(tx: &Tx, departure: &departure::Model) -> TxResult<(u64, bool), Fault> {
    let (mut count, mut looked_at) = (0, 0);
    let mut after = [String::new(), String::new(), String::new()];
    loop {
        let place = after.each_ref().map(String::as_str);
        let kind = legate_wire::registry::Kind::DelegationGrant;
        let rows = object::after(tx, kind, &departure.namespace, place, AT_ONCE).await?;
        looked_at += rows.len();
        for row in &rows {
            if let Some(Object::DelegationGrant(grant)) = row.declaration()?.object {
                count += u64::from(delegator(&grant) == Some(departure.person.as_str()));
            }
        }
        match rows.into_iter().next_back().map(|row| [row.namespace, row.name, row.id]) {
            Some(last) if looked_at < LOOKED_AT => after = last,
            last => return Ok((count, last.is_none())),
        }
    }
}

/// The agents that name the person, so many at most; whether these are all.
async fn agents_of(tx: &Tx, departure: &departure::Model) -> TxResult<(BTreeSet<String>, bool), Fault> {
    let mut ids = BTreeSet::new();
    for field in FIELDS.iter().filter_map(terms::number) {
        let fact = Fact { field, value: departure.person.clone() };
        let mut after = [String::new(), String::new(), String::new()];
        loop {
            let place = after.each_ref().map(String::as_str);
            let places = search::agents_of(tx, &fact, &departure.namespace, place, AT_ONCE).await?;
            let is_last = (places.len() as u64) < AT_ONCE;
            for place in places {
                let [_, _, id] = &place;
                if ids.len() >= LOOKED_AT && !ids.contains(id) {
                    return Ok((ids, false));
                }
                ids.insert(id.clone());
                after = place;
            }
            if is_last {
                break;
            }
        }
    }
    Ok((ids, true))
}
