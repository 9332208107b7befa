//! An operator or a pipeline declares objects: all of them at one revision, or none.

use std::sync::Arc;

use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::{ApplyDeclarationsResponse, Declaration};

use super::stage;
use super::{Call, Desk};
use crate::error::BASE_MOVED;
use crate::store::refuse;

/// Writes what differs. Where nothing does, the revision stays.
#[tracing::instrument(skip_all, fields(legate.objects = declarations.len()))]
pub(crate) async fn apply(
    desk: &Arc<Desk>,
    call: Call,
    declarations: Vec<Declaration>,
    base_revision: u64,
) -> Result<ApplyDeclarationsResponse, Fault> {
    let list = Arc::new(stage::read(declarations)?);
    desk.write("apply", Standard::Ordinary, call, move |writing| {
        let list = Arc::clone(&list);
        Box::pin(async move {
            stage::demand(writing, &list).map_err(refuse)?;
            if base_revision != 0 && base_revision != writing.base() {
                let text = format!("planned at revision {base_revision}, and it is {} now", writing.base());
                return Err(refuse(Fault::refused(&BASE_MOVED, text).with("revision", writing.base().to_string())));
            }
            let by = writing.by;
            let staged = stage::stage(writing.tx, &list, writing.now, &by.actor, &by.reason).await?;
            stage::demand_more(writing, &staged).map_err(refuse)?;
            let changes = stage::put(writing, &staged).await?;
            Ok(ApplyDeclarationsResponse { changes, revision: writing.revision() })
        })
    })
    .await
}
