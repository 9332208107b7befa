//! What a person who left answers for passes on, some agents at a time, each looked at as it is then; what it let agents do
//! for it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use legate_db::TxResult;
use legate_filter::Field;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, FieldChange, Kind, NamespaceSpec};

use super::write::{Put, Writing};
use super::{Call, Desk, leave};
use crate::domain::diff;
use crate::domain::kind::Key;
use crate::domain::succession::{Settled, grace, named, settle};
use crate::domain::terms::{self, Fact};
use crate::error::of_tx;
use crate::store::departure::{self, Model};
use crate::store::{object, search};

/// Agents in one transaction.
const AT_ONCE: u64 = 200;
/// By what an agent names a person, in the order in which they are seen to.
pub(super) const FIELDS: [Field; 3] = [Field::Owners, Field::Sponsors, Field::Manager];
/// What lets agents act for a person, in the order in which it ends; all of it after the agents.
const ENDED: [Kind; 2] = [Kind::DelegationGrant, Kind::RoleBinding];

/// Sees to some of the agents of one who left or came back; of how many something changed. `None`: there are no more.
///
/// Whoever dies in between goes on where the last commit was, and nobody slips through behind that place: from the departure
/// on no write names the person.
pub(super) async fn settle_some(desk: &Arc<Desk>) -> Result<Option<u64>, Fault> {
    let next = desk.db.read("departures_due", |tx| {
        Box::pin(async move {
            match departure::unsettled(tx).await? {
                Some(id) => departure::by_id(tx, &id).await,
                None => Ok(None),
            }
        })
    });
    let Some(departure) = next.await.map_err(of_tx)? else { return Ok(None) };
    let call = Call::own(desk, &why(&departure));
    let id = Arc::new(departure.id);
    let settled = desk.write("succession", Standard::Ordinary, call, move |writing| {
        let id = Arc::clone(&id);
        Box::pin(async move { Box::pin(some(writing, &id)).await })
    });
    settled.await.map(Some)
}

/// The reason of every write; that of the departure itself is in its own event.
fn why(departure: &Model) -> String {
    match (departure.withdrawn_at, departure.namespace.as_str()) {
        (Some(_), _) => format!("{} is back", departure.person),
        (None, "") => format!("{} left", departure.person),
        (None, namespace) => format!("{} left {namespace}", departure.person),
    }
}

async fn some(writing: &mut Writing<'_>, id: &str) -> TxResult<u64, Fault> {
    let due = departure::by_id(writing.tx, id).await?.filter(|departure| departure.settled_at.is_none());
    let Some(mut departure) = due else { return Ok(0) };
    let numbers: Vec<i16> = FIELDS.iter().filter_map(terms::number).collect();
    let Some(field) = numbers.iter().copied().find(|number| *number >= departure.at_field) else {
        let seen_to = numbers.iter().copied().max().unwrap_or_default() + 1;
        let stage = usize::try_from(departure.at_field - seen_to).unwrap_or_default();
        return Box::pin(end_some(writing, departure, stage)).await;
    };
    let after = [&departure.at_namespace, &departure.at_name, &departure.at_object].map(String::as_str);
    let fact = Fact { field, value: departure.person.clone() };
    let places = search::agents_of(writing.tx, &fact, &departure.namespace, after, AT_ONCE).await?;
    let (ids, is_last) = (places.iter().map(|[_, _, id]| id.clone()).collect(), (places.len() as u64) < AT_ONCE);
    (departure.at_field, departure.at_namespace, departure.at_name, departure.at_object) =
        match places.into_iter().last() {
            Some([namespace, name, id]) if !is_last => (field, namespace, name, id),
            _ => (field + 1, String::new(), String::new(), String::new()),
        };
    let changed = see_to(writing, &mut departure, ids).await?;
    departure::update(writing.tx, departure).await?;
    Ok(changed)
}

