//! A certificate is renewed by the one who holds it: same identity, new times, perhaps a new key.

use legate_ids::{Principal, SpiffeId};
use legate_rpc::Fault;
use legate_view::CERTIFICATE_BACKDATE;

use super::{Call, Desk};
use crate::convert;
use crate::domain::holder::Named;
use crate::error::{CREDENTIAL_NOT_GOOD, of_tx};
use crate::store::credential::{self, sha256};
use crate::store::recorded::{Draft, committed, record};
use crate::store::{instance, key};

/// Whom the caller's certificate names.
pub(super) fn caller(call: &Call) -> Result<(&SpiffeId, &Principal), Fault> {
    match (&call.peer.spiffe_id, &call.peer.principal) {
        (Some(id), Some(principal)) => Ok((id, principal)),
        _ => Err(Fault::refused(&CREDENTIAL_NOT_GOOD, "the call shows no certificate")),
    }
}

/// Issues the next certificate of the caller.
#[tracing::instrument(skip_all)]
pub(crate) async fn renew(desk: &Desk, call: &Call, csr: &[u8]) -> Result<credential::Model, Fault> {
    let result = attempt(desk, call, csr).await;
    match &result {
        Ok(_) => desk.metrics.issued("renewal"),
        Err(fault) => {
            let (id, principal) = caller(call)?;
            desk.note_refusal(call, "renewal", about(id, principal), fault).await;
        }
    }
    result
}

/// Whom an event is about.
pub(super) fn about<'a>(
    id: &'a SpiffeId,
    principal: &'a Principal,
) -> Option<(&'a SpiffeId, &'a legate_ids::Name, &'a str)> {
    match principal {
        Principal::Agent { namespace, id: agent, .. } => Some((id, namespace, agent.as_str())),
        Principal::Enforcer { namespace, .. } | Principal::Node { namespace, .. } => Some((id, namespace, "")),
        Principal::Operator(_) | Principal::Service(_) => None,
    }
}

async fn attempt(desk: &Desk, call: &Call, csr: &[u8]) -> Result<credential::Model, Fault> {
    let (id, principal) = caller(call)?;
    let (named, instance) = Named::of(id, principal)?;
    let (holder, revision) = desk.holder_past_cutoff(&named, instance.as_ref()).await?;
    if holder.spiffe_id != *id {
        return Err(Fault::refused(&CREDENTIAL_NOT_GOOD, format!("{id} is not who the registry knows")));
    }
    if !holder.cutoffs.spare(call.peer.not_before.plus(CERTIFICATE_BACKDATE)) {
        return Err(Fault::refused(&CREDENTIAL_NOT_GOOD, format!("the certificate is of an earlier {id}")));
    }
    let now = desk.clock.now();
    let (plan, to_be_signed) = desk.planned(&holder, (csr, id), now)?;

    let (outbox, call, x5t) = (desk.outbox.clone(), call.clone(), call.peer.x5t_s256);
    let recorded = committed(&desk.db, "renew", move |tx| {
        let (outbox, call, plan) = (outbox.clone(), call.clone(), plan.clone());
        let to_be_signed = to_be_signed.clone();
        Box::pin(async move {
            // The instance before the key, and that before the credential, as revocations lock them.
            instance::renew(tx, &plan).await?;
            key::bind(tx, &sha256(plan.key.as_sec1()), plan.spiffe_id.without_instance().as_str()).await?;
            // Locked, so that a renewal never slips past a revocation that is committed first.
            let old = credential::lock_by_certificate(tx, &x5t).await?;
            let old =
                credential::good(old, plan.spiffe_id.as_str(), plan.lifecycle_version).map_err(crate::error::flow)?;
            let event = convert::credential_issued(&call, &plan, &to_be_signed, &old.id, revision);
            record(tx, &outbox, &Draft { plan, to_be_signed, origin: old.id }, event).await
        })
    })
    .await
    .map_err(of_tx)?;
    let issued = desk.sign(recorded).await?;
    desk.still(&holder, &named)?;
    Ok(issued)
}
