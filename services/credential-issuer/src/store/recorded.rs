//! Proof that what is about to be signed is on disk, with its audit event: only the store makes one; only a signer takes one.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use legate_clock::Timestamp;
use legate_db::{Db, Tx, TxError, TxResult};
use legate_mtls::Peer;
use legate_outbox::{Outbox, Standard};
use legate_rpc::Fault;
use legate_token::Parent;
use legate_wire::audit::AuditEvent;

use super::batches::{Grouped, failed};
use super::once::{self, Once};
use super::{credential, instance, revoked_token, signing_key, used_token};
use crate::domain::certificate::CertificatePlan;
use crate::domain::svid::SvidPlan;
use crate::domain::token::TokenPlan;
use crate::error::{
    AGAIN, CREDENTIAL_NOT_GOOD, IDENTITY_TOKEN_SPENT, SIGNING_UNAVAILABLE, SUBJECT_TOKEN_FALLEN, assertion_used, flow,
    proof_used,
};

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
}

/// A JWT-SVID whose audit event is on disk; there is no row for one.
#[derive(Debug)]
pub(crate) struct RecordedSvid(SvidPlan);

impl RecordedSvid {
    /// What may be signed now.
    pub(crate) fn into_plan(self) -> SvidPlan {
        self.0
    }
}

/// Checks the node that asks, and the instance and the key that a JWT-SVID rests on, and writes the audit event, which is on disk when this
/// returns.
pub(crate) async fn record_svid(
    db: &Db,
    outbox: &Outbox,
    plan: SvidPlan,
    instance: String,
    by: Arc<Peer>,
    event: AuditEvent,
) -> TxResult<RecordedSvid, Fault> {
    let (outbox, kid) = (outbox.clone(), plan.unsigned.kid().to_string());
    let done = db.tx("issue_jwt_svid", move |tx| {
        let (outbox, kid, instance, event) = (outbox.clone(), kid.clone(), instance.clone(), event.clone());
        let by = Arc::clone(&by);
        Box::pin(async move {
            credential::demand_good(tx, &by.x5t_s256, by.id_text()).await?;
            // Whoever takes a key back afterwards finds what it signed on record.
            if !signing_key::that_sign(tx, HashSet::from([kid.clone()])).await?.contains(&kid) {
                let why = "the key that was to sign was taken back a moment ago";
                return Err(flow(Fault::unavailable(&SIGNING_UNAVAILABLE, why, AGAIN)));
            }
            if instance::by_id(tx, &instance).await?.is_none_or(|row| row.revoked_at.is_some()) {
                let why = format!("the instance {instance} was revoked");
                return Err(flow(Fault::refused(&CREDENTIAL_NOT_GOOD, why)));
            }
            outbox.record(tx, Standard::Ordinary, event).await?;
            Ok(())
        })
    });
    done.await.map(|()| RecordedSvid(plan))
}

/// Where tokens are recorded before they are signed: those that wait together in one transaction.
#[derive(Debug)]
pub(crate) struct Register(Grouped<Entry, ()>);

/// A token as it is recorded.
#[derive(Debug)]
struct Entry {
    rests: Rests,
    event: AuditEvent,
}

impl Register {
    /// A register of this database.
    pub(crate) fn new(db: Db, outbox: Outbox) -> Self {
        Self(Grouped::start(move |entries| enter(db.clone(), outbox.clone(), Arc::new(entries))))
    }

    /// Checks the credentials that the token rests on, and writes the audit event; both are on disk when this returns.
    #[tracing::instrument(skip_all)]
    pub(crate) async fn record(
        &self,
        proof: Proof,
        dpop: Option<Once>,
        plan: TokenPlan,
        event: AuditEvent,
    ) -> TxResult<RecordedToken, Fault> {
        self.0.ask(Entry { rests: Rests::of(proof, dpop, &plan), event }).await?.map(|()| RecordedToken(plan))
    }
}

/// Enters all of them in one transaction: each that is good, and no other.
async fn enter(db: Db, outbox: Outbox, entries: Arc<Vec<Entry>>) -> Vec<TxResult<(), Fault>> {
    let count = entries.len();
    match enter_at_once(&db, &outbox, &entries, 0..count).await {
        Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.map_err(flow)).collect(),
        // The audit trail did not take all of them; it may take some.
        Err(TxError::Flow(_)) if count > 1 => {
            let mut outcomes = Vec::with_capacity(count);
            for at in 0..count {
                let outcome = enter_at_once(&db, &outbox, &entries, at..at + 1).await;
                let lost = || Err(Fault::broken("a token that was neither recorded nor refused"));
                outcomes.push(outcome.and_then(|mut one| one.pop().unwrap_or_else(lost).map_err(flow)));
            }
            outcomes
        }
        Err(TxError::Flow(fault)) => vec![Err(flow(fault))],
        Err(e) => failed(&e, count),
    }
}

