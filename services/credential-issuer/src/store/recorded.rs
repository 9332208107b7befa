//! Proof that what is about to be signed is on disk, with its audit event: only the store makes one; only a signer takes one.

use legate_db::{Db, Tx, TxResult};
use legate_ids::SpiffeId;
use legate_outbox::{Outbox, Standard};
use legate_rpc::Fault;
use legate_token::Parent;
use legate_wire::audit::AuditEvent;

use super::credential;
use crate::domain::certificate::CertificatePlan;
use crate::domain::token::TokenPlan;

/// A certificate that is recorded and may be signed. To hold one means that the transaction was committed.
#[derive(Debug)]
pub(crate) struct Recorded {
    row: credential::Model,
}

impl Recorded {
    /// The bytes to sign, as recorded.
    pub(crate) fn to_be_signed(&self) -> &[u8] {
        &self.row.to_be_signed
    }

    /// The row.
    pub(crate) fn row(&self) -> &credential::Model {
        &self.row
    }

    /// A row that was read back after it was recorded, where it was not signed yet.
    pub(crate) fn read_back(row: credential::Model) -> Option<Self> {
        (row.state == credential::RECORDED).then_some(Self { row })
    }
}

/// A plan with its bytes: what [`record`] writes.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) plan: CertificatePlan,
    pub(crate) to_be_signed: Vec<u8>,
    /// The enrolment or the earlier credential that it comes from.
    pub(crate) origin: String,
}

/// Writes the row and the audit event. Becomes [`Recorded`] only by [`committed`].
pub(crate) async fn record(
    tx: &Tx,
    outbox: &Outbox,
    draft: &Draft,
    event: AuditEvent,
) -> TxResult<credential::Model, Fault> {
    let row = credential::insert(tx, draft).await?;
    outbox.record(tx, Standard::Ordinary, event).await?;
    Ok(row)
}

/// Runs a transaction that ends in [`record`]; what it wrote is on disk when this returns.
pub(crate) async fn committed<F>(db: &Db, name: &'static str, body: F) -> TxResult<Recorded, Fault>
where
    F: for<'a> Fn(&'a Tx) -> futures_util::future::BoxFuture<'a, TxResult<credential::Model, Fault>>
        + Send
        + Sync
        + 'static,
{
    db.tx(name, body).await.map(|row| Recorded { row })
}

/// A token whose audit event is on disk; there is no row for a token.
#[derive(Debug)]
pub(crate) struct RecordedToken(TokenPlan);

impl RecordedToken {
    /// What may be signed now.
    pub(crate) fn into_plan(self) -> TokenPlan {
        self.0
    }

    /// Checks the credential that the token is bound to, and writes the audit event.
    pub(crate) async fn record(db: &Db, outbox: Outbox, plan: TokenPlan, event: AuditEvent) -> TxResult<Self, Fault> {
        let certificate = plan.claims.confirmation.certificate().copied();
        let bound = |(holder, parent): (&SpiffeId, &Parent)| {
            let certificate = parent.confirmation.certificate().copied()?;
            Some((certificate, holder.to_string(), parent.lifecycle_version))
        };
        let parents: Vec<_> = plan.claims.chain.holders(&plan.claims.subject).filter_map(bound).collect();
        let (holder, version) = (plan.holder.to_string(), plan.claims.lifecycle_version);
        db.tx("issue_token", move |tx| {
            let (outbox, event, holder) = (outbox.clone(), event.clone(), holder.clone());
            let parents = parents.clone();
            Box::pin(async move {
                // What was taken back here may not have come back from the registry yet.
                for (certificate, holder, version) in &parents {
                    let row = credential::by_certificate(tx, certificate).await?;
                    credential::good(row, holder, *version).map_err(crate::error::flow)?;
                }
                let row = match &certificate {
                    Some(certificate) => credential::by_certificate(tx, certificate).await?,
                    None => None,
                };
                let row = credential::good(row, &holder, version).map_err(crate::error::flow)?;
                let event = AuditEvent { credential_id: row.id, ..event };
                outbox.record(tx, Standard::Ordinary, event).await?;
                Ok(())
            })
        })
        .await
        .map(|()| Self(plan))
    }
}
