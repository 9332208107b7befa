//! What every journey needs: the view, the database, the keys, and the steps that several of them share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use legate_clock::{Clock, Timestamp};
use legate_db::Db;
use legate_ids::{InstanceId, SpiffeId, TrustDomain};
use legate_mtls::Connections;
use legate_outbox::{Outbox, Standard};
use legate_rpc::{Fault, Refusals};
use legate_token::PublicKey;
use legate_view::{Reading, Snapshot, ViewHandle};
use legate_wire::audit::AuditEvent;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::keyring::{Keyring, unavailable};
use super::login::Logins;
use super::status_list::Lists;
use super::watch_node::Places;
use crate::convert::{self, Call};
use crate::domain::certificate::{self, CertificatePlan, Chance};
use crate::domain::csr;
use crate::domain::holder::{self, Holder, Named};
use crate::domain::keyring::KeyUse;
use crate::error::{AGAIN, CREDENTIAL_NOT_GOOD, KEY_IN_USE, VIEW_STALE, of_tx};
use crate::federation::{Bundles, Federation};
use crate::keys::{Authority, Pepper};
use crate::metrics::Metrics;
use crate::outside::{Authorizer, PersonalGrants, Publisher, Relay};
use crate::store::{Batches, Recorded, credential};

/// Everything the journeys are made with.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    /// Where calls go into the database together.
    pub(crate) batches: Batches,
    pub(crate) view: ViewHandle,
    pub(crate) domain: TrustDomain,
    /// The `iss` of tokens.
    pub(crate) issuer: String,
    pub(crate) keys: Keyring,
    pub(crate) pepper: Pepper,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) publisher: Arc<dyn Publisher>,
    /// What people let agents do.
    pub(crate) grants: Arc<dyn PersonalGrants>,
    pub(crate) relay: Arc<dyn Relay>,
    pub(crate) federation: Federation,
    /// What verifies other trust domains.
    pub(crate) bundles: Bundles,
    /// How operators log in; `None`: they do not.
    pub(crate) logins: Option<Logins>,
    /// What verifiers are told who ask nobody; `None`: nothing.
    pub(crate) lists: Option<Lists>,
    /// Set once the server listens.
    pub(crate) connections: OnceLock<Vec<Connections>>,
    pub(crate) metrics: Metrics,
    /// Of callers of whom nothing is known, beside those who were turned away at the door.
    pub(crate) refusals: Arc<Refusals>,
    /// Wakes the publisher: there is a revocation to tell.
    pub(crate) news: Notify,
    /// Whether the registry has confirmed the key that signs tokens.
    pub(crate) key_is_known: watch::Sender<bool>,
    /// The streams of news for nodes.
    pub(crate) places: Places,
    /// Set once the server listens; cancelled when it stops.
    pub(crate) stopping: OnceLock<CancellationToken>,
}

/// How long a refusal waits for the view to catch up with what the caller may have written just before.
const CATCH_UP: Duration = Duration::from_millis(1_500);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(20);
/// The longest wait for the second of a cut-off to be over.
const SECOND: Duration = Duration::from_secs(1);

impl Desk {
    /// A look at the registry that is fresh enough to issue by.
    pub(crate) fn fresh(&self) -> Result<Reading, Fault> {
        self.view.fresh(self.view.bound()).map_err(|stale| Fault::unavailable(&VIEW_STALE, stale.to_string(), AGAIN))
    }

    /// The `iss` of JWT-SVIDs: an issuer of its own below ours, with keys of its own, so that nobody takes one kind for the other.
    pub(crate) fn svid_issuer(&self) -> String {
        convert::svid_issuer(&self.issuer)
    }

