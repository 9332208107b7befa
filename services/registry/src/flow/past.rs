//! The registry as it was: a revision or a time names the state, and objects are read as they were in it.

use legate_authority::{Place as Somewhere, Right};
use legate_clock::Timestamp;
use legate_db::{TxError, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::as_of::At;
use legate_wire::registry::{AgentState, AsOf, Declaration};

use super::class_in_force;
use super::desk::Look;
use super::list::{Filling, Part, Read};
use super::transition::Which as AgentWhich;
use super::update::not_found;
use crate::domain::history::status;
use crate::domain::kind::Key;
use crate::domain::operators;
use crate::domain::subject::Seen;
use crate::error::{AGENT_NOT_FOUND, REVISION_COMPACTED, REVISION_UNKNOWN};
use crate::store::search::{Place, Which};
use crate::store::{change, object, refuse, revision, way};

/// Objects that are looked at for one page, whether they were in force then or not.
const LOOKED_AT: usize = 2_000;
/// So many of them are read at once.
const AT_ONCE: u64 = 500;

/// The revision that is meant.
pub(super) async fn revision(look: &Look<'_>, as_of: AsOf) -> TxResult<u64, Fault> {
    let (newest, oldest, now) = (look.revision, look.oldest, look.desk.clock.now());
    let unknown = |text: String| refuse(Fault::refused(&REVISION_UNKNOWN, text).with("revision", newest.to_string()));
    match as_of.at {
        None => Err(refuse(Fault::invalid("as_of", "give a revision or a time"))),
        Some(At::Revision(0)) => Err(unknown("revisions begin with 1".to_owned())),
        Some(At::Revision(asked)) if asked > newest => {
            Err(unknown(format!("the newest revision is {newest}, and {asked} was asked for")))
        }
        Some(At::Revision(asked)) if asked < oldest => {
            Err(compacted(oldest, &format!("revision {asked} was asked for")))
        }
        Some(At::Revision(asked)) => Ok(asked),
        Some(At::Time(time)) => {
            let time = Timestamp::try_from(time).map_err(|e| refuse(Fault::invalid("as_of.time", e.to_string())))?;
            if time > now {
                return Err(unknown(format!("{time} is still to come; it is {now}")));
            }
            match revision::at(look.tx, time.micros()).await? {
                Some(found) if found >= oldest => Ok(found),
                None if oldest <= 1 => Err(unknown(format!("nothing was declared yet at {time}"))),
                _ => Err(compacted(oldest, &format!("{time} was asked for"))),
            }
        }
    }
}

/// Says from where on the past is kept.
fn compacted(oldest: u64, asked: &str) -> TxError<Fault> {
    let text = format!("the oldest revision that is kept is {oldest}, and {asked}");
    refuse(Fault::refused(&REVISION_COMPACTED, text).with("oldest_revision", oldest.to_string()))
}

/// The object that held this name then.
pub(super) async fn object(look: &Look<'_>, key: &Key, revision: u64) -> TxResult<Declaration, Fault> {
    let held = change::holder(look.tx, key, revision).await?.filter(|declaration| !is_retired(declaration));
    // What the caller may not see now, he does not see as it was.
    let held = held.filter(|_| look.mandate.may(Right::Read, operators::place(key)));
    held.ok_or_else(|| refuse(at(not_found(key), revision)))
}

/// The agent that is meant: whoever held the name then, or the one of this id, retired or not.
pub(super) async fn agent(look: &Look<'_>, which: &AgentWhich, revision: u64) -> TxResult<Declaration, Fault> {
    let (named, found) = match which {
        AgentWhich::Id(id) => (id.to_string(), change::as_of(look.tx, id.as_str(), revision).await?),
        AgentWhich::Named(key) => {
            let held = change::holder(look.tx, key, revision).await?;
            (key.to_string(), held.filter(|declaration| !is_retired(declaration)))
        }
    };
    let is_seen = |declaration: &Declaration| {
        let namespace = declaration.metadata().map(|m| m.namespace.as_str()).unwrap_or_default();
        look.mandate.may(Right::Read, Somewhere::of(namespace))
    };
    let found = found.filter(is_seen);
    let missing = || Fault::refused(&AGENT_NOT_FOUND, format!("there is no agent {named}"));
    found.ok_or_else(|| refuse(at(missing(), revision)))
}

/// Says that it was so then, and not that it is so now.
fn at(fault: Fault, revision: u64) -> Fault {
    fault.with("as_of_revision", revision.to_string())
}

fn is_retired(declaration: &Declaration) -> bool {
    status(declaration).is_some_and(|status| status.state() == AgentState::Retired)
}

/// A page of the objects as they were.
pub(super) async fn page(look: &Look<'_>, which: &Which, part: Part, revision: u64) -> TxResult<Read, Fault> {
    way::by_index(look.tx).await?;
    let mut page = Filling::of(part.size);
    let mut after = part.after;
    while !page.is_end && !page.is_full && page.looked_at < LOOKED_AT {
        let rows = object::ever(look.tx, which, after.as_ref(), AT_ONCE).await?;
        page.is_end = (rows.len() as u64) < AT_ONCE;
        for row in rows {
            let place = Place::Name { namespace: row.namespace.clone(), name: row.name.clone(), id: row.id.clone() };
            after = Some(place.clone());
            let (then, bytes) = if object::is_of(&row, revision) {
                ((!row.revoked).then(|| row.declaration()).transpose()?, row.body.len())
            } else {
                let then = change::as_of(look.tx, &row.id, revision).await?;
                (then, row.body.len())
            };
            page.take(place, then.filter(|declaration| is_among(which, declaration)), bytes);
        }
    }
    let made = revision::time(look.tx, revision).await?.map(Timestamp::from_micros);
    let mut read = Read { made, ..page.read(part.total, revision) };
    let mut agents = class_in_force::agents(&mut read.objects);
    if !agents.is_empty() {
        Box::pin(class_in_force::tell(look.tx, &mut agents, Some(revision))).await?;
    }
    Ok(read)
}

/// Whether an object that was in force then is one of those asked for.
fn is_among(which: &Which, declaration: &Declaration) -> bool {
    let state = status(declaration).map(legate_wire::registry::AgentStatus::state);
    let is_shown = match (state, which.states.is_empty()) {
        (None, _) => true,
        (Some(AgentState::Retired), true) => !which.is_in_force(),
        (Some(_), true) => true,
        (Some(state), false) => which.states.contains(&state),
    };
    is_shown && which.filter.as_ref().is_none_or(|filter| filter.holds(&Seen::of(declaration)))
}
