//! An auditor asks what became of an object: every write of it, who made it, why, and what it changed.

use std::sync::Arc;

use legate_authority::Right;
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::{AgentId, ObjectId};
use legate_rpc::Fault;
use legate_wire::registry::{
    Declaration, GetHistoryHorizonResponse, HistoryAction, HistoryEntry, ListHistoryRequest, ListHistoryResponse,
};

use super::desk::Look;
use super::list::page_size;
use super::update::not_found;
use super::{By, Desk};
use crate::domain::kind::{self, Key};
use crate::domain::{diff, history, operators};
use crate::error::OBJECT_NOT_FOUND;
use crate::store::change::{self, Place};
use crate::store::{object, refuse, revision, unsigned};

/// Those that held a name before that are told.
const HOLDERS: u64 = 100;
/// Bytes of what one page is made from, as soon as it has one write.
const PAGE_BYTES: usize = 16 << 20;

/// Whose history.
#[derive(Clone, Debug)]
enum Whose {
    Id(String),
    Named(Key),
}

impl Whose {
    fn read(ask: &ListHistoryRequest) -> Result<Self, Fault> {
        if ask.id.is_empty() {
            return Ok(Self::Named(super::revoke::key(ask.kind, &ask.namespace, &ask.name)?));
        }
        let known = AgentId::parse(&ask.id).map(|_| ()).or_else(|_| ObjectId::parse(&ask.id).map(|_| ()));
        known.map_err(|e| Fault::invalid("id", e.to_string()))?;
        Ok(Self::Id(ask.id.clone()))
    }

    /// The object that is meant, and its key: what the caller may not see is looked for all the same, and is not there.
    async fn find(&self, look: &Look<'_>) -> TxResult<(object::Model, Key), Fault> {
        let row = match self {
            Self::Id(id) => object::by_id(look.tx, id).await?,
            Self::Named(key) => match object::by_key(look.tx, key).await? {
                None => match object::holders(look.tx, key, 1).await?.into_iter().next() {
                    Some(last) => object::by_id(look.tx, &last).await?,
                    None => None,
                },
                row => row,
            },
        };
        let key = row.as_ref().map(object::Model::declaration).transpose()?.and_then(|object| kind::key_of(&object));
        let found = row.zip(key).filter(|(_, key)| look.mandate.may(Right::Read, operators::place(key)));
        found.ok_or_else(|| {
            refuse(match self {
                Self::Id(id) => Fault::refused(&OBJECT_NOT_FOUND, format!("there is no object {id}")),
                Self::Named(key) => not_found(key),
            })
        })
    }
}

/// One page of an object's history.
#[tracing::instrument(skip_all)]
pub(crate) async fn history(desk: &Arc<Desk>, by: &By, ask: ListHistoryRequest) -> Result<ListHistoryResponse, Fault> {
    let whose = Whose::read(&ask)?;
    let size = page_size(ask.page_size)?;
    let order = if ask.oldest_first { "oldest" } else { "newest" };
    let kind = ask.kind.to_string();
    let question = ["history", by.actor.as_str(), &ask.id, &kind, &ask.namespace, &ask.name, order];
    let from = desk.pages.read(&question, &ask.page_token)?.map(|text| parse(&text)).transpose()?;
    let (first, oldest_first) = (from.clone(), ask.oldest_first);
    let read = desk.look("list_history", by, move |look| {
        Box::pin(async move {
            // A token goes on with the object that it began with, whoever holds the name by now.
            let whose = first.as_ref().map_or(whose, |(id, _)| Whose::Id(id.clone()));
            let (row, key) = whose.find(&look).await?;
            let after = first.map(|(_, place)| place);
            let (entries, next) = entries(look.tx, &row.id, after, oldest_first, size).await?;
            let holders = object::holders(look.tx, &key, HOLDERS).await?;
            Ok((row.id, key, entries, next, holders, (look.revision, look.oldest)))
        })
    });
    let (id, key, entries, next, holders, (revision, oldest_revision)) = read.await?;
    let next_page_token = next.map(|at| desk.pages.after(&question, &format!("{id} {} {}", at.0, at.1)));
    Ok(ListHistoryResponse {
        entries,
        next_page_token: next_page_token.unwrap_or_default(),
        revision,
        id,
        kind: key.kind.into(),
        namespace: key.namespace,
        name: key.name,
        holders,
        oldest_revision,
    })
}

/// How far back the past is kept.
#[tracing::instrument(skip_all)]
pub(crate) async fn horizon(desk: &Arc<Desk>, by: &By) -> Result<GetHistoryHorizonResponse, Fault> {
    let days = desk.keeps.map_or(0, |keeps| keeps.as_secs() / 86_400);
    let history_days = u32::try_from(days).map_err(Fault::broken)?;
    desk.look("history_horizon", by, move |look| {
        Box::pin(async move {
            let time = revision::time(look.tx, look.oldest).await?;
            Ok(GetHistoryHorizonResponse {
                oldest_revision: look.oldest,
                oldest_time: time.map(|micros| Timestamp::from_micros(micros).into()),
                history_days,
                revision: look.revision,
            })
        })
    })
    .await
}

/// Some writes of an object, each held against the one before it; and where it goes on.
async fn entries(
    tx: &Tx,
    id: &str,
    after: Option<Place>,
    oldest_first: bool,
    size: usize,
) -> TxResult<(Vec<HistoryEntry>, Option<Place>), Fault> {
    let mut rows = change::of_object(tx, id, after, oldest_first, size as u64 + 1).await?;
    let mut bytes = 0;
    let fit = rows.iter().take(size).take_while(|row| {
        bytes += row.body.len();
        bytes <= PAGE_BYTES
    });
    let fit = fit.count().max(1);
    let is_more = rows.len() > fit;
    // The write before the page's first, to hold that against.
    let mut before = match (oldest_first, after) {
        (true, Some(place)) => change::at(tx, id, place).await?,
        (true, None) => None,
        (false, _) => rows.get(fit).cloned(),
    };
    rows.truncate(fit);
    let next = rows.last().filter(|_| is_more).map(|row| (row.revision, row.place));
    if !oldest_first {
        rows.reverse();
    }
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let old = before.as_ref().map(change::Model::declaration).transpose()?;
        entries.push(entry(old.as_ref(), &row.declaration()?, &row));
        before = Some(row);
    }
    if !oldest_first {
        entries.reverse();
    }
    Ok((entries, next))
}

fn entry(before: Option<&Declaration>, after: &Declaration, row: &change::Model) -> HistoryEntry {
    let metadata = after.metadata().cloned().unwrap_or_default();
    let status = history::status(after);
    let action = history::action(before, after, row.revoked);
    HistoryEntry {
        revision: unsigned(row.revision),
        time: metadata.update_time,
        actor: metadata.updated_by,
        reason: metadata.reason,
        action: action.into(),
        // Of the first version that is kept nobody can tell any more what it changed.
        fields: if row.revoked || action == HistoryAction::Compacted { Vec::new() } else { diff::diff(before, after) },
        version: metadata.version,
        state: status.map(|status| status.state).unwrap_or_default(),
        lifecycle_version: status.map(|status| status.lifecycle_version).unwrap_or_default(),
    }
}

/// Ids have no spaces.
fn parse(text: &str) -> Result<(String, Place), Fault> {
    let mut parts = text.split(' ');
    match (parts.next(), parts.next().map(str::parse), parts.next().map(str::parse)) {
        (Some(id), Some(Ok(revision)), Some(Ok(place))) => Ok((id.to_owned(), (revision, place))),
        _ => Err(Fault::broken("an authentic page token names no write")),
    }
}
