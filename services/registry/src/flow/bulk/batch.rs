//! Items that are written in one transaction: each held against what is in force, and those that may be are written.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::sync::Arc;

use legate_clock::Timestamp;
use legate_db::TxResult;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentState, BulkAction, BulkApplyResponse, BulkItem, BulkMode, BulkOutcome, ChangeAction, Declaration, Kind,
    ObjectName, Origin, SanctionedStatus,
};
use prost::Message as _;

use super::{FEW, Start};
use crate::domain::check;
use crate::domain::kind::{self, Key};
use crate::domain::problem::Problem;
use crate::error::{BULK_OUT_OF_ORDER, KIND_NOT_APPLICABLE, OBJECT_REPEATED};
use crate::flow::base::Planned;
use crate::flow::removal::{self, Leaving};
use crate::flow::stage::{self, Known, Staged, Wanted};
use crate::flow::write::Writing;
use crate::flow::{Call, Desk};
use crate::store::{broken, refuse};

/// One item, read.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: String,
    pub(super) wanted: Result<Wanted, Problem>,
    /// Bytes, as it came.
    pub(super) size: usize,
    /// As it came, for the digest of the request; empty where that has no id.
    bytes: Vec<u8>,
}

impl Item {
    /// Reads an item; what is wrong with the object is its own trouble, and a key that cannot be repeated is everybody's.
    fn read(item: BulkItem, start: &Start) -> Result<Self, Fault> {
        stage::refusal(check::check_key(&item.key))?;
        let (origin, size) = (start.origin, item.encoded_len());
        let bytes = if start.call.is_protected() { item.encode_to_vec() } else { Vec::new() };
        let (wanted, problems) = stage::read_one(item.declaration.unwrap_or_default());
        let wanted = match (problems.into_iter().next(), wanted) {
            (None, Some(wanted)) if origin.is_some() => only_an_agent(wanted),
            (None, Some(wanted)) => Ok(wanted),
            (Some(problem), _) => Err(problem),
            (None, None) => Err(Problem::invalid("object", "holds no object; give one of the kinds")),
        };
        Ok(Self { key: item.key, wanted, size, bytes })
    }
}

/// Only agents are found elsewhere, and nobody answers for them yet.
fn only_an_agent(wanted: Wanted) -> Result<Wanted, Problem> {
    if wanted.key.kind == Kind::Agent {
        return Ok(Wanted { unanswered: Vec::new(), ..wanted });
    }
    let why = format!("is a {}; only agents are found elsewhere", kind::kind_name(wanted.key.kind));
    Err(Problem::of(&KIND_NOT_APPLICABLE, "object", why))
}

/// What is written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    /// What is no longer wanted, after all of those.
    gone: Vec<Gone>,
    size: usize,
}

/// An object that is no longer wanted.
#[derive(Debug)]
struct Gone {
    key: String,
    name: ObjectName,
}

impl Batch {
    /// Reads the items of one message of what is written together.
    pub(super) fn read(items: Vec<BulkItem>, start: &Start) -> Result<Self, Fault> {
        let mut batch = Self::default();
        for item in items {
            batch.size += item.encoded_len();
            match item {
                BulkItem { removal: Some(_), .. } if start.origin.is_some() => return Err(removes_nothing()),
                BulkItem { removal: Some(_), declaration: Some(_), .. } => {
                    return Err(Fault::invalid("items.removal", "stands instead of a declaration, not beside one"));
                }
                BulkItem { key, removal: Some(name), declaration: None } => {
                    stage::refusal(check::check_key(&key))?;
                    batch.gone.push(Gone { key, name });
                }
                item => {
                    in_order(&batch.gone)?;
                    batch.items.push(Item::read(item, start)?);
                }
            }
        }
        Ok(batch)
    }

    /// Takes the items of the next message in.
    pub(super) fn add(&mut self, more: Self) -> Result<(), Fault> {
        if !more.items.is_empty() {
            in_order(&self.gone)?;
        }
        self.items.extend(more.items);
        self.gone.extend(more.gone);
        self.size += more.size;
        Ok(())
    }

    /// Leaves those out that are written in no way; they were so many bytes.
    pub(super) fn keep(&mut self, items: Vec<Item>, dropped: usize) {
        self.items = items;
        self.size = self.size.saturating_sub(dropped);
    }

