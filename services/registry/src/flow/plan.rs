//! What an apply would change, told without changing anything.

use std::sync::Arc;

use legate_authority::Right;
use legate_rpc::Fault;
use legate_wire::registry::{Declaration, PlanDeclarationsResponse};

use super::stage;
use super::{By, Desk};
use crate::domain::operators;
use crate::store::refuse;

/// Holds the wanted objects against the registry as it is at one revision.
#[tracing::instrument(skip_all, fields(legate.objects = declarations.len()))]
pub(crate) async fn plan(
    desk: &Arc<Desk>,
    by: &By,
    declarations: Vec<Declaration>,
) -> Result<PlanDeclarationsResponse, Fault> {
    let list = stage::read(declarations)?;
    let now = desk.clock.now();
    let read = desk.look("plan", by, move |look| {
        Box::pin(async move {
            for one in &list {
                look.mandate.demand(Right::Read, operators::place(&one.key)).map_err(refuse)?;
            }
            let staged = stage::stage(look.tx, &list, now, &look.by.actor, "").await?;
            Ok((staged, look.revision))
        })
    });
    let (staged, revision) = read.await?;
    Ok(PlanDeclarationsResponse { changes: staged.iter().map(|one| one.told(None)).collect(), revision })
}
