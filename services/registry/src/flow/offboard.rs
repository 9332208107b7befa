//! A person leaves: from this write on nobody names it, and its operators' roles end.

use std::collections::BTreeSet;
use std::sync::Arc;

use legate_authority::{Place, Right};
use legate_db::{Tx, TxResult};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind, OffboardPersonRequest, OffboardPersonResponse};

use super::mandate::MOST;
use super::update::not_found;
use super::write::Writing;
use super::{Call, Desk};
use crate::convert;
use crate::domain::kind::{self, Key};
use crate::domain::{check, diff, operators};
use crate::error::PERSON_DEPARTED;
use crate::store::departure::{self, Model};
use crate::store::{object, refuse, signed};

/// Lets it leave. What it answers for is passed on afterwards, by the sweep.
#[tracing::instrument(skip_all)]
pub(crate) async fn offboard(
    desk: &Arc<Desk>,
    call: Call,
    ask: OffboardPersonRequest,
) -> Result<OffboardPersonResponse, Fault> {
    super::stage::refusal(check::check_departure(&ask))?;
    super::stage::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new(ask);
    desk.write("offboard_person", Standard::Stopping, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            writing.demand(Right::Administer, Place::of(&ask.namespace)).map_err(refuse)?;
            check_surroundings(writing.tx, &ask).await?;
            let departure = match departure::in_force(writing.tx, &ask.person, &ask.namespace).await? {
                Some(there) if is_the_same(&there, &ask) => there,
                Some(there) => return Err(refuse(left_already(&there))),
                None => leave(writing, &ask).await?,
            };
            Ok(OffboardPersonResponse {
                departure: Some(departure.told()),
                revision: writing.revision(),
                preview: None,
            })
        })
    })
    .await
}

/// Whether there is the namespace, and the successor is here.
pub(super) async fn check_surroundings(tx: &Tx, ask: &OffboardPersonRequest) -> TxResult<(), Fault> {
    if !ask.namespace.is_empty() {
        let key = Key::new(Kind::Namespace, "", &ask.namespace);
        object::by_key(tx, &key).await?.ok_or_else(|| refuse(not_found(&key)))?;
    }
    if !ask.successor.is_empty() {
        let departed = departure::of(tx, BTreeSet::from([ask.successor.clone()])).await?;
        if let Some(gone) = departed.of(&ask.successor, &ask.namespace) {
            let why = format!("{} left at {}; name somebody who is here", ask.successor, gone.time);
            let text = format!("successor: {why}");
            return Err(refuse(Fault::refused(&PERSON_DEPARTED, text).field("successor", why)));
        }
    }
    Ok(())
}

fn is_the_same(there: &Model, ask: &OffboardPersonRequest) -> bool {
    let wanted: BTreeSet<&str> = ask.operators.iter().map(String::as_str).collect();
    there.successor == ask.successor
        && there.grace == grace(ask)
        && there.operators().collect::<BTreeSet<_>>() == wanted
}

fn left_already(there: &Model) -> Fault {
    let place = Place::of(&there.namespace);
    let at = there.gone().time;
    let text = format!(
        "{} left {place} at {at}, with another successor, grace or other operators; withdraw that departure first",
        there.person
    );
    Fault::refused(&PERSON_DEPARTED, text).field("person", format!("left at {at}"))
}

/// In microseconds.
fn grace(ask: &OffboardPersonRequest) -> Option<i64> {
    let grace = ask.grace.and_then(|grace| std::time::Duration::try_from(grace).ok())?;
    Some(signed(u64::try_from(grace.as_micros()).unwrap_or(u64::MAX)))
}

/// The departure that is asked for, as a row.
pub(super) fn row(ask: &OffboardPersonRequest, id: String, left_at: i64, actor: &str, reason: &str) -> Model {
    Model {
        id,
        person: ask.person.clone(),
        namespace: ask.namespace.clone(),
        successor: ask.successor.clone(),
        grace: grace(ask),
        operators: ask.operators.join(" "),
        reason: reason.to_owned(),
        actor: actor.to_owned(),
        left_at,
        withdrawn_at: None,
        withdraw_actor: String::new(),
        withdraw_reason: String::new(),
        settled_at: None,
        at_field: 0,
        at_namespace: String::new(),
        at_name: String::new(),
        at_object: String::new(),
        passed: 0,
        orphaned: 0,
    }
}

async fn leave(writing: &mut Writing<'_>, ask: &OffboardPersonRequest) -> TxResult<Model, Fault> {
    let id = writing.desk.object_id().map_err(refuse)?.to_string();
    let departure = row(ask, id, writing.now.micros(), &writing.by.actor, &writing.by.reason);
    departure::insert(writing.tx, departure.clone()).await?;
    writing.record(convert::person_event(writing.by, "offboarded", &departure.told(), writing.now));
    for Narrowed { before, after } in narrowed(writing.tx, ask).await? {
        let Some(key) = kind::key_of(&before) else { continue };
        writing.demand(Right::Administer, operators::place(&key)).map_err(refuse)?;
        match after {
            Some(after) => {
                let fields = diff::diff(Some(&before), &after);
                writing.put(after, Some(&before), "updated", &fields).await?;
            }
            None => {
                writing.take_back(before, "revoked").await?;
            }
        }
    }
    Ok(departure)
}

/// An operator binding without those who leave; none where nobody is left in it.
#[derive(Debug)]
pub(super) struct Narrowed {
    before: Declaration,
    after: Option<Declaration>,
}

/// The operator bindings that name operators of a person who leaves, of the namespace or (empty) of all of them and of none.
pub(super) async fn narrowed(tx: &Tx, ask: &OffboardPersonRequest) -> TxResult<Vec<Narrowed>, Fault> {
    if ask.operators.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for row in object::in_force(tx, Kind::OperatorBinding, MOST).await? {
        if !ask.namespace.is_empty() && row.namespace != ask.namespace {
            continue;
        }
        let before = row.declaration()?;
        let mut after = before.clone();
        let Some(Object::OperatorBinding(binding)) = &mut after.object else { continue };
        let Some(spec) = &mut binding.spec else { continue };
        let named = spec.operators.len();
        spec.operators.retain(|name| !ask.operators.contains(name));
        let left = spec.operators.len();
        if left < named {
            found.push(Narrowed { before, after: (left > 0).then_some(after) });
        }
    }
    Ok(found)
}
