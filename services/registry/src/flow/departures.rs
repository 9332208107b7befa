//! An operator sees who left, and takes back a departure that was a mistake.

use std::sync::Arc;

use legate_authority::{Place, Reach, Right};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::{
    ListDeparturesRequest, ListDeparturesResponse, WithdrawDepartureRequest, WithdrawDepartureResponse,
};

use super::list::page_size;
use super::{By, Call, Desk};
use crate::convert;
use crate::domain::check;
use crate::error::DEPARTURE_NOT_FOUND;
use crate::store::departure::{self, Which};
use crate::store::refuse;

/// One page of departures, the latest first.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(
    desk: &Arc<Desk>,
    by: &By,
    ask: ListDeparturesRequest,
) -> Result<ListDeparturesResponse, Fault> {
    // Everybody's, where nobody is named.
    let person = if ask.person.is_empty() { "user:x" } else { &ask.person };
    super::stage::refusal(check::check_departed(person, &ask.namespace))?;
    let size = page_size(ask.page_size)?;
    let withdrawn = if ask.with_withdrawn { "withdrawn" } else { "" };
    let question = ["departures", by.actor.as_str(), &ask.namespace, &ask.person, withdrawn];
    let before = desk.pages.read(&question, &ask.page_token)?;
    let mut which = Which {
        namespace: ask.namespace.clone(),
        person: ask.person.clone(),
        with_withdrawn: ask.with_withdrawn,
        sees: Reach::In(Default::default()),
    };
    let read = desk.look("list_departures", by, move |look| {
        Box::pin(async move {
            which.sees = look.mandate.sees();
            let rows = departure::page(look.tx, &which, before.as_deref(), size as u64 + 1).await?;
            Ok((rows, look.revision))
        })
    });
    let (mut rows, revision) = read.await?;
    let is_more = rows.len() > size;
    rows.truncate(size);
    let next = rows.last().filter(|_| is_more).map(|last| desk.pages.after(&question, &last.id));
    Ok(ListDeparturesResponse {
        departures: rows.iter().map(departure::Model::told).collect(),
        next_page_token: next.unwrap_or_default(),
        revision,
    })
}

/// Takes a departure back. The agents that still name the person are seen to afterwards, by the sweep.
#[tracing::instrument(skip_all)]
pub(crate) async fn withdraw(
    desk: &Arc<Desk>,
    call: Call,
    ask: WithdrawDepartureRequest,
) -> Result<WithdrawDepartureResponse, Fault> {
    super::stage::refusal(check::check_departed(&ask.person, &ask.namespace))?;
    super::stage::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new(ask);
    desk.write("withdraw_departure", Standard::Ordinary, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let place = Place::of(&ask.namespace);
            writing.demand(Right::Administer, place).map_err(refuse)?;
            let there = departure::in_force(writing.tx, &ask.person, &ask.namespace).await?;
            let mut departure = there.ok_or_else(|| {
                let text = format!("no departure of {} {place} stands", ask.person);
                refuse(Fault::refused(&DEPARTURE_NOT_FOUND, text))
            })?;
            departure.withdrawn_at = Some(writing.now.micros());
            departure.withdraw_actor.clone_from(&writing.by.actor);
            departure.withdraw_reason.clone_from(&writing.by.reason);
            // From the start: those that still name the person are answered for again.
            (departure.settled_at, departure.at_field) = (None, 0);
            for place in [&mut departure.at_namespace, &mut departure.at_name, &mut departure.at_object] {
                place.clear();
            }
            departure::update(writing.tx, departure.clone()).await?;
            let told = departure.told();
            writing.record(convert::person_event(writing.by, "departure_withdrawn", &told, writing.now));
            Ok(WithdrawDepartureResponse { departure: Some(told), revision: writing.revision() })
        })
    })
    .await
}