    pub(super) fn len(&self) -> usize {
        self.items.len() + self.gone.len()
    }

    /// How many go.
    pub(super) fn gone(&self) -> usize {
        self.gone.len()
    }

    /// Bytes, as they came.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// What goes: each once, and none of what is given.
    pub(super) fn going(&self) -> Result<Vec<Key>, Fault> {
        let names = self.gone.iter().map(|gone| gone.name.clone()).collect();
        let place = |item: &Item| Some((item.wanted.as_ref().ok()?.key.clone(), format!("items[{}]", item.key)));
        removal::read(names, self.items.iter().filter_map(place).collect())
    }

    /// The declarer's words for everything, in its order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.items.iter().map(|item| &item.key).chain(self.gone.iter().map(|gone| &gone.key))
    }

    /// All of it, as it came.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut put = |bytes: &[u8]| {
            all.extend((bytes.len() as u64).to_be_bytes());
            all.extend(bytes);
        };
        self.items.iter().for_each(|item| put(&item.bytes));
        for Gone { key, name } in &self.gone {
            put(key.as_bytes());
            put(&name.encode_to_vec());
        }
        all
    }
}

/// A name is free again once what held it is gone: so what is given comes before what goes.
fn in_order(gone: &[Gone]) -> Result<(), Fault> {
    if gone.is_empty() {
        return Ok(());
    }
    Err(Fault::refused(&BULK_OUT_OF_ORDER, "a declaration came after a removal"))
}

fn removes_nothing() -> Fault {
    Fault::invalid("items.removal", "goes with BULK_MODE_ALL_OR_NOTHING, and with what is declared")
}

/// The next items, `most` at most and no object twice: a later item of the same object finds what the earlier one made.
pub(super) fn cut(
    rest: &mut Peekable<std::vec::IntoIter<BulkItem>>,
    most: usize,
    start: &Start,
) -> Result<Batch, Fault> {
    let mut seen = BTreeSet::new();
    let mut items = Vec::new();
    while items.len() < most
        && let Some(item) =
            rest.next_if(|item| item.declaration.as_ref().and_then(kind::key_of).is_none_or(|key| seen.insert(key)))
    {
        if item.removal.is_some() {
            return Err(removes_nothing());
        }
        items.push(Item::read(item, start)?);
    }
    Ok(Batch { items, ..Batch::default() })
}

/// Writes a batch; what became of each item, in their order.
#[tracing::instrument(skip_all, fields(legate.objects = batch.items.len()))]
pub(super) async fn write(
    desk: &Arc<Desk>,
    call: Call,
    batch: Arc<Batch>,
    start: &Start,
) -> Result<BulkApplyResponse, Fault> {
    let going = batch.going()?;
    removal::check_reason(&going, &call.by.reason)?;
    let (terms, going) = (Terms { mode: start.mode, origin: start.origin, base: start.base_revision }, Arc::new(going));
    let standard = match start.mode {
        // What only takes away may use the outbox's reserve, and what is no more than a change by hand need not wait as very many do.
        BulkMode::AllOrNothing if batch.items.is_empty() => Standard::Stopping,
        BulkMode::AllOrNothing if batch.len() <= FEW => Standard::Ordinary,
        _ => Standard::Patient,
    };
    desk.write("bulk_apply", standard, call, move |writing| {
        let (batch, going) = (Arc::clone(&batch), Arc::clone(&going));
        Box::pin(async move { write_in(writing, &batch, &going, terms).await })
    })
    .await
}

/// On which terms a batch is written.
#[derive(Clone, Copy)]
struct Terms {
    mode: BulkMode,
    origin: Option<Origin>,
    base: u64,
}