async fn enter_at_once(
    db: &Db,
    outbox: &Outbox,
    entries: &Arc<Vec<Entry>>,
    some: Range<usize>,
) -> TxResult<Vec<Result<(), Fault>>, Fault> {
    let (outbox, entries) = (outbox.clone(), Arc::clone(entries));
    db.tx("issue_token", move |tx| {
        let (outbox, entries, some) = (outbox.clone(), Arc::clone(&entries), some.clone());
        Box::pin(async move {
            let entries = entries.get(some).unwrap_or_default();
            let found = Found::of(tx, entries).await?;
            let (mut outcomes, mut events) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
            let mut noted = HashSet::new();
            let checked: Vec<_> = entries.iter().map(|entry| entry.rests.check(&found)).collect();
            let good = entries.iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
            let mut firsts = once::show(tx, good.flat_map(|(entry, _)| entry.rests.once()).collect::<Vec<_>>()).await?;
            for (entry, checked) in entries.iter().zip(checked) {
                let outcome = match checked {
                    Ok(by) => entry.rests.spend(tx, &mut firsts).await?.map(|()| by),
                    Err(fault) => Err(fault),
                };
                if let Ok(Some(row)) = &outcome
                    && noted.insert(row.id.as_str())
                {
                    credential::note_use(tx, row, now_of(&entry.event)).await?;
                }
                outcomes.push(outcome.map(|by| {
                    let credential_id = by.map(|row| row.id.clone()).unwrap_or_default();
                    events.push(AuditEvent { credential_id, ..entry.event.clone() });
                }));
            }
            // Last, as it locks: and only what is good.
            outbox.record_all(tx, Standard::Ordinary, events).await?;
            Ok(outcomes)
        })
    })
    .await
}

/// When the event says that it happened.
fn now_of(event: &AuditEvent) -> Timestamp {
    event.time.and_then(|at| Timestamp::try_from(at).ok()).unwrap_or(Timestamp::from_micros(0))
}

/// A secret or key has to work at this moment, and until it was believed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Works {
    pub(crate) at: Timestamp,
    pub(crate) until: Timestamp,
}

/// By what the holder of a token proved that it is the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The certificate with this SHA-256 of its DER.
    Certificate([u8; 32]),
    /// The client secret with this id.
    Secret(String, Works),
    /// The client key with this id, by an assertion that is used by this.
    Assertion(String, Works, Once),
    /// A token of an issuer outside, which is used by this, where so many are not used yet.
    Identity(used_token::Model, u32),
}

/// Everything of this database that a token rests on. What was taken back here may not have come back from the registry yet.
#[derive(Clone, Debug)]
struct Rests {
    proof: Proof,
    /// The DPoP proof of the key that it is bound to, which is used by this.
    dpop: Option<Once>,
    /// The certificate that the token is bound to.
    bound: Option<[u8; 32]>,
    holder: String,
    version: u64,
    parents: Vec<(Parent, String)>,
    /// The key that is to sign it.
    kid: String,
}

/// What the database holds of that, for a whole group.
struct Found {
    by_certificate: HashMap<Vec<u8>, credential::Model>,
    by_id: HashMap<String, credential::Model>,
    revoked_tokens: HashSet<String>,
    /// The keys that may sign still.
    signing: HashSet<String>,
}

impl Found {
    async fn of(tx: &Tx, entries: &[Entry]) -> TxResult<Self, Fault> {
        let (mut certificates, mut ids, mut tokens) = (HashSet::new(), HashSet::new(), HashSet::new());
        for rests in entries.iter().map(|entry| &entry.rests) {
            certificates.extend(rests.bound);
            match &rests.proof {
                Proof::Certificate(x5t) => drop(certificates.insert(*x5t)),
                Proof::Secret(id, _) | Proof::Assertion(id, ..) => drop(ids.insert(id.clone())),
                Proof::Identity(..) => {}
            }
            for (parent, _) in &rests.parents {
                certificates.extend(parent.confirmation.certificate());
                ids.extend(parent.credential.as_ref().map(ToString::to_string));
                tokens.insert(parent.token_id.clone());
            }
        }
        let by_certificate = credential::by_certificates(tx, certificates).await?;
        let by_id = credential::by_ids(tx, ids).await?;
        Ok(Self {
            by_certificate: by_certificate.into_iter().filter_map(|row| Some((row.x5t_s256.clone()?, row))).collect(),
            by_id: by_id.into_iter().map(|row| (row.id.clone(), row)).collect(),
            revoked_tokens: revoked_token::those(tx, tokens).await?,
            signing: signing_key::that_sign(tx, entries.iter().map(|entry| entry.rests.kid.clone()).collect()).await?,
        })
    }
}

