//! Somebody lists objects: those of a kind that fit a filter, a page at a time, as they are or as they were.

use std::collections::BTreeSet;
use std::sync::Arc;

use legate_authority::Reach;
use legate_clock::Timestamp;
use legate_db::TxResult;
use legate_filter::{Field, Filter, Scope};
use legate_ids::Name;
use legate_rpc::Fault;
use legate_wire::registry::{AgentState, AsOf, Declaration, Kind};
use prost::Message as _;

use super::class_in_force;
use super::desk::Look;
use super::past;
use super::stop_orders;
use super::{By, Desk};
use crate::domain::subject::Seen;
use crate::error::FILTER_INVALID;
use crate::store::search::{COUNTED, OrderedBy, Place, Search, Which};

const USUAL: u32 = 100;
const LARGEST: u32 = 1_000;
/// Bytes of one page, as soon as it has one object: an answer has a bound.
const PAGE_BYTES: usize = 16 << 20;
/// Objects that are looked at for one page where only they can tell whether they fit.
const LOOKED_AT: usize = 10_000;
/// So many of them are read at once.
const AT_ONCE: u64 = 1_000;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    pub(crate) by: By,
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) states: Vec<AgentState>,
    pub(crate) filter: Wanted,
    pub(crate) order_by: String,
    pub(crate) as_of: Option<AsOf>,
    pub(crate) page_size: u32,
    pub(crate) page_token: String,
}

/// Which of them are meant.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// A filter as it was written; empty: all.
    Written(String),
    /// A filter that was understood.
    Understood(Filter),
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Written(String::new())
    }
}

impl<T: Into<String>> From<T> for Wanted {
    fn from(text: T) -> Self {
        Self::Written(text.into())
    }
}

impl Wanted {
    /// As it is written, so that a page's token is good for this question alone.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Written(text) => text.clone(),
            Self::Understood(filter) => filter.to_string(),
        }
    }

    fn read(&self, scope: Scope) -> Result<Option<Filter>, Fault> {
        match self {
            Self::Written(text) if text.is_empty() => Ok(None),
            Self::Written(text) => Filter::parse(text, scope).map(Some).map_err(|e| {
                let text = format!("the filter cannot be used: {e}");
                Fault::refused(&FILTER_INVALID, text).field("filter", e.to_string())
            }),
            Self::Understood(filter) => Ok(Some(filter.clone())),
        }
    }
}

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Declaration>,
    pub(crate) next_page_token: String,
    pub(crate) revision: u64,
    /// When that was made, where the objects are as they were.
    pub(crate) made: Option<Timestamp>,
    pub(crate) total: Total,
}

/// How many there are in all, and whether it is known or only that there are at least so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) count: u64,
    pub(crate) is_exact: bool,
}

impl Total {
    pub(super) fn of(count: u64) -> Self {
        Self { count: count.min(COUNTED), is_exact: count <= COUNTED }
    }
}

/// What was read of a page, before its token is made.
pub(super) struct Read {
    pub(super) objects: Vec<Declaration>,
    /// Where the list goes on; `None`: this was the last.
    pub(super) next: Option<Place>,
    pub(super) total: Total,
    pub(super) revision: u64,
    /// When that was made, where the past is read.
    pub(super) made: Option<Timestamp>,
}

/// Which part of a list is read.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) after: Option<Place>,
    /// As it was counted for the first page.
    pub(super) total: Option<Total>,
    pub(super) size: usize,
}

/// One page, in the order that was asked for.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(desk: &Arc<Desk>, ask: List) -> Result<Page, Fault> {
    let mut which = which(&ask)?;
    let size = page_size(ask.page_size)?;
    let states: Vec<&str> = ask.states.iter().map(AgentState::as_str_name).collect();
    let as_of = ask.as_of.map(|as_of| hex(&as_of.encode_to_vec())).unwrap_or_default();
    let filter = ask.filter.text();
    let question = [
        "objects",
        ask.by.actor.as_str(),
        ask.kind.as_str_name(),
        ask.namespace.as_str(),
        &states.join(","),
        filter.as_str(),
        ask.order_by.as_str(),
        as_of.as_str(),
    ];
    let from = desk.pages.read(&question, &ask.page_token)?.map(|text| parse(&text)).transpose()?;
    let (after, total) = from.map_or((None, None), |(place, total)| (Some(place), Some(total)));
    let part = Part { after, total, size };
    let as_of = ask.as_of;
    let read = desk.look("list_objects", &ask.by, move |look| {
        Box::pin(async move {
            (which.sees, which.numbered) = (look.mandate.sees(), look.numbered);
            match as_of {
                Some(as_of) => past::page(&look, &which, part, past::revision(&look, as_of).await?).await,
                None => present(&look, &which, part).await,
            }
        })
    });
    let Read { objects, next, total, revision, made } = read.await?;
    let next_page_token = next.map(|place| desk.pages.after(&question, &told(&place, total))).unwrap_or_default();
    Ok(Page { objects, next_page_token, revision, made, total })
}

/// How many objects a page is to have.
pub(super) fn page_size(asked: u32) -> Result<usize, Fault> {
    match asked {
        0 => Ok(USUAL as usize),
        size @ 1..=LARGEST => Ok(size as usize),
        _ => Err(Fault::invalid("page_size", "1 to 1,000; 0 means 100")),
    }
}

