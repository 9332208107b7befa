//! Items that are written in one transaction: each held against what is in force, and those that may be are written.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::sync::Arc;

use legate_db::TxResult;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentState, BulkAction, BulkApplyResponse, BulkItem, BulkMode, BulkOutcome, ChangeAction, Declaration, Kind,
    Origin, SanctionedStatus,
};
use prost::Message as _;

use super::Start;
use crate::domain::check;
use crate::domain::kind::{self, Key};
use crate::domain::problem::Problem;
use crate::error::{AGENT_OWNER_MISSING, AGENT_SPONSOR_MISSING, KIND_NOT_APPLICABLE, OBJECT_REPEATED};
use crate::flow::stage::{self, Known, Staged, Wanted};
use crate::flow::write::Writing;
use crate::flow::{Call, Desk};
use crate::store::{broken, refuse};

/// One item, read.
#[derive(Debug)]
pub(super) struct Item {
    key: String,
    wanted: Result<Wanted, Problem>,
    /// As it came, for the digest of the request; empty where that has no id.
    bytes: Vec<u8>,
}

impl Item {
    /// Reads an item; what is wrong with the object is its own trouble, and a key that cannot be repeated is everybody's.
    pub(super) fn read(item: BulkItem, start: &Start) -> Result<Self, Fault> {
        stage::refusal(check::check_key(&item.key))?;
        let origin = start.origin;
        let bytes = if start.call.is_protected() { item.encode_to_vec() } else { Vec::new() };
        let (wanted, problems) = stage::read_one(item.declaration.unwrap_or_default());
        // Nobody answers yet for what was found.
        let spared = |p: &Problem| {
            origin.is_some() && [AGENT_OWNER_MISSING.name, AGENT_SPONSOR_MISSING.name].contains(&p.reason.name)
        };
        let wanted = match (problems.into_iter().find(|p| !spared(p)), wanted) {
            (None, Some(wanted)) if origin.is_some() => only_an_agent(wanted),
            (None, Some(wanted)) => Ok(wanted),
            (Some(problem), _) => Err(problem),
            (None, None) => Err(Problem::invalid("object", "holds no object; give one of the kinds")),
        };
        Ok(Self { key: item.key, wanted, bytes })
    }
}

/// Only agents are found elsewhere.
fn only_an_agent(wanted: Wanted) -> Result<Wanted, Problem> {
    if wanted.key.kind == Kind::Agent {
        return Ok(wanted);
    }
    let why = format!("is a {}; only agents are found elsewhere", kind::kind_name(wanted.key.kind));
    Err(Problem::of(&KIND_NOT_APPLICABLE, "object", why))
}

/// What is written together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
}

impl Batch {
    /// All of it, as it came.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for item in &self.items {
            all.extend((item.bytes.len() as u64).to_be_bytes());
            all.extend(&item.bytes);
        }
        all
    }
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
        items.push(Item::read(item, start)?);
    }
    Ok(Batch { items })
}

/// Writes a batch; what became of each item, in their order.
#[tracing::instrument(skip_all, fields(legate.objects = batch.items.len()))]
pub(super) async fn write(
    desk: &Arc<Desk>,
    call: Call,
    batch: Arc<Batch>,
    start: &Start,
) -> Result<BulkApplyResponse, Fault> {
    let (mode, origin) = (start.mode, start.origin);
    desk.write("bulk_apply", Standard::Patient, call, move |writing| {
        let batch = Arc::clone(&batch);
        Box::pin(async move { write_in(writing, &batch.items, mode, origin).await })
    })
    .await
}

async fn write_in(
    writing: &mut Writing<'_>,
    items: &[Item],
    mode: BulkMode,
    origin: Option<Origin>,
) -> TxResult<BulkApplyResponse, Fault> {
    let mut good: Vec<(usize, &Wanted)> = Vec::new();
    let mut refused: Vec<(usize, Problem)> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        match &item.wanted {
            // Before anything of the registry shows.
            Ok(wanted) => match stage::demand(writing, std::slice::from_ref(wanted)) {
                Ok(()) => good.push((i, wanted)),
                Err(fault) => refused.push((i, problem_of(fault)?)),
            },
            Err(problem) => refused.push((i, problem.clone())),
        }
    }
    let known = Known::of(writing.tx, &good.iter().map(|(_, wanted)| *wanted).collect::<Vec<_>>()).await?;
    // What is there is left alone by what was found.
    let (there, mut rest): (Vec<_>, Vec<_>) =
        good.into_iter().partition(|(_, wanted)| origin.is_some() && known.get(&wanted.key).is_some());
    if mode == BulkMode::AllOrNothing {
        refused.extend(repeated(&rest));
    }
    let by = (writing.by.actor.as_str(), writing.by.reason.as_str());
    let mut staged = loop {
        let list: Vec<&Wanted> = rest.iter().map(|(_, wanted)| *wanted).collect();
        let (staged, mut problems) = stage::hold(&list, &known, writing.now, by);
        for (at, one) in staged.iter().enumerate() {
            if let Err(fault) = stage::demand_more(writing, std::slice::from_ref(one)) {
                problems.push((at, problem_of(fault)?));
            }
        }
        if problems.is_empty() {
            break staged;
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
    };
    if mode == BulkMode::AllOrNothing {
        nothing_wrong(&refused, items)?;
    }
    if let Some(origin) = origin {
        staged.iter_mut().for_each(|one| wait(one, origin));
    }
    let told = stage::put(writing, &staged).await?;
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
    for (i, problem) in refused {
        outcomes.push((
            i,
            BulkOutcome {
                action: BulkAction::Refused.into(),
                reason_code: problem.reason.name.to_owned(),
                refusal: stage::cut(format!("{}: {}", problem.path, problem.why)),
                ..BulkOutcome::default()
            },
        ));
    }
    outcomes.sort_by_key(|(i, _)| *i);
    if outcomes.len() != items.len() {
        return Err(broken("an item of a batch has no outcome, or two"));
    }
    let outcomes = outcomes.into_iter().zip(items);
    let outcomes = outcomes.map(|((_, outcome), item)| BulkOutcome { key: item.key.clone(), ..outcome }).collect();
    Ok(BulkApplyResponse { outcomes, revision })
}

/// What the caller may not do is the item's own trouble; anything else is everybody's.
fn problem_of(fault: Fault) -> TxResult<Problem, Fault> {
    match fault {
        Fault::Refused(refusal) => Ok(Problem::of(refusal.reason, "object", refusal.message)),
        other => Err(refuse(other)),
    }
}

fn written_at(declaration: Option<&Declaration>) -> u64 {
    declaration.and_then(Declaration::metadata).map_or(0, |m| m.revision)
}

/// Items of one object, behind the first of them.
fn repeated(list: &[(usize, &Wanted)]) -> Vec<(usize, Problem)> {
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
fn nothing_wrong(refused: &[(usize, Problem)], items: &[Item]) -> TxResult<(), Fault> {
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
