//! What every journey needs: the database, the outbox, time, the tail of the stream, and what is counted.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use legate_clock::Clock;
use legate_db::{Db, Tx, TxResult};
use legate_ids::{AgentId, ApprovalId, EventId, ObjectId, ReviewId, ReviewItemId, SpiffeId, TrustDomain};
use legate_outbox::{Outbox, Standard};
use legate_rpc::{Fault, Mandate, Pages, is_for_want_of_a_role};
use legate_wire::audit::AuditEvent;
use tokio_util::sync::CancellationToken;

use super::bulk::Turns;
use super::followers::Followers;
use super::heard::Heard;
use super::mandate::{Known, mandate};
use super::{By, Call, Tail};
use crate::convert;
use crate::domain::lineage::Pace;
use crate::domain::overdue::Overdue;
use crate::error::of_tx;
use crate::metrics::Metrics;
use crate::store::{head, unsigned};

/// Everything the journeys are made with.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    pub(crate) domain: TrustDomain,
    /// Who the registry itself is, for what it does by the clock.
    pub(crate) own: SpiffeId,
    pub(crate) pages: Pages,
    pub(crate) tail: Tail,
    pub(crate) metrics: Metrics,
    /// Up to when it heard the audit log.
    pub(crate) heard: Heard,
    /// Who follows, and by which revision each answers.
    pub(crate) followers: Followers,
    /// For how long what was is kept; none: for ever.
    pub(crate) keeps: Option<Duration>,
    /// What operators may do.
    pub(crate) operators: Known,
    /// How fast agents make agents.
    pub(crate) pace: parking_lot::Mutex<Pace>,
    /// How fast agents ask for approvals.
    pub(crate) asking: parking_lot::Mutex<Pace>,
    /// The streams of many objects that are open, by who opened them.
    pub(crate) bulks: Turns,
    /// How it gets on with ending what is over.
    pub(crate) overdue: parking_lot::Mutex<Overdue>,
    /// Set once the server listens; cancelled when streams have to end.
    pub(crate) stopping: OnceLock<CancellationToken>,
}

/// A reading under way: one snapshot of the database, and what of it the caller may see.
pub(crate) struct Look<'t> {
    pub(crate) tx: &'t Tx,
    pub(crate) desk: &'t Desk,
    pub(crate) by: &'t By,
    pub(crate) mandate: Mandate,
    pub(crate) revision: u64,
    /// The oldest revision as of which anything can be read.
    pub(crate) oldest: u64,
    /// The last number that an object got.
    pub(crate) numbered: u64,
}

impl Desk {
    /// Reads on one snapshot, by the mandate that the caller has there. An emergency is on record before the answer.
    pub(crate) async fn look<T, F>(self: &Arc<Self>, name: &'static str, by: &By, body: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Look<'t>) -> BoxFuture<'t, TxResult<T, Fault>> + Send + 'static,
    {
        let now = self.clock.now();
        let (desk, caller) = (Arc::clone(self), by.clone());
        let read: TxResult<T, Fault> = self
            .db
            .read(name, move |tx| {
                Box::pin(async move {
                    let head = head::read_whole(tx).await?;
                    let mandate = mandate(&desk.operators, tx, &head, &caller, now).await?;
                    let (revision, oldest) = (unsigned(head.revision), unsigned(head.oldest));
                    let numbered = unsigned(head.numbered);
                    body(Look { tx, desk: &desk, by: &caller, mandate, revision, oldest, numbered }).await
                })
            })
            .await;
        let found = match read.map_err(of_tx) {
            Ok(found) => found,
            Err(fault) => {
                if is_for_want_of_a_role(&fault) {
                    self.note_refusal_of(convert::read_refused(by, name, &fault, now), &fault).await;
                }
                return Err(fault);
            }
        };
        if let Some(event) = convert::broke_glass(by, now) {
            self.record(Standard::Stopping, event).await?;
            self.tell_of_broken_glass(by);
        }
        Ok(found)
    }

    /// Says it where people look: the log and the metrics, to which an alert hangs.
    pub(super) fn tell_of_broken_glass(&self, by: &By) {
        if let Some(emergency) = by.operator.as_ref().and_then(|operator| operator.emergency.as_deref()) {
            self.metrics.broke_glass();
            tracing::warn!(operator = by.actor, emergency, "an operator broke the glass");
        }
    }

    async fn record(&self, standard: Standard, event: AuditEvent) -> Result<(), Fault> {
        let outbox = self.outbox.clone();
        let recorded = self.db.tx("record_event", move |tx| {
            let (outbox, event) = (outbox.clone(), event.clone());
            Box::pin(async move {
                outbox.record(tx, standard, event).await?;
                Ok(())
            })
        });
        recorded.await.map_err(of_tx)
    }

    /// Records that a write was refused. It was refused whether or not that can be recorded.
    pub(crate) async fn note_refusal(&self, call: &Call, method: &'static str, fault: &Fault) {
        self.note_refusal_of(convert::write_refused(&call.by, method, fault, self.clock.now()), fault).await;
    }

    async fn note_refusal_of(&self, event: AuditEvent, fault: &Fault) {
        self.metrics.refused(fault.reason());
        // What is unavailable or broken is no refusal, and recording it would only add to the trouble.
        if !matches!(fault, Fault::Refused(_)) {
            return;
        }
        if let Err(fault) = self.record(Standard::Ordinary, event).await {
            tracing::warn!(%fault, "a refusal could not be recorded");
        }
    }

    /// A new agent's id.
    pub(crate) fn agent_id(&self) -> Result<AgentId, Fault> {
        Ok(AgentId::from_parts(self.millis(), chance()?))
    }

    /// A new id of an approval.
    pub(crate) fn approval_id(&self) -> Result<ApprovalId, Fault> {
        Ok(ApprovalId::from_parts(self.millis(), chance()?))
    }

    /// A new id of a round of a review campaign.
    pub(crate) fn review_id(&self) -> Result<ReviewId, Fault> {
        Ok(ReviewId::from_parts(self.millis(), chance()?))
    }

    /// A new id of an item of such a round.
    pub(crate) fn review_item_id(&self) -> Result<ReviewItemId, Fault> {
        Ok(ReviewItemId::from_parts(self.millis(), chance()?))
    }

    /// A new id of an audit event, where something else has to name it.
    pub(crate) fn event_id(&self) -> Result<EventId, Fault> {
        Ok(EventId::from_parts(self.millis(), chance()?))
    }

    /// A new id of anything else.
    pub(crate) fn object_id(&self) -> Result<ObjectId, Fault> {
        Ok(ObjectId::from_parts(self.millis(), chance()?))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.clock.now().micros() / 1_000).unwrap_or(0)
    }
}

fn chance() -> Result<[u8; 10], Fault> {
    let mut bytes = [0; 10];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Fault::broken("the system gives no randomness"))?;
    Ok(bytes)
}
