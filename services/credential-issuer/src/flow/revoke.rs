//! A credential is taken back: recorded first, then told to the registry until it confirms, its connections cut at once.

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::CredentialId;
use legate_outbox::Standard;
use legate_rpc::{Fault, Mandate};
use legate_wire::audit::AuditEvent;
use legate_wire::registry::{PublishRevocationRequest, RevocationReason};

use super::status_list::Lists;
use super::{Call, Desk};
use crate::convert;
use crate::error::{AGAIN, CREDENTIAL_NOT_FOUND, REVOCATION_PENDING, flow, of_tx};
use crate::store::{credential, instance, key, pending};

/// Takes a credential back; the row, and the registry's revision that carries the revocation. To repeat it is harmless.
/// Where its key is compromised, everything else that is certified for the key goes with it.
#[tracing::instrument(skip_all, fields(legate.credential = %id))]
pub(crate) async fn revoke(
    desk: &Desk,
    call: &Call,
    id: CredentialId,
    reason: RevocationReason,
    comment: String,
) -> Result<(credential::Model, u64), Fault> {
    let Taken { row, request, others } = record(desk, call, &id, reason, comment).await?;
    desk.lists.iter().for_each(Lists::forget);
    // Whoever takes back what he calls with hears the answer first: his connection ends when the registry has told of it, and it
    // is told of it whether or not he waits.
    if row.x5t_s256.as_deref() == Some(&call.peer.x5t_s256[..]) {
        desk.news.notify_one();
    } else {
        cut_connections(desk, &row);
    }
    if !others.is_empty() {
        others.iter().for_each(|other| cut_connections(desk, other));
        // The registry is told of them behind this call's back.
        desk.news.notify_one();
    }
    let Some(request) = request else {
        // Never signed, so never delivered: nobody has to hear of it.
        return Ok((row, desk.fresh()?.snapshot.revision()));
    };
    let revision = tell(desk, call, &row.id, request).await?;
    Ok((row, revision))
}

/// Tells the registry of what was taken back and recorded; the revision that carries it.
pub(super) async fn tell(desk: &Desk, call: &Call, id: &str, request: PublishRevocationRequest) -> Result<u64, Fault> {
    let told = tokio::time::timeout(desk.patience(call), desk.publisher.revocation(request)).await;
    match told {
        Ok(Ok(revision)) => {
            super::publish::confirmed(desk, id).await?;
            Ok(revision)
        }
        late => {
            desk.news.notify_one();
            let why = match late {
                Ok(Err(status)) => status.message().to_owned(),
                _ => "no answer in time".to_owned(),
            };
            let text = format!("{id} is revoked here; the registry has not confirmed it yet: {why}");
            Err(Fault::unavailable(&REVOCATION_PENDING, text, AGAIN))
        }
    }
}

/// What was taken back.
struct Taken {
    /// The credential that was named, as it is then.
    row: credential::Model,
    /// What the registry is to be told of it: what was first recorded, however often it is repeated.
    request: Option<PublishRevocationRequest>,
    /// Others of the same key.
    others: Vec<credential::Model>,
}

/// Who takes something back, when and why.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) call: Call,
    pub(super) reason: RevocationReason,
    pub(super) comment: String,
    pub(super) now: Timestamp,
    pub(super) by: By,
}

/// By which right.
#[derive(Clone)]
pub(super) enum By {
    /// An operator's.
    Mandate(Mandate),
    /// That of a node, over the instances that it attested: as `NAMESPACE/NAME`, there since that moment.
    Node(String, Timestamp),
}

impl Order {
    /// What the caller orders, with the mandate that it has now.
    pub(super) async fn given(
        desk: &Desk,
        call: &Call,
        reason: RevocationReason,
        comment: String,
    ) -> Result<Self, Fault> {
        let by = By::Mandate(desk.mandate(call).await?);
        Ok(Self { call: call.clone(), reason, comment, now: desk.clock.now(), by })
    }

    /// Whether it may take back a credential of that namespace, not as part of an instance; `None`: to the caller it is not there.
    fn admits(&self, namespace: &str) -> Result<Option<()>, Fault> {
        match &self.by {
            By::Mandate(mandate) => stops(mandate, namespace),
            By::Node(..) => Ok(None),
        }
    }