impl Rests {
    fn of(proof: Proof, dpop: Option<Once>, plan: &TokenPlan) -> Self {
        let parents = plan.claims.chain.holders(&plan.claims.subject);
        Self {
            proof,
            dpop,
            bound: plan.claims.confirmation.certificate().copied(),
            holder: plan.holder.to_string(),
            version: plan.claims.lifecycle_version,
            parents: parents.map(|(holder, parent)| (parent.clone(), holder.to_string())).collect(),
            kid: plan.unsigned.kid().to_string(),
        }
    }

    /// The credential by which the holder proved itself, where all is good and there is one.
    fn check<'a>(&self, found: &'a Found) -> Result<Option<&'a credential::Model>, Fault> {
        let taken_back = |what: &str| Fault::refused(&CREDENTIAL_NOT_GOOD, format!("{what} was taken back"));
        // Whoever takes a key back afterwards finds what it signed on record.
        if !found.signing.contains(&self.kid) {
            let why = "the key that was to sign was taken back a moment ago";
            return Err(Fault::unavailable(&SIGNING_UNAVAILABLE, why, AGAIN));
        }
        for (parent, holder) in &self.parents {
            if let Some(certificate) = parent.confirmation.certificate() {
                let row = found.by_certificate.get(certificate.as_slice());
                credential::good(row, holder, parent.lifecycle_version)?;
            }
            if let Some(id) = &parent.credential
                && found.by_id.get(id.as_str()).is_none_or(|row| row.state == credential::REVOKED)
            {
                return Err(taken_back("the credential of a token of the chain"));
            }
            if found.revoked_tokens.contains(&parent.token_id) {
                return Err(Fault::refused(&SUBJECT_TOKEN_FALLEN, "the subject token, or one before it, was revoked"));
            }
        }
        let by_certificate = |certificate: &[u8; 32]| {
            let row = found.by_certificate.get(certificate.as_slice());
            credential::good(row, &self.holder, self.version)
        };
        if let Some(bound) = &self.bound
            && self.proof != Proof::Certificate(*bound)
        {
            by_certificate(bound)?;
        }
        match &self.proof {
            Proof::Certificate(x5t) => by_certificate(x5t).map(Some),
            Proof::Identity(..) => Ok(None),
            Proof::Secret(id, Works { at, until }) | Proof::Assertion(id, Works { at, until }, _) => {
                let ends = |row: &credential::Model| row.not_after > at.micros() && row.not_after >= until.micros();
                let works = |row: &&credential::Model| row.state == credential::ISSUED && ends(row);
                found.by_id.get(id).filter(works).map(Some).ok_or_else(|| taken_back("the secret or key"))
            }
        }
    }

    /// The assertion and the DPoP proof that are used by this token.
    fn once(&self) -> impl Iterator<Item = Once> {
        let assertion = match &self.proof {
            Proof::Assertion(.., once) => Some(*once),
            Proof::Certificate(_) | Proof::Secret(..) | Proof::Identity(..) => None,
        };
        assertion.into_iter().chain(self.dpop)
    }

    /// What is used once is used by this token, after all else was found good; `firsts` are the assertions and DPoP proofs of the
    /// group that nobody had shown before, each there for one.
    async fn spend(&self, tx: &Tx, firsts: &mut HashSet<[u8; 32]>) -> TxResult<Result<(), Fault>, Fault> {
        if self.dpop.is_some_and(|once| !firsts.remove(&once.what)) {
            return Ok(Err(proof_used()));
        }
        let (used, most) = match &self.proof {
            Proof::Certificate(_) | Proof::Secret(..) => return Ok(Ok(())),
            Proof::Assertion(.., once) => {
                return Ok(firsts.remove(&once.what).then_some(()).ok_or_else(assertion_used));
            }
            Proof::Identity(used, most) => (used, most),
        };
        let is_first = match used_token::spend(tx, used.clone(), *most).await {
            Ok(is_first) => is_first,
            // It alone is refused: an issuer whose share is full slows nobody else's tokens down.
            Err(TxError::Flow(full)) => return Ok(Err(full)),
            Err(e) => return Err(e),
        };
        let spent = || Fault::refused(&IDENTITY_TOKEN_SPENT, "the identity token was used before");
        Ok(is_first.then_some(()).ok_or_else(spent))
    }
}
