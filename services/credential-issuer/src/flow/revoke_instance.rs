//! A running copy of an agent is taken back: it is never renewed again, and everything that it holds is revoked with it.

use std::collections::BTreeSet;

use legate_ids::InstanceId;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::audit::AuditEvent;
use legate_wire::registry::{PublishRevocationRequest, RevocationReason};

use super::revoke::{Order, cut_connections};
use super::status_list::Lists;
use super::{Call, Desk, instances};
use crate::convert;
use crate::domain::instance::State;
use crate::error::{AGAIN, INSTANCE_NOT_FOUND, REVOCATION_PENDING, flow, of_tx};
use crate::store::{credential, instance, key, pending};

/// What was taken back.
struct Taken {
    row: instance::Model,
    /// Its credentials, and others of a compromised key.
    credentials: Vec<credential::Model>,
    /// What the registry has not confirmed of them, by credential.
    requests: Vec<(String, PublishRevocationRequest)>,
}

/// Takes an instance back; as it is then, and the registry's revision that carries the last of the revocations. To repeat it is
/// harmless.
#[tracing::instrument(skip_all, fields(legate.instance = %id))]
pub(crate) async fn revoke_instance(
    desk: &Desk,
    call: &Call,
    id: InstanceId,
    reason: RevocationReason,
    comment: String,
) -> Result<((instance::Model, State), u64), Fault> {
    let order = Order::given(desk, call, reason, comment).await?;
    let (row, revision) = take(desk, order, &id).await?;
    let mut judged = instances::judged(desk, vec![row]).await?;
    let judged = judged.pop().ok_or_else(|| Fault::broken("an instance was taken back and is not there"))?;
    Ok((judged, revision.unwrap_or_else(|| desk.view.current().revision())))
}

/// Takes it back by an order; as it is then, and the registry's revision that carries the last of the revocations, where there was
/// something to revoke.
pub(super) async fn take(desk: &Desk, order: Order, id: &InstanceId) -> Result<(instance::Model, Option<u64>), Fault> {
    let call = order.call.clone();
    let Taken { row, credentials, requests } = record(desk, order, id).await?;
    desk.lists.iter().for_each(Lists::forget);
    credentials.iter().for_each(|one| cut_connections(desk, one));
    if credentials.is_empty() {
        return Ok((row, None));
    }
    let mut revision = desk.view.read().snapshot.revision();
    let telling = async {
        for (credential, request) in requests {
            let told = desk.publisher.revocation(request).await.map_err(|status| status.message().to_owned())?;
            super::publish::confirmed(desk, &credential).await.map_err(|fault| fault.to_string())?;
            revision = revision.max(told);
        }
        Ok::<u64, String>(revision)
    };
    let why = match tokio::time::timeout(desk.patience(&call), telling).await {
        Ok(Ok(revision)) => return Ok((row, Some(revision))),
        Ok(Err(why)) => why,
        Err(_) => "no answer in time".to_owned(),
    };
    // The registry is told of the rest behind this call's back.
    desk.news.notify_one();
    let text = format!("{id} is revoked here; the registry has not confirmed all of it yet: {why}");
    Err(Fault::unavailable(&REVOCATION_PENDING, text, AGAIN))
}

async fn record(desk: &Desk, order: Order, id: &InstanceId) -> Result<Taken, Fault> {
    let (outbox, id) = (desk.outbox.clone(), id.to_string());
    let taken = desk.db.tx("revoke_instance", move |tx| {
        let (outbox, order, id) = (outbox.clone(), order.clone(), id.clone());
        Box::pin(async move {
            let not_found = || flow(Fault::refused(&INSTANCE_NOT_FOUND, format!("no instance {id}")));
            let row = instance::by_id(tx, &id).await?.ok_or_else(not_found)?;
            order.admits_instance(&row).map_err(flow)?.ok_or_else(not_found)?;
            let mut events: Vec<AuditEvent> = convert::broke_glass(&order.call, order.now).into_iter().collect();
            // From here on nobody renews it, so its credentials are all that there will be.
            let why = (order.reason.into(), order.is_by_node());
            if instance::mark_revoked(tx, &id, why, order.now).await? {
                events.push(convert::instance_revoked(&order.call, &row, order.reason, &order.comment, order.now));
            }
            let mut credentials = credential::of_instance(tx, &id, order.now).await?;
            if order.reason == RevocationReason::KeyCompromise {
                let keys: BTreeSet<Vec<u8>> = credentials.iter().map(|one| one.key_sha256.clone()).collect();
                for key in keys {
                    key::mark_compromised(tx, &key).await?;
                    let others = credential::lock_by_key(tx, &key, order.now).await?;
                    credentials.extend(others.into_iter().filter(|other| other.instance_id != id));
                }
            }
            let mut requests = Vec::new();
            for one in &credentials {
                if order.take_back(tx, one).await? {
                    events.push(order.event(one));
                }
                requests.extend(pending::of(tx, &one.id).await?.map(|request| (one.id.clone(), request)));
            }
            for event in events {
                outbox.record(tx, Standard::Stopping, event).await?;
            }
            let row = instance::by_id(tx, &id).await?.ok_or_else(not_found)?;
            Ok(Taken { row, credentials, requests })
        })
    });
    taken.await.map_err(of_tx)
}