fn which(ask: &List) -> Result<Which, Fault> {
    if ask.kind == Kind::Unspecified {
        return Err(Fault::invalid("kind", "is required"));
    }
    if !ask.namespace.is_empty() {
        Name::parse(&ask.namespace).map_err(|e| Fault::invalid("namespace", e.to_string()))?;
    }
    let scope = if ask.kind == Kind::Agent { Scope::Agents } else { Scope::Objects };
    let filter = ask.filter.read(scope)?;
    let mut words = ask.order_by.split(' ');
    let by = match words.next() {
        Some("" | "name") => OrderedBy::Name,
        Some("create_time") => OrderedBy::Created,
        Some("update_time") => OrderedBy::Updated,
        _ => return Err(Fault::invalid("order_by", ORDERS)),
    };
    let descending = match (words.next(), words.next()) {
        (None | Some("asc"), None) => false,
        (Some("desc"), None) => true,
        _ => return Err(Fault::invalid("order_by", ORDERS)),
    };
    if ask.as_of.is_some() && (by != OrderedBy::Name || descending) {
        return Err(Fault::invalid("order_by", "what was is listed by name only"));
    }
    if ask.as_of.is_some() && filter.as_ref().is_some_and(|filter| filter.asks_about(&Field::LifecycleDueTime)) {
        return Err(Fault::invalid("filter", "lifecycle_due_time is known of agents as they are only"));
    }
    let states = ask.states.clone();
    let (kind, namespace) = (ask.kind, ask.namespace.clone());
    // What the caller may see, and how much there is, is known once it is looked.
    let sees = Reach::In(BTreeSet::new());
    Ok(Which { kind, namespace, sees, states, filter, by, descending, numbered: 0 })
}

const ORDERS: &str = "name, create_time or update_time, with \" desc\" after it for the reverse";

/// A page of the objects as they are.
async fn present(look: &Look<'_>, which: &Which, part: Part) -> TxResult<Read, Fault> {
    let search = Search::plan(look.tx, which).await?;
    let mut total = part.total;
    if total.is_none() {
        total = search.count(look.tx).await?.map(Total::of);
    }
    let mut page = Filling::of(part.size);
    let mut after = part.after;
    // Where nobody has counted, the first page looks on, though it is full.
    while !page.is_end && page.looked_at < LOOKED_AT && !(page.is_full && total.is_some()) {
        let limit = if search.is_whole() { part.size as u64 + 1 } else { AT_ONCE };
        let rows = search.page(look.tx, after.as_ref(), limit).await?;
        page.is_end = (rows.len() as u64) < limit;
        for row in rows {
            let place = which.place(&row);
            let declaration = row.shown()?;
            let fits = which.filter.as_ref().is_none_or(|filter| filter.holds(&Seen::of(&declaration)));
            page.take(place.clone(), fits.then_some(declaration), row.body.len());
            after = Some(place);
        }
    }
    let mut read = page.read(total, look.revision);
    let mut agents = class_in_force::agents(&mut read.objects);
    if !agents.is_empty() {
        Box::pin(stop_orders::tell(look.tx, &look.mandate, &mut agents)).await?;
        Box::pin(class_in_force::tell(look.tx, &mut agents, None)).await?;
    }
    Ok(read)
}

/// A page as it fills.
pub(super) struct Filling {
    objects: Vec<Declaration>,
    size: usize,
    bytes: usize,
    /// How far the page reaches: everything up to here is on it, or does not fit.
    reaches: Option<Place>,
    /// Objects that fit, on the page and beyond.
    fit: u64,
    pub(super) looked_at: usize,
    /// Whether an object that fits found no room.
    pub(super) is_full: bool,
    /// Whether nothing comes after what was looked at.
    pub(super) is_end: bool,
}

impl Filling {
    pub(super) fn of(size: usize) -> Self {
        let objects = Vec::new();
        Self { objects, size, bytes: 0, reaches: None, fit: 0, looked_at: 0, is_full: false, is_end: false }
    }

    /// The next object, where it fits.
    pub(super) fn take(&mut self, place: Place, fitting: Option<Declaration>, bytes: usize) {
        self.looked_at += 1;
        self.fit += u64::from(fitting.is_some());
        self.bytes += if fitting.is_some() { bytes } else { 0 };
        let is_room = self.objects.len() < self.size && (self.objects.is_empty() || self.bytes <= PAGE_BYTES);
        self.is_full |= fitting.is_some() && !is_room;
        if !self.is_full {
            self.objects.extend(fitting);
            self.reaches = Some(place);
        }
    }

    /// The page as it is; counted here where nobody else has.
    pub(super) fn read(self, total: Option<Total>, revision: u64) -> Read {
        let counted = Total { count: self.fit.min(COUNTED), is_exact: self.is_end && self.fit <= COUNTED };
        let next = if self.is_full || !self.is_end { self.reaches } else { None };
        Read { objects: self.objects, next, total: total.unwrap_or(counted), revision, made: None }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Names and ids have no spaces.
fn told(place: &Place, total: Total) -> String {
    let exact = if total.is_exact { "=" } else { ">" };
    match place {
        Place::Name { namespace, name, id } => format!("{exact} {} n {namespace} {name} {id}", total.count),
        Place::Time { at, id } => format!("{exact} {} t {at} {id}", total.count),
    }
}

fn parse(text: &str) -> Result<(Place, Total), Fault> {
    let broken = || Fault::broken("an authentic page token names no place");
    let parts: Vec<&str> = text.split(' ').collect();
    let (exact, count, place) = match &parts[..] {
        [exact, count, "n", namespace, name, id] => {
            let [namespace, name, id] = [namespace, name, id].map(|part| (*part).to_owned());
            (exact, count, Place::Name { namespace, name, id })
        }
        [exact, count, "t", at, id] => {
            (exact, count, Place::Time { at: at.parse().map_err(|_| broken())?, id: (*id).to_owned() })
        }
        _ => return Err(broken()),
    };
    Ok((place, Total { count: count.parse().map_err(|_| broken())?, is_exact: *exact == "=" }))
}