/// At last nobody acts for one who left: some of what lets agents do so is taken back, a grant with whatever passes on a
/// part of it, or no longer names the person.
async fn end_some(writing: &mut Writing<'_>, mut departure: Model, stage: usize) -> TxResult<u64, Fault> {
    let (mut ended, mut next) = (0, None);
    let kind = ENDED.get(stage).filter(|_| departure.withdrawn_at.is_none());
    if let Some(kind) = kind {
        let after = [&departure.at_namespace, &departure.at_name, &departure.at_object].map(String::as_str);
        let rows = object::after(writing.tx, *kind, &departure.namespace, after, AT_ONCE).await?;
        let is_last = (rows.len() as u64) < AT_ONCE;
        for row in &rows {
            ended += u64::from(leave::person(writing, &row.id, &row.declaration()?, &departure.person).await?);
        }
        next = rows.into_iter().next_back().filter(|_| !is_last).map(|row| (row.namespace, row.name, row.id));
    }
    match next {
        Some(place) => (departure.at_namespace, departure.at_name, departure.at_object) = place,
        None if kind.is_some() && stage + 1 < ENDED.len() => {
            departure.at_field += 1;
            (departure.at_namespace, departure.at_name, departure.at_object) = Default::default();
        }
        None => departure.settled_at = Some(writing.now.micros()),
    }
    departure::update(writing.tx, departure).await?;
    Ok(ended)
}

/// Passes on what is to be passed on in these agents.
async fn see_to(writing: &mut Writing<'_>, departure: &mut Model, ids: BTreeSet<String>) -> TxResult<u64, Fault> {
    let rows = object::by_ids(writing.tx, ids).await?;
    let agents = rows.iter().filter(|row| row.holds_name).map(|row| row.declaration());
    let agents = agents.collect::<TxResult<Vec<Declaration>, Fault>>()?;
    let departed = departure::of(writing.tx, persons_of(&agents, "")).await?;
    let namespaces = namespaces_of(writing, &agents).await?;
    let by = (writing.by.actor.as_str(), writing.by.reason.as_str());
    let mut settled: Vec<(Declaration, Declaration, &'static str, Vec<FieldChange>)> = Vec::new();
    for before in agents {
        let Some(Object::Agent(mut agent)) = before.object.clone() else { continue };
        let namespace = agent.metadata.as_ref().and_then(|m| namespaces.get(&m.namespace));
        let grace = grace(departure.grace(), namespace);
        let outcome = settle(&mut agent, &departed, grace, writing.now, by);
        let Some(verb) = outcome.verb() else { continue };
        departure.passed += i64::from(outcome == Settled::PassedOn);
        departure.orphaned += i64::from(outcome == Settled::Orphaned);
        let after = Declaration { object: Some(Object::Agent(agent)) };
        let fields = diff::diff(Some(&before), &after);
        settled.push((before, after, verb, fields));
    }
    let puts = settled.iter().map(|(before, after, verb, fields)| Put {
        declaration: after.clone(),
        before: Some(before),
        revoked: false,
        verb,
        fields,
    });
    Ok(writing.put_all(puts.collect()).await?.len() as u64)
}

/// Everybody whom these agents name, and one more.
pub(super) fn persons_of(agents: &[Declaration], more: &str) -> BTreeSet<String> {
    let named = agents.iter().flat_map(named).map(|(_, who)| who);
    named.chain(Some(more.to_owned()).filter(|who| !who.is_empty())).collect()
}

async fn namespaces_of(
    writing: &Writing<'_>,
    agents: &[Declaration],
) -> TxResult<BTreeMap<String, NamespaceSpec>, Fault> {
    let names = agents.iter().filter_map(Declaration::metadata).map(|m| Key::new(Kind::Namespace, "", &m.namespace));
    let mut found = BTreeMap::new();
    for (key, row) in object::by_keys(writing.tx, names.collect()).await? {
        if let Some(Object::Namespace(namespace)) = row.declaration()?.object {
            found.insert(key.name, namespace.spec.unwrap_or_default());
        }
    }
    Ok(found)
}
