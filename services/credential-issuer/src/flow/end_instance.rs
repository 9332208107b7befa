//! A node says that the process of an instance ended: what it held is revoked.

use legate_ids::InstanceId;
use legate_rpc::Fault;
use legate_wire::registry::RevocationReason;

use super::revoke::{By, Order};
use super::{Call, Desk, attest, revoke_instance};

/// Why, in the record.
const COMMENT: &str = "the node that attested it says that its process ended";

/// Takes an instance down that the calling node attested; the registry's revision that carries the last of the revocations, 0 where
/// there was nothing to revoke. To repeat it is harmless.
#[tracing::instrument(skip_all, fields(legate.instance = %id))]
pub(crate) async fn end(desk: &Desk, call: &Call, id: InstanceId) -> Result<u64, Fault> {
    let result = attempt(desk, call, &id).await;
    match &result {
        Ok(_) => {}
        Err(fault) => desk.note_refusal(call, "instance_end", attest::about(call, None), fault).await,
    }
    result
}

async fn attempt(desk: &Desk, call: &Call, id: &InstanceId) -> Result<u64, Fault> {
    let (by, _) = desk
        .look(|snapshot| {
            let node = attest::node(call, snapshot, desk.clock.now())?;
            Ok(By::Node(attest::named(node), node.label.created))
        })
        .await?;
    let reason = RevocationReason::CessationOfOperation;
    let order = Order { call: call.clone(), reason, comment: COMMENT.to_owned(), now: desk.clock.now(), by };
    let (_, revision) = revoke_instance::take(desk, order, id).await?;
    Ok(revision.unwrap_or(0))
}
