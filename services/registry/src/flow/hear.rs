//! The registry hears from the audit log what agents used, one stretch after the other: what is added and the place in the log
//! are one transaction, so every leaf is counted once, whatever ends in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::{Client, Fault, Told};
use legate_wire::audit::usage_feed_service_client::UsageFeedServiceClient;
use legate_wire::audit::{
    HeardEmitter, LostRecords, ReadUsageRequest, ReadUsageResponse, UsageWay, UsedAgent, UsedGrant, UsedPermission,
};
use tonic::{Request, Status};

use super::Desk;
use crate::domain::usage::{Days, FINE, RESOURCES, REST, ROWS};
use crate::error::of_tx;
use crate::store::usage::{self, agent, gap, grant, head, permission};
use crate::store::{object, signed, unsigned};

/// The longest that one reading takes: the collector waits 5 s for news.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two readings where nothing more is there: each is a transaction.
const PAUSE: Duration = Duration::from_secs(1);
/// After a failure; doubled up to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// A stretch in which nothing was used moves the place no oftener: the database has better things to do.
const QUIET: Duration = Duration::from_secs(30);

/// The reason with which the collector says that its log is another one.
const NOT_THIS_LOG: &str = "AUDIT_NOT_THIS_LOG";

/// Where the log was heard up to, as it is asked for and answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) through: u64,
    pub(crate) root: Vec<u8>,
}

/// Hears for as long as the process lives.
pub(crate) async fn hear_forever(desk: Arc<Desk>, log: Client) {
    let client = UsageFeedServiceClient::new(log).max_decoding_message_size(MAX_MESSAGE);
    let mut wait = WAITS.0;
    loop {
        let pause = match hear_once(&desk, client.clone()).await {
            Ok(is_newest) => {
                wait = WAITS.0;
                if is_newest { PAUSE } else { Duration::ZERO }
            }
            Err(fault) => {
                tracing::warn!(%fault, "what agents used is not heard; it is tried again");
                wait = (wait * 2).min(WAITS.1);
                wait
            }
        };
        let now = desk.clock.now();
        desk.metrics.usage_age(desk.heard.to().map(|to| now.since(to)));
        tokio::time::sleep(pause).await;
    }
}

/// A stretch of 2,048 leaves has fewer rows than that, of 1 KiB and their days each.
const MAX_MESSAGE: usize = 32 << 20;

/// One stretch; whether nothing more is there.
async fn hear_once(desk: &Arc<Desk>, mut client: UsageFeedServiceClient<Client>) -> Result<bool, Fault> {
    let place = place(desk).await?;
    let mut request = Request::new(ReadUsageRequest { after: place.through, root: place.root.clone() });
    request.set_timeout(PATIENCE);
    let answered = tokio::time::timeout(PATIENCE, client.read_usage(request)).await;
    match answered.map_err(|_| Fault::broken("audit-collector does not answer"))? {
        Ok(answer) => {
            let answer = answer.into_inner();
            let is_newest = answer.is_newest;
            take(desk, &place, answer).await?;
            Ok(is_newest)
        }
        Err(status) if Told::from_status(&status).reason == NOT_THIS_LOG => {
            begin_anew(desk, &place, "the log is not the one that was heard before").await?;
            Ok(false)
        }
        Err(status) => Err(unheard(&status)),
    }
}

fn unheard(status: &Status) -> Fault {
    Fault::broken(format!("audit-collector: {}", status.message()))
}

/// Where the next stretch begins.
pub(crate) async fn place(desk: &Desk) -> Result<Place, Fault> {
    let read: TxResult<_, Fault> = desk.db.read("usage_place", |tx| Box::pin(head::read(tx))).await;
    let head = read.map_err(of_tx)?;
    let root = if head.through == 0 { Vec::new() } else { head.root.unwrap_or_default() };
    Ok(Place { through: unsigned(head.through), root })
}

/// Adds a stretch that was asked for at `place`; whether it was added: where another registry on this database was faster, it
/// is there already.
pub(crate) async fn take(desk: &Desk, place: &Place, answer: ReadUsageResponse) -> Result<bool, Fault> {
    let (now, time) = (desk.clock.now(), at(answer.time));
    let is_quiet = answer.permissions.is_empty() && answer.agents.is_empty() && answer.grants.is_empty();
    let is_quiet = is_quiet && answer.losses.is_empty() && place.through > 0 && answer.is_newest;
    let everything = time.filter(|_| answer.is_newest);
    if is_quiet && desk.heard.is_fresh(now, QUIET) {
        desk.heard.note(everything);
        return Ok(false);
    }
    let (place, answer) = (Arc::new(place.clone()), Arc::new(answer));
    let adding = desk.db.tx("hear_usage", move |tx| {
        let (place, answer) = (Arc::clone(&place), Arc::clone(&answer));
        Box::pin(async move { add(tx, &place, &answer).await })
    });
    let added = adding.await.map_err(of_tx)?;
    if added {
        desk.heard.note(everything);
        desk.heard.written(now);
    }
    Ok(added)
}