    /// Looks something up. A refusal counts only by a view that is certain of everything up to the call's arrival:
    /// so a caller who declares first and asks then is never told that it did not.
    pub(crate) async fn look<T>(&self, look: impl Fn(&Snapshot) -> Result<T, Fault>) -> Result<(T, u64), Fault> {
        let arrived = self.clock.monotonic();
        let patience = Instant::now() + CATCH_UP;
        loop {
            // Before the reading: the age is to be measured later than this.
            let since = self.clock.monotonic().saturating_sub(arrived);
            let reading = self.fresh()?;
            let found = look(&reading.snapshot);
            let is_certain = reading.age().is_some_and(|age| age <= since);
            match found {
                Ok(found) => return Ok((found, reading.snapshot.revision())),
                Err(fault) if is_certain || Instant::now() >= patience => return Err(fault),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Finds who may hold credentials now; with the registry's revision.
    pub(crate) async fn holder(&self, named: &Named, instance: Option<&InstanceId>) -> Result<(Holder, u64), Fault> {
        self.look(|snapshot| {
            let now = self.clock.now();
            holder::find(snapshot, &self.domain, named, instance.cloned(), now).map_err(Fault::from)
        })
        .await
    }

    /// The same, and what is issued now is not dead already: waits until the second of a cut-off is over.
    pub(crate) async fn holder_past_cutoff(
        &self,
        named: &Named,
        instance: Option<&InstanceId>,
    ) -> Result<(Holder, u64), Fault> {
        let found = self.holder(named, instance).await?;
        let now = self.clock.now();
        match found.0.cutoffs.first_second_after() {
            Some(first) if now < first => {
                tokio::time::sleep(first.since(now).min(SECOND)).await;
                self.holder(named, instance).await
            }
            _ => Ok(found),
        }
    }

    /// Just before an answer leaves: whether its holder is still in the same life.
    pub(crate) fn still(&self, was: &Holder, named: &Named) -> Result<(), Fault> {
        let reading = self.fresh()?;
        let now = holder::find(&reading.snapshot, &self.domain, named, was.instance.clone(), self.clock.now())?;
        if now.lifecycle_version != was.lifecycle_version || now.cutoffs != was.cutoffs {
            return Err(Fault::refused(&CREDENTIAL_NOT_GOOD, "the agent was stopped while this was being issued"));
        }
        Ok(())
    }

    /// Nobody has the issuer's own keys certified.
    pub(crate) fn refuse_own_keys(&self, key: &PublicKey) -> Result<(), Fault> {
        if self.keys.has(key) {
            return Err(Fault::refused(&KEY_IN_USE, "the key of the request is one of the issuer's own"));
        }
        Ok(())
    }

    /// What a certificate for the holder would say by its request, in which it may go by that name, and the bytes to sign.
    pub(crate) fn planned(
        &self,
        holder: &Holder,
        (csr, name): (&[u8], &SpiffeId),
        now: Timestamp,
    ) -> Result<(CertificatePlan, Vec<u8>), Fault> {
        let proved = csr::check(csr, name)?;
        self.refuse_own_keys(&proved)?;
        let chance = Chance::new(now, Self::random()?, Self::random()?);
        let authority = self.keys.authority(KeyUse::WorkloadsCa)?;
        let plan = certificate::plan(holder, proved, now, authority.ends(), chance)?;
        let to_be_signed = authority.to_be_signed(&plan).map_err(Fault::broken)?;
        Ok((plan, to_be_signed))
    }

    /// Signs what is recorded and keeps the certificate; the row as it is then.
    pub(crate) async fn sign(&self, recorded: Recorded) -> Result<credential::Model, Fault> {
        self.sign_by(&*self.keys.authority(KeyUse::WorkloadsCa)?, recorded).await
    }

    /// The same by another of our CAs: the one for which it was planned.
    pub(crate) async fn sign_by(&self, authority: &Authority, recorded: Recorded) -> Result<credential::Model, Fault> {
        let certificate = authority.sign(&recorded).await.map_err(|e| unavailable(&e.to_string()))?;
        let id = recorded.row().id.clone();
        let row = self
            .db
            .tx("mark_signed", move |tx| {
                let (id, certificate) = (id.clone(), certificate.clone());
                Box::pin(async move {
                    // Where somebody else was faster, his certificate is the one.
                    credential::mark_signed(tx, &id, &certificate).await?;
                    credential::by_id(tx, &id).await
                })
            })
            .await
            .map_err(of_tx)?;
        match row {
            Some(row) if row.state == credential::ISSUED => Ok(row),
            _ => Err(Fault::refused(&CREDENTIAL_NOT_GOOD, "the credential was revoked while it was being issued")),
        }
    }

    /// Records that somebody was refused. It was refused whether or not that can be recorded.
    pub(crate) async fn record_refusal(&self, event: AuditEvent) {
        let outbox = self.outbox.clone();
        let recorded = self
            .db
            .tx("record_refusal", move |tx| {
                let (outbox, event) = (outbox.clone(), event.clone());
                Box::pin(async move {
                    outbox.record(tx, Standard::Ordinary, event).await?;
                    Ok(())
                })
            })
            .await
            .map_err(of_tx);
        if let Err(fault) = recorded {
            tracing::warn!(%fault, "a refusal could not be recorded");
        }
    }

    /// Counts and records a refusal of somebody who is known.
    pub(crate) async fn note_refusal(
        &self,
        call: &Call,
        kind: &'static str,
        about: Option<(&SpiffeId, &legate_ids::Name, &str)>,
        fault: &Fault,
    ) {
        self.metrics.refused(kind, fault.reason());
        // What is unavailable or broken is no refusal, and recording it would only add to the trouble.
        if matches!(fault, Fault::Refused(_)) {
            let event = format!("{kind}.refused");
            self.record_refusal(crate::convert::refused(call, &event, about, fault, self.clock.now())).await;
        }
    }

    /// Counts a refusal of somebody of whom nothing is known, and notes it with those of the door: anybody can show anything, so a
    /// flood becomes a few lines of the audit log.
    pub(crate) fn turn_away(&self, call: &Call, method: &'static str, kind: &'static str, fault: &Fault) {
        self.metrics.refused(kind, fault.reason());
        self.refusals.note(&call.peer, method, fault);
    }

    /// How long a call to another service may take within this call.
    pub(crate) fn patience(&self, call: &Call) -> Duration {
        let left = call.deadline.saturating_duration_since(Instant::now());
        // A little is kept for what comes after.
        left.saturating_sub(Duration::from_millis(100)).clamp(Duration::from_millis(60), Duration::from_secs(2))
    }

    /// Now in Unix seconds, as tokens count.
    pub(crate) fn seconds(&self) -> u64 {
        u64::try_from(self.clock.now().secs()).unwrap_or(0)
    }

    /// A moment in milliseconds, for ids.
    pub(crate) fn millis(now: Timestamp) -> u64 {
        u64::try_from(now.micros() / 1_000).unwrap_or(0)
    }

    /// Random bytes.
    pub(crate) fn random<const N: usize>() -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Fault::broken("the system gives no randomness"))?;
        Ok(bytes)
    }
}