    /// Whether a node orders it, of what it attested.
    pub(super) fn is_by_node(&self) -> bool {
        matches!(self.by, By::Node(..))
    }

    /// Whether it may take back the instance; `None`: to the caller it is not there.
    pub(super) fn admits_instance(&self, row: &instance::Model) -> Result<Option<()>, Fault> {
        match &self.by {
            By::Mandate(mandate) => stops(mandate, &row.namespace),
            By::Node(node, since) => Ok(row.is_attested_by(node, *since).then_some(())),
        }
    }
}

/// What is of a namespace that the caller may not see is not there.
fn stops(mandate: &Mandate, namespace: &str) -> Result<Option<()>, Fault> {
    if !mandate.may(Right::Read, Place::In(namespace)) {
        return Ok(None);
    }
    mandate.demand(Right::Stop, Place::In(namespace))?;
    Ok(Some(()))
}

async fn record(
    desk: &Desk,
    call: &Call,
    id: &CredentialId,
    reason: RevocationReason,
    comment: String,
) -> Result<Taken, Fault> {
    let order = Order::given(desk, call, reason, comment).await?;
    let (outbox, id) = (desk.outbox.clone(), id.to_string());
    desk.db
        .tx("revoke_credential", move |tx| {
            let (outbox, order, id) = (outbox.clone(), order.clone(), id.clone());
            Box::pin(async move {
                let not_found = || flow(Fault::refused(&CREDENTIAL_NOT_FOUND, format!("no credential {id}")));
                let row = credential::by_id(tx, &id).await?.ok_or_else(not_found)?;
                order.admits(&row.namespace).map_err(flow)?.ok_or_else(not_found)?;
                let is_news = order.reason == RevocationReason::KeyCompromise
                    && key::mark_compromised(tx, &row.key_sha256).await?;
                let mut others = Vec::new();
                if is_news {
                    others = credential::lock_by_key(tx, &row.key_sha256, order.now).await?;
                    others.retain(|other| other.id != id);
                }
                let row = credential::lock_by_id(tx, &id).await?.ok_or_else(not_found)?;
                let mut request = order.publication(&row);
                let mut events: Vec<AuditEvent> = convert::broke_glass(&order.call, order.now).into_iter().collect();
                if order.take_back(tx, &row).await? {
                    events.push(order.event(&row));
                } else {
                    // Confirmed already: to tell it once more brings the revision.
                    request = pending::of(tx, &id).await?.or(request);
                    if is_news {
                        events.push(convert::key_compromised(&order.call, &row, &order.comment, order.now));
                    }
                }
                for other in &others {
                    if order.take_back(tx, other).await? {
                        events.push(order.event(other));
                    }
                }
                for event in events {
                    outbox.record(tx, Standard::Stopping, event).await?;
                }
                let row = credential::by_id(tx, &id).await?.ok_or_else(not_found)?;
                Ok(Taken { row, request, others })
            })
        })
        .await
        .map_err(of_tx)
}

impl Order {
    fn publication(&self, row: &credential::Model) -> Option<PublishRevocationRequest> {
        let tell = || convert::publication(row, &self.call, self.reason, &self.comment, self.now);
        (row.x5t_s256.is_some() || row.kind != credential::CERTIFICATE).then(tell)
    }

    pub(super) fn event(&self, row: &credential::Model) -> AuditEvent {
        convert::credential_revoked(&self.call, row, self.reason, &self.comment, self.now)
    }

    /// Marks a credential, and leaves word for the registry; `false` when it was taken back before.
    pub(super) async fn take_back(&self, tx: &Tx, row: &credential::Model) -> TxResult<bool, Fault> {
        if !credential::mark_revoked(tx, &row.id, self.reason.into(), self.now).await? {
            return Ok(false);
        }
        if let Some(request) = self.publication(row) {
            pending::insert(tx, &row.id, &request, self.now).await?;
        }
        Ok(true)
    }
}

pub(super) fn cut_connections(desk: &Desk, row: &credential::Model) {
    let Some(connections) = desk.connections.get() else { return };
    let is_its = |peer: &legate_mtls::Peer| row.x5t_s256.as_deref() == Some(&peer.x5t_s256[..]);
    let cut: usize = connections.iter().map(|of_port| of_port.cut(is_its)).sum();
    if cut > 0 {
        tracing::info!(cut, credential = row.id, "connections of a revoked credential are cut");
    }
}