async fn write_in(
    writing: &mut Writing<'_>,
    batch: &Batch,
    going: &[Key],
    Terms { mode, origin, base }: Terms,
) -> TxResult<BulkApplyResponse, Fault> {
    let items = &batch.items;
    removal::demand(writing, going).map_err(refuse)?;
    // Before anything of the registry shows.
    let (good, mut refused) = sort(items, |wanted| stage::demand(writing, std::slice::from_ref(wanted)))?;
    let wanted: Vec<&Wanted> = good.iter().map(|(_, wanted)| *wanted).collect();
    let known = Known::of(writing.tx, &wanted).await?;
    Planned { at: base, newest: writing.base() }.check(writing.tx, &wanted, going, &known).await?;
    // What is there is left alone by what was found.
    let (there, mut rest): (Vec<_>, Vec<_>) =
        good.into_iter().partition(|(_, wanted)| origin.is_some() && known.get(&wanted.key).is_some());
    if mode == BulkMode::AllOrNothing {
        refused.extend(repeated(&rest));
    }
    let (now, by) = (writing.now, (writing.by.actor.as_str(), writing.by.reason.as_str()));
    let more = |one: &Staged| stage::demand_more(writing, std::slice::from_ref(one));
    let mut staged = hold_each(&mut rest, &mut refused, &known, now, by, more)?;
    if mode == BulkMode::AllOrNothing {
        nothing_wrong(&refused, items)?;
    }
    if let Some(origin) = origin {
        staged.iter_mut().for_each(|one| wait(one, origin));
    }
    let leaving = removal::stage(writing.tx, going, &staged).await?;
    removal::demand_more(writing, &leaving).map_err(refuse)?;
    let told = stage::put(writing, &staged).await?;
    // After what was written, which may no longer name what goes.
    Box::pin(removal::take(writing, &leaving)).await?;
    let revision = writing.revision();

    let mut outcomes: Vec<(usize, BulkOutcome)> = Vec::with_capacity(items.len());
    for ((i, wanted), told) in rest.into_iter().zip(told) {
        let (action, revision) = match told.action() {
            ChangeAction::Created => (BulkAction::Created, revision),
            ChangeAction::Updated => (BulkAction::Updated, revision),
            _ => (BulkAction::Unchanged, written_at(known.get(&wanted.key))),
        };
        outcomes.push((i, BulkOutcome { action: action.into(), id: told.id, revision, ..BulkOutcome::default() }));
    }
    for (i, wanted) in there {
        let declaration = known.get(&wanted.key);
        let id = declaration.and_then(Declaration::metadata).map(|m| m.id.clone()).unwrap_or_default();
        let (action, revision) = (BulkAction::Unchanged.into(), written_at(declaration));
        outcomes.push((i, BulkOutcome { action, id, revision, ..BulkOutcome::default() }));
    }
    let left = leaving.iter().map(|one| {
        let outcome = gone(one);
        let revision = if outcome.action() == BulkAction::Removed { revision } else { outcome.revision };
        BulkOutcome { revision, ..outcome }
    });
    answer(batch, outcomes, refused, left.collect(), revision)
}

/// An item by its place.
pub(super) type Place<'b> = (usize, &'b Wanted);

/// What is wrong with an item, by its place.
type Refused = (usize, Problem);

/// Items that are what they have to be and that the caller may have looked at, and what is wrong with the others.
pub(super) fn sort(
    items: &[Item],
    mut may: impl FnMut(&Wanted) -> Result<(), Fault>,
) -> TxResult<(Vec<Place<'_>>, Vec<Refused>), Fault> {
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    for (i, item) in items.iter().enumerate() {
        match &item.wanted {
            Ok(wanted) => match may(wanted) {
                Ok(()) => good.push((i, wanted)),
                Err(fault) => refused.push((i, problem_of(fault)?)),
            },
            Err(problem) => refused.push((i, problem.clone())),
        }
    }
    Ok((good, refused))
}

/// Holds items against what is known; those that may not be go from the list to the refused ones. `more` refuses what the caller may not do.
pub(super) fn hold_each(
    rest: &mut Vec<Place<'_>>,
    refused: &mut Vec<Refused>,
    known: &Known,
    now: Timestamp,
    by: (&str, &str),
    mut more: impl FnMut(&Staged) -> Result<(), Fault>,
) -> TxResult<Vec<Staged>, Fault> {
    loop {
        let list: Vec<&Wanted> = rest.iter().map(|(_, wanted)| *wanted).collect();
        let (staged, mut problems) = stage::hold(&list, known, now, by);
        for (at, one) in staged.iter().enumerate() {
            if let Err(fault) = more(one) {
                problems.push((at, problem_of(fault)?));
            }
        }
        if problems.is_empty() {
            return Ok(staged);
        }
        // What needs one that is refused is refused too, which the next round finds.
        let mut gone = BTreeSet::new();
        for (at, problem) in problems {
            if gone.insert(at) {
                refused.push((rest[at].0, problem));
            }
        }
        let mut at = 0..;
        rest.retain(|_| at.next().is_none_or(|at| !gone.contains(&at)));
    }
}

