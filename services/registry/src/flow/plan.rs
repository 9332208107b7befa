//! What an apply would change, told without changing anything.

use legate_db::TxResult;
use legate_rpc::Fault;
use legate_wire::registry::{Declaration, PlanDeclarationsResponse};

use super::stage::{self, Staged};
use super::{By, Desk};
use crate::error::of_tx;
use crate::store::head;

/// Holds the wanted objects against the registry as it is at one revision.
#[tracing::instrument(skip_all, fields(legate.objects = declarations.len()))]
pub(crate) async fn plan(
    desk: &Desk,
    by: &By,
    declarations: Vec<Declaration>,
) -> Result<PlanDeclarationsResponse, Fault> {
    let list = stage::read(declarations)?;
    let (now, actor) = (desk.clock.now(), by.actor.clone());
    let read: TxResult<(Vec<Staged>, u64), Fault> = desk
        .db
        .read("plan", move |tx| {
            Box::pin(async move {
                let staged = stage::stage(tx, &list, now, &actor, "").await?;
                Ok((staged, head::read(tx).await?))
            })
        })
        .await;
    let (staged, revision) = read.map_err(of_tx)?;
    Ok(PlanDeclarationsResponse { changes: staged.iter().map(|one| one.told(None)).collect(), revision })
}
