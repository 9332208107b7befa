//! An operator or a pipeline declares objects: all of them at one revision, or none.

use std::sync::Arc;

use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::{ApplyDeclarationsResponse, Declaration, ObjectName};

use super::base::Planned;
use super::removal::{self, Leaving};
use super::stage::{self, Known, Wanted};
use super::{Call, Desk};
use crate::store::refuse;

/// Writes what differs, and takes away what is no longer wanted. Where nothing differs, the revision stays.
#[tracing::instrument(skip_all, fields(legate.objects = declarations.len()))]
pub(crate) async fn apply(
    desk: &Arc<Desk>,
    call: Call,
    declarations: Vec<Declaration>,
    removals: Vec<ObjectName>,
    base_revision: u64,
) -> Result<ApplyDeclarationsResponse, Fault> {
    stage::check_size(declarations.len(), removals.len())?;
    let list = stage::read(declarations)?;
    let going = removal::read(removals, removal::given(&list))?;
    removal::check_reason(&going, &call.by.reason)?;
    // What only takes away may use the outbox's reserve.
    let standard = if list.is_empty() { Standard::Stopping } else { Standard::Ordinary };
    let ask = Arc::new((list, going));
    desk.write("apply", standard, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (list, going) = &*ask;
            stage::demand(writing, list).map_err(refuse)?;
            removal::demand(writing, going).map_err(refuse)?;
            let by = (writing.by.actor.as_str(), writing.by.reason.as_str());
            let wanted: Vec<&Wanted> = list.iter().collect();
            let known = Known::of(writing.tx, &wanted).await?;
            let planned = Planned { at: base_revision, newest: writing.base() };
            planned.check(writing.tx, &wanted, going, &known).await?;
            let staged = stage::staged(&wanted, &known, writing.now, by)?;
            stage::demand_more(writing, &staged).map_err(refuse)?;
            let leaving = removal::stage(writing.tx, going, &staged).await?;
            removal::demand_more(writing, &leaving).map_err(refuse)?;
            let mut changes = stage::put(writing, &staged).await?;
            // After what was written, which may no longer name what goes.
            Box::pin(removal::take(writing, &leaving)).await?;
            changes.extend(leaving.iter().map(Leaving::told));
            Ok(ApplyDeclarationsResponse { changes, revision: writing.revision() })
        })
    })
    .await
}