/// The answer to a batch: what became of each item, in their order, and then of what goes.
pub(super) fn answer(
    batch: &Batch,
    mut outcomes: Vec<(usize, BulkOutcome)>,
    refused: Vec<Refused>,
    left: Vec<BulkOutcome>,
    revision: u64,
) -> TxResult<BulkApplyResponse, Fault> {
    let refusal = |problem: Problem| BulkOutcome {
        action: BulkAction::Refused.into(),
        reason_code: problem.reason.name.to_owned(),
        refusal: stage::cut(format!("{}: {}", problem.path, problem.why)),
        ..BulkOutcome::default()
    };
    outcomes.extend(refused.into_iter().map(|(i, problem)| (i, refusal(problem))));
    outcomes.sort_by_key(|(i, _)| *i);
    if outcomes.len() != batch.items.len() {
        return Err(broken("an item of a batch has no outcome, or two"));
    }
    let outcomes = outcomes.into_iter().map(|(_, outcome)| outcome).chain(left).zip(batch.keys());
    let outcomes = outcomes.map(|(outcome, key)| BulkOutcome { key: key.clone(), ..outcome }).collect();
    Ok(BulkApplyResponse { outcomes, revision })
}

/// What becomes of what is no longer wanted; `revision` as it is now.
pub(super) fn gone(leaving: &Leaving) -> BulkOutcome {
    let told = leaving.told();
    let action = if told.action() == ChangeAction::Removed { BulkAction::Removed } else { BulkAction::Unchanged };
    BulkOutcome { action: action.into(), id: told.id, revision: leaving.revision(), ..BulkOutcome::default() }
}

/// What the caller may not do is the item's own trouble; anything else is everybody's.
fn problem_of(fault: Fault) -> TxResult<Problem, Fault> {
    match fault {
        Fault::Refused(refusal) => Ok(Problem::of(refusal.reason, "object", refusal.message)),
        other => Err(refuse(other)),
    }
}

pub(super) fn written_at(declaration: Option<&Declaration>) -> u64 {
    declaration.and_then(Declaration::metadata).map_or(0, |m| m.revision)
}

/// Items of one object, behind the first of them.
pub(super) fn repeated(list: &[(usize, &Wanted)]) -> Vec<(usize, Problem)> {
    let mut seen: BTreeSet<&Key> = BTreeSet::new();
    let again = list.iter().filter(|(_, wanted)| !seen.insert(&wanted.key));
    again
        .map(|(i, Wanted { key, .. })| {
            let why = format!("is {} {key} again", kind::kind_name(key.kind));
            (*i, Problem::of(&OBJECT_REPEATED, "object", why))
        })
        .collect()
}

/// All or nothing: one refusal for everything that is wrong.
pub(super) fn nothing_wrong(refused: &[(usize, Problem)], items: &[Item]) -> TxResult<(), Fault> {
    let mut refused: Vec<&(usize, Problem)> = refused.iter().collect();
    refused.sort_by_key(|(i, _)| *i);
    let problems = refused.into_iter().map(|(i, problem)| {
        let key = items.get(*i).map(|item| item.key.as_str()).filter(|key| !key.is_empty());
        let key = key.map_or_else(|| i.to_string(), str::to_owned);
        Problem { path: format!("items[{key}].{}", problem.path), ..problem.clone() }
    });
    stage::refusal(problems.collect()).map_err(refuse)
}

/// An agent that was found waits until somebody answers for it, whatever its class says.
fn wait(one: &mut Staged, origin: Origin) {
    if let Some(Object::Agent(agent)) = &mut one.wanted.object {
        let status = agent.status.get_or_insert_default();
        status.set_state(AgentState::PendingApproval);
        status.set_origin(origin);
        status.set_sanctioned_status(SanctionedStatus::Unsanctioned);
    }
}