async fn add(tx: &Tx, place: &Place, answer: &ReadUsageResponse) -> TxResult<bool, Fault> {
    let head = head::lock(tx).await?;
    if unsigned(head.through) != place.through || answer.through < place.through {
        return Ok(false);
    }
    let ids: BTreeSet<&String> = answer.permissions.iter().map(|one| &one.agent_id).collect();
    let ids: BTreeSet<&String> = ids.into_iter().chain(answer.agents.iter().map(|one| &one.agent_id)).collect();
    // Callers of checks may name agents that never were.
    let known = object::numbers(tx, ids.into_iter().cloned().collect()).await?;
    let known: BTreeSet<String> = known.into_keys().collect();
    let used: Vec<&UsedPermission> = answer.permissions.iter().filter(|one| known.contains(&one.agent_id)).collect();
    let told: Vec<&UsedAgent> = answer.agents.iter().filter(|one| known.contains(&one.agent_id)).collect();
    add_permissions(tx, &used).await?;
    add_agents(tx, &used, &told).await?;
    add_grants(tx, &answer.grants).await?;
    add_gaps(tx, &answer.emitters, &answer.losses).await?;
    let row = head::Model {
        origin: answer.origin.clone(),
        through: signed(answer.through),
        root: Some(answer.root.clone()),
        from_time: head.from_time.or_else(|| at(answer.first_time).map(Timestamp::micros)),
        // On the way to the newest leaf nobody can say up to when everything was heard.
        to_time: at(answer.time).filter(|_| answer.is_newest).map(Timestamp::micros).or(head.to_time),
        ..head
    };
    head::put(tx, row).await?;
    Ok(true)
}

fn at(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::try_from(time).ok())
}

fn micros(time: Option<prost_types::Timestamp>) -> i64 {
    at(time).unwrap_or_default().micros()
}

async fn add_permissions(tx: &Tx, used: &[&UsedPermission]) -> TxResult<(), Fault> {
    let ids: BTreeSet<String> = used.iter().map(|one| one.agent_id.clone()).collect();
    let mut rows: BTreeMap<String, BTreeMap<What, permission::Model>> = BTreeMap::new();
    for row in permission::of(tx, ids.into_iter().collect()).await? {
        let what = (row.action.clone(), row.resource_type.clone(), row.way, row.resource_id.clone());
        rows.entry(row.agent_id.clone()).or_default().insert(what, row);
    }
    let mut changed: BTreeMap<(String, What), permission::Model> = BTreeMap::new();
    for one in used {
        let its = rows.entry(one.agent_id.clone()).or_default();
        let Some(what) = row_of(one, its) else { continue };
        let (first, last) = (micros(one.first_time), micros(one.last_time));
        let row = its.entry(what.clone()).or_insert_with(|| permission::Model {
            agent_id: one.agent_id.clone(),
            action: what.0.clone(),
            resource_type: what.1.clone(),
            resource_id: what.3.clone(),
            way: what.2,
            count: 0,
            first_time: first,
            last_time: last,
            newest_day: 0,
            days: Vec::new(),
        });
        row.count = row.count.saturating_add(one.count).max(0);
        if one.count > 0 {
            (row.first_time, row.last_time) = (row.first_time.min(first), row.last_time.max(last));
        }
        let mut days: Days = row.days();
        one.days.iter().for_each(|day| days.add(*day));
        (row.newest_day, row.days) = days.to_bytes();
        changed.insert((one.agent_id.clone(), what), row.clone());
    }
    permission::put(tx, changed.into_values().collect()).await
}

/// Action, type of resource, way, and which resource.
type What = (String, String, i32, String);

/// Which row of the agent's it is added to; `None`: to none, since what is taken off was never added.
fn row_of(one: &UsedPermission, its: &BTreeMap<What, permission::Model>) -> Option<What> {
    let of = |id: &str| (one.action.clone(), one.resource_type.clone(), one.way, id.to_owned());
    let told = of(if one.resource_id.is_empty() { REST } else { &one.resource_id });
    let (any, anything) = (of(REST), (REST.to_owned(), REST.to_owned(), UsageWay::Own.into(), REST.to_owned()));
    if its.contains_key(&told) {
        return Some(told);
    }
    let is_there = |what: &What| its.contains_key(what);
    if one.count <= 0 {
        return [any, anything].into_iter().find(is_there);
    }
    let is_same = |what: &What| (&what.0, &what.1, what.2) == (&told.0, &told.1, told.2);
    let apart = its.range(of("")..).map(|(what, _)| what).take_while(|what| is_same(what));
    let is_fine = its.len() < FINE && apart.filter(|what| what.3 != REST).count() < RESOURCES;
    let what = if is_fine { told.clone() } else { any };
    Some(if its.len() < ROWS || is_there(&what) { what } else { anything })
}

