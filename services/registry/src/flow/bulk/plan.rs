//! What a stream would do, told without doing it: what is already so is held against what is there as it comes, and only the rest is kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use legate_authority::Right;
use legate_rpc::Fault;
use legate_wire::registry::{BulkAction, BulkApplyResponse, BulkOutcome, ChangeAction, Declaration};

use super::Start;
use super::batch::{self, Batch, Item};
use crate::domain::kind::Key;
use crate::domain::operators;
use crate::domain::problem::Problem;
use crate::flow::base::Planned;
use crate::flow::removal;
use crate::flow::stage::{self, Known, Staged, Wanted};
use crate::flow::{Desk, plan};
use crate::store::refuse;

/// Answers those items that are already so, and leaves the others in the batch; also those that were written since the base, which is
/// refused at the end.
#[tracing::instrument(skip_all, fields(legate.objects = batch.items.len()))]
pub(super) async fn take_out(desk: &Arc<Desk>, start: &Start, batch: &mut Batch) -> Result<BulkApplyResponse, Fault> {
    let items = std::mem::take(&mut batch.items);
    let base = if start.base_revision == 0 { u64::MAX } else { start.base_revision };
    let read = desk.look("compare_bulk", &start.call.by, move |look| {
        Box::pin(async move {
            let wanted = || items.iter().filter_map(|item| item.wanted.as_ref().ok());
            wanted().try_for_each(|one| plan::demand(&look, one)).map_err(refuse)?;
            let keys: BTreeSet<_> = wanted().map(|one| one.key.clone()).collect();
            let there = stage::in_force(look.tx, keys).await?;
            let (mut outcomes, mut rest, mut dropped) = (Vec::new(), Vec::new(), 0);
            for item in items {
                let stood = |wanted: &Wanted| there.get(&wanted.key).filter(|one| batch::written_at(Some(one)) <= base);
                let Some(current) = so(&item, stood) else {
                    rest.push(item);
                    continue;
                };
                dropped += item.size;
                outcomes.push(BulkOutcome { key: item.key, ..unchanged(current) });
            }
            Ok((outcomes, rest, dropped, look.revision))
        })
    });
    let (outcomes, rest, dropped, revision) = read.await?;
    batch.keep(rest, dropped);
    Ok(BulkApplyResponse { outcomes, revision })
}

/// What is there of an item, where that is as it is wanted.
fn so<'t>(item: &Item, there: impl Fn(&Wanted) -> Option<&'t Declaration>) -> Option<&'t Declaration> {
    let wanted = item.wanted.as_ref().ok()?;
    there(wanted).filter(|current| wanted.is_so(current))
}

pub(super) fn unchanged(current: &Declaration) -> BulkOutcome {
    let id = current.metadata().map(|metadata| metadata.id.clone()).unwrap_or_default();
    let (action, revision) = (BulkAction::Unchanged.into(), batch::written_at(Some(current)));
    BulkOutcome { action, id, revision, ..BulkOutcome::default() }
}

/// What would become of everything that differs, all of it or nothing.
#[tracing::instrument(skip_all, fields(legate.objects = batch.len()))]
pub(super) async fn plan(desk: &Arc<Desk>, start: &Start, batch: Batch) -> Result<BulkApplyResponse, Fault> {
    let going = batch.going()?;
    let (now, base) = (desk.clock.now(), start.base_revision);
    let read = desk.look("plan_bulk", &start.call.by, move |look| {
        Box::pin(async move {
            let mut good: Vec<(usize, &Wanted)> = Vec::new();
            let mut refused: Vec<(usize, Problem)> = Vec::new();
            for (i, item) in batch.items.iter().enumerate() {
                match &item.wanted {
                    Ok(wanted) => good.push((i, wanted)),
                    Err(problem) => refused.push((i, problem.clone())),
                }
            }
            good.iter().try_for_each(|(_, one)| plan::demand(&look, one)).map_err(refuse)?;
            let may = |key: &Key| look.mandate.demand(Right::Read, operators::place(key));
            going.iter().try_for_each(may).map_err(refuse)?;
            refused.extend(batch::repeated(&good));
            let list: Vec<&Wanted> = good.iter().map(|(_, wanted)| *wanted).collect();
            let known = Known::of(look.tx, &list).await?;
            Planned { at: base, newest: look.revision }.check(look.tx, &list, &going, &known).await?;
            let (staged, problems) = stage::hold(&list, &known, now, (look.by.actor.as_str(), ""));
            refused.extend(problems.into_iter().map(|(at, problem)| (good[at].0, problem)));
            batch::nothing_wrong(&refused, &batch.items)?;
            let leaving = removal::stage(look.tx, &going, &staged).await?;
            let outcomes = staged.iter().map(planned).chain(leaving.iter().map(batch::gone)).zip(batch.keys());
            let outcomes = outcomes.map(|(outcome, key)| BulkOutcome { key: key.clone(), ..outcome }).collect();
            Ok(BulkApplyResponse { outcomes, revision: look.revision })
        })
    });
    read.await
}

/// What would become of an object that is given; `revision` as it is now.
pub(super) fn planned(one: &Staged) -> BulkOutcome {
    let told = one.told(None);
    let action = match told.action() {
        ChangeAction::Created => BulkAction::Created,
        ChangeAction::Updated => BulkAction::Updated,
        _ => BulkAction::Unchanged,
    };
    BulkOutcome {
        action: action.into(),
        id: told.id,
        revision: batch::written_at(one.current.as_ref()),
        fields: told.fields,
        ..BulkOutcome::default()
    }
}
