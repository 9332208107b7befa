//! Proof that what is about to be signed is on disk, with its audit event: only the store makes one; only a signer takes one.

use legate_clock::Timestamp;
use legate_db::{Db, Tx, TxResult};
use legate_outbox::{Outbox, Standard};
use legate_rpc::Fault;
use legate_token::Parent;
use legate_wire::audit::AuditEvent;

use super::{credential, revoked_token, signing_key, used_token};
use crate::domain::certificate::CertificatePlan;
use crate::domain::token::TokenPlan;
use crate::error::{AGAIN, CREDENTIAL_NOT_GOOD, IDENTITY_TOKEN_SPENT, SIGNING_UNAVAILABLE, flow};

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

    /// Checks the credentials that the token rests on, and writes the audit event.
    pub(crate) async fn record(
        db: &Db,
        outbox: Outbox,
        proof: Proof,
        plan: TokenPlan,
        event: AuditEvent,
    ) -> TxResult<Self, Fault> {
        let rests = Rests::of(proof, &plan);
        let kid = plan.unsigned.kid().to_string();
        db.tx("issue_token", move |tx| {
            let (outbox, event, rests, kid) = (outbox.clone(), event.clone(), rests.clone(), kid.clone());
            Box::pin(async move {
                if !signing_key::still_signs(tx, &kid).await? {
                    let why = "the key that was to sign was taken back a moment ago";
                    return Err(flow(Fault::unavailable(&SIGNING_UNAVAILABLE, why, AGAIN)));
                }
                let id = rests.check(tx).await?;
                let event = AuditEvent { credential_id: id, ..event };
                outbox.record(tx, Standard::Ordinary, event).await?;
                Ok(())
            })
        })
        .await
        .map(|()| Self(plan))
    }
}

/// By what the holder of a token proved that it is the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The certificate with this SHA-256 of its DER.
    Certificate([u8; 32]),
    /// The client secret or key with this id, which has to work at this moment.
    Client(String, Timestamp),
    /// A token of an issuer outside, which is used by this.
    Identity(used_token::Model),
}

/// Everything of this database that a token rests on. What was taken back here may not have come back from the registry yet.
#[derive(Clone, Debug)]
struct Rests {
    proof: Proof,
    /// The certificate that the token is bound to.
    bound: Option<[u8; 32]>,
    holder: String,
    version: u64,
    parents: Vec<(Parent, String)>,
}

impl Rests {
    fn of(proof: Proof, plan: &TokenPlan) -> Self {
        let parents = plan.claims.chain.holders(&plan.claims.subject);
        Self {
            proof,
            bound: plan.claims.confirmation.certificate().copied(),
            holder: plan.holder.to_string(),
            version: plan.claims.lifecycle_version,
            parents: parents.map(|(holder, parent)| (parent.clone(), holder.to_string())).collect(),
        }
    }

    /// The credential by which the holder proved itself, where all is good.
    async fn check(&self, tx: &Tx) -> TxResult<String, Fault> {
        let taken_back = |what: &str| flow(Fault::refused(&CREDENTIAL_NOT_GOOD, format!("{what} was taken back")));
        for (parent, holder) in &self.parents {
            if let Some(certificate) = parent.confirmation.certificate() {
                let row = credential::by_certificate(tx, certificate).await?;
                credential::good(row, holder, parent.lifecycle_version).map_err(flow)?;
            }
            if let Some(id) = &parent.credential
                && credential::by_id(tx, id.as_str()).await?.is_none_or(|row| row.state == credential::REVOKED)
            {
                return Err(taken_back("the credential of a token of the chain"));
            }
        }
        let tokens: Vec<String> = self.parents.iter().map(|(parent, _)| parent.token_id.clone()).collect();
        if !tokens.is_empty() && revoked_token::any(tx, tokens).await? {
            return Err(taken_back("a token of the chain"));
        }
        let by_certificate = async |certificate: &[u8; 32]| -> TxResult<String, Fault> {
            let row = credential::by_certificate(tx, certificate).await?;
            Ok(credential::good(row, &self.holder, self.version).map_err(flow)?.id)
        };
        if let Some(bound) = &self.bound
            && self.proof != Proof::Certificate(*bound)
        {
            by_certificate(bound).await?;
        }
        match &self.proof {
            Proof::Certificate(x5t) => by_certificate(x5t).await,
            Proof::Identity(used) => {
                if !used_token::spend(tx, used.clone()).await? {
                    let why = "the identity token was used before";
                    return Err(flow(Fault::refused(&IDENTITY_TOKEN_SPENT, why)));
                }
                Ok(String::new())
            }
            Proof::Client(id, now) => {
                let row = credential::by_id(tx, id).await?;
                let works = |row: &credential::Model| row.state == credential::ISSUED && row.not_after > now.micros();
                row.filter(works).map(|row| row.id).ok_or_else(|| taken_back("the secret or key"))
            }
        }
    }
}