async fn add_agents(tx: &Tx, used: &[&UsedPermission], told: &[&UsedAgent]) -> TxResult<(), Fault> {
    let ids: BTreeSet<String> = told.iter().map(|one| one.agent_id.clone()).collect();
    let ids: BTreeSet<String> = ids.into_iter().chain(used.iter().map(|one| one.agent_id.clone())).collect();
    let new = |id: &String| agent::Model { agent_id: id.clone(), used_at: None, obtained_at: None, denied: 0 };
    let mut rows: BTreeMap<String, agent::Model> = ids.iter().map(|id| (id.clone(), new(id))).collect();
    rows.extend(agent::of(tx, ids.into_iter().collect()).await?.into_iter().map(|row| (row.agent_id.clone(), row)));
    for one in used {
        let Some(row) = rows.get_mut(&one.agent_id) else { continue };
        // What another did on its behalf is no use of its own.
        if one.count > 0 && one.way != i32::from(UsageWay::Through) {
            row.used_at = row.used_at.max(at(one.last_time).map(Timestamp::micros));
        }
    }
    for one in told {
        let Some(row) = rows.get_mut(&one.agent_id) else { continue };
        row.denied = row.denied.saturating_add(signed(one.denied));
        row.obtained_at = row.obtained_at.max(at(one.last_obtained_time).map(Timestamp::micros));
        row.used_at = row.used_at.max(row.obtained_at);
    }
    agent::put(tx, rows.into_values().collect()).await
}

async fn add_grants(tx: &Tx, used: &[UsedGrant]) -> TxResult<(), Fault> {
    let ids: Vec<String> = used.iter().map(|one| one.grant_id.clone()).collect();
    let there = object::numbers(tx, ids.clone()).await?;
    let mut rows: BTreeMap<String, grant::Model> =
        grant::of(tx, ids).await?.into_iter().map(|row| (row.grant_id.clone(), row)).collect();
    for one in used.iter().filter(|one| there.contains_key(&one.grant_id)) {
        let (first, last) = (micros(one.first_time), micros(one.last_time));
        let new = || grant::Model { grant_id: one.grant_id.clone(), count: 0, first_time: first, last_time: last };
        let row = rows.entry(one.grant_id.clone()).or_insert_with(new);
        row.count = row.count.saturating_add(one.count).max(0);
        if one.count > 0 {
            (row.first_time, row.last_time) = (row.first_time.min(first), row.last_time.max(last));
        }
    }
    grant::put(tx, rows.into_values().collect()).await
}

async fn add_gaps(tx: &Tx, emitters: &[HeardEmitter], losses: &[LostRecords]) -> TxResult<(), Fault> {
    let names: Vec<String> = emitters.iter().map(|one| one.spiffe_id.clone()).collect();
    let before: BTreeMap<String, i64> =
        gap::last_heard(tx, names).await?.into_iter().map(|row| (row.spiffe_id, row.last_time)).collect();
    let gaps = losses.iter().map(|loss| {
        let to_time = micros(loss.before_time);
        let heard = at(loss.after_time).map(Timestamp::micros).or_else(|| before.get(&loss.spiffe_id).copied());
        gap::Model {
            emitter: loss.spiffe_id.clone(),
            to_time,
            // Who was never heard before has lost nothing that could be dated.
            from_time: heard.unwrap_or(to_time).min(to_time),
            cause: "a policy-decision ended without warning: what it recorded last may be lost".to_owned(),
        }
    });
    gap::add(tx, gaps.collect()).await?;
    let later = |one: &HeardEmitter| gap::emitter::Model {
        spiffe_id: one.spiffe_id.clone(),
        last_time: micros(one.last_time).max(before.get(&one.spiffe_id).copied().unwrap_or(i64::MIN)),
    };
    gap::heard(tx, emitters.iter().map(later).collect()).await
}

/// Forgets what was heard, and that it was: the log is another one, and is heard from its beginning.
pub(crate) async fn begin_anew(desk: &Desk, place: &Place, why: &'static str) -> Result<(), Fault> {
    let (place, now) = (place.clone(), desk.clock.now());
    let beginning = desk.db.tx("begin_usage", move |tx| {
        let place = place.clone();
        Box::pin(async move {
            let head = head::lock(tx).await?;
            if unsigned(head.through) != place.through {
                return Ok(());
            }
            let (from_time, to_time) = (head.to_time.or(head.from_time).unwrap_or(now.micros()), now.micros());
            usage::clear(tx).await?;
            let gap = gap::Model { emitter: String::new(), to_time, from_time, cause: why.to_owned() };
            gap::add(tx, vec![gap]).await?;
            let new = head::Model {
                id: head.id,
                origin: String::new(),
                through: 0,
                root: None,
                from_time: None,
                to_time: None,
            };
            head::put(tx, new).await
        })
    });
    beginning.await.map_err(of_tx)?;
    desk.heard.forget();
    tracing::warn!("the audit log is another one than was heard; what agents used is heard anew from its beginning");
    Ok(())
}
