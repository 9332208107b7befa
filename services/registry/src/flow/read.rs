//! Somebody reads what is declared: one object, or a list a page at a time.

use std::sync::Arc;

use legate_authority::Right;
use legate_db::TxResult;
use legate_ids::Name;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, AgentRef, AgentState, Declaration, Kind};

use super::transition::{self, Which};
use super::update::not_found;
use super::{By, Desk};
use crate::domain::kind::Key;
use crate::domain::operators;
use crate::error::of_tx;
use crate::store::object::{self, Place};
use crate::store::{broken, refuse};

const USUAL: u32 = 100;
const LARGEST: u32 = 1_000;
/// Bytes of one page, as soon as it has one object: an answer has a bound.
const PAGE_BYTES: usize = 16 << 20;

/// One agent, retired ones too by id; with the revision it was read at.
#[tracing::instrument(skip_all)]
pub(crate) async fn agent(desk: &Arc<Desk>, by: &By, which: Option<AgentRef>) -> Result<(Agent, u64), Fault> {
    let which = Which::read(which)?;
    let read = desk.look("get_agent", by, move |look| {
        Box::pin(async move {
            match transition::find(look.tx, &which, &look.mandate).await?.object {
                Some(Object::Agent(agent)) => Ok((agent, look.revision)),
                _ => Err(broken("an agent's row holds no agent")),
            }
        })
    });
    read.await
}

/// One object in force, with the revision it was read at.
#[tracing::instrument(skip_all)]
pub(crate) async fn object(desk: &Arc<Desk>, by: &By, key: Key) -> Result<(Declaration, u64), Fault> {
    let read = desk.look("get_declaration", by, move |look| {
        Box::pin(async move {
            // What the caller may not see is looked for all the same, and is not there.
            let row = object::by_key(look.tx, &key).await?;
            let row = row.filter(|_| look.mandate.may(Right::Read, operators::place(&key)));
            let row = row.ok_or_else(|| refuse(not_found(&key)))?;
            Ok((row.declaration()?, look.revision))
        })
    });
    read.await
}

/// What is listed.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(crate) by: By,
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) states: Vec<AgentState>,
    pub(crate) page_size: u32,
    pub(crate) page_token: String,
}

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Declaration>,
    pub(crate) next_page_token: String,
    pub(crate) revision: u64,
}

/// One page, in the order of namespace and name.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(desk: &Arc<Desk>, ask: List) -> Result<Page, Fault> {
    if ask.kind == Kind::Unspecified {
        return Err(Fault::invalid("kind", "is required"));
    }
    if !ask.namespace.is_empty() {
        Name::parse(&ask.namespace).map_err(|e| Fault::invalid("namespace", e.to_string()))?;
    }
    let size = match ask.page_size {
        0 => USUAL,
        size @ 1..=LARGEST => size,
        _ => return Err(Fault::invalid("page_size", "1 to 1,000; 0 means 100")),
    };
    let states: Vec<&str> = ask.states.iter().map(AgentState::as_str_name).collect();
    let (kind, states) = (ask.kind.as_str_name(), states.join(","));
    let question = ["objects", ask.by.actor.as_str(), kind, ask.namespace.as_str(), states.as_str()];
    let after = desk.pages.read(&question, &ask.page_token)?.map(|text| place(&text)).transpose()?;
    let (kind, namespace, states) = (ask.kind, ask.namespace.clone(), ask.states.clone());
    let read = desk.look("list_objects", &ask.by, move |look| {
        Box::pin(async move {
            let which = object::Which { kind, namespace, sees: look.mandate.sees(), states };
            let rows = object::page(look.tx, &which, after.as_ref(), size.into()).await?;
            Ok((rows, look.revision))
        })
    });
    let (mut rows, revision) = read.await?;
    let mut bytes = 0;
    let fit = rows.iter().take(usize::try_from(size).unwrap_or(usize::MAX)).take_while(|row| {
        bytes += row.body.len();
        bytes <= PAGE_BYTES
    });
    let fit = fit.count().max(1);
    let is_last = rows.len() <= fit;
    rows.truncate(fit);
    let next_page_token = match rows.last() {
        Some(last) if !is_last => desk.pages.after(&question, &format!("{} {} {}", last.namespace, last.name, last.id)),
        _ => String::new(),
    };
    let objects: TxResult<Vec<_>, Fault> = rows.iter().map(object::Model::declaration).collect();
    Ok(Page { objects: objects.map_err(of_tx)?, next_page_token, revision })
}

/// The states that a request names.
pub(crate) fn states(numbers: &[i32]) -> Result<Vec<AgentState>, Fault> {
    let read = |(i, number): (usize, &i32)| match AgentState::try_from(*number) {
        Ok(AgentState::Unspecified) | Err(_) => Err(Fault::invalid(format!("states[{i}]"), "is no state")),
        Ok(state) => Ok(state),
    };
    numbers.iter().enumerate().map(read).collect()
}

/// Names and ids have no spaces.
fn place(text: &str) -> Result<Place, Fault> {
    let mut parts = text.splitn(3, ' ').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(namespace), Some(name), Some(id)) => Ok((namespace, name, id)),
        _ => Err(Fault::broken("an authentic page token names no place")),
    }
}
