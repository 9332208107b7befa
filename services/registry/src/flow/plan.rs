//! What an apply would change, told without changing anything.

use std::sync::Arc;

use legate_authority::Right;
use legate_rpc::Fault;
use legate_wire::registry::{Declaration, DeclarationChange, ObjectName, PlanDeclarationsResponse};

use super::desk::Look;
use super::removal::{self, Leaving};
use super::stage::{self, Wanted};
use super::{By, Desk};
use crate::domain::{kind, operators};
use crate::store::refuse;

/// Holds the wanted objects against the registry as it is at one revision.
#[tracing::instrument(skip_all, fields(legate.objects = declarations.len()))]
pub(crate) async fn plan(
    desk: &Arc<Desk>,
    by: &By,
    declarations: Vec<Declaration>,
    removals: Vec<ObjectName>,
) -> Result<PlanDeclarationsResponse, Fault> {
    stage::check_size(declarations.len(), removals.len())?;
    let list = stage::read(declarations)?;
    let going = removal::read(removals, removal::given(&list))?;
    let now = desk.clock.now();
    let read = desk.look("plan", by, move |look| {
        Box::pin(async move {
            list.iter().try_for_each(|one| demand(&look, one)).map_err(refuse)?;
            going.iter().try_for_each(|key| look.mandate.demand(Right::Read, operators::place(key))).map_err(refuse)?;
            let staged = stage::stage(look.tx, &list, now, &look.by.actor, "").await?;
            let leaving = removal::stage(look.tx, &going, &staged).await?;
            let told = staged.iter().map(|one| one.told(None)).chain(leaving.iter().map(Leaving::told));
            Ok((told.collect::<Vec<DeclarationChange>>(), look.revision))
        })
    });
    let (changes, revision) = read.await?;
    Ok(PlanDeclarationsResponse { changes, revision })
}

/// Refuses to hold against the registry what the caller may not see there, and what names others which it may not see.
pub(super) fn demand(look: &Look<'_>, one: &Wanted) -> Result<(), Fault> {
    look.mandate.demand(Right::Read, operators::place(&one.key))?;
    let named = kind::elsewhere(&one.declaration);
    named.iter().try_for_each(|(_, to)| look.mandate.demand(Right::Read, operators::place(to)))
}
