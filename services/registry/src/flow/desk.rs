//! What every journey needs: the database, the outbox, time, the tail of the stream, and what is counted.

use std::sync::{Arc, OnceLock};

use legate_clock::Clock;
use legate_db::Db;
use legate_ids::{AgentId, ObjectId, SpiffeId, TrustDomain};
use legate_outbox::{Outbox, Standard};
use legate_rpc::{Fault, Pages};
use tokio_util::sync::CancellationToken;

use super::{Call, Tail};
use crate::convert;
use crate::error::of_tx;
use crate::metrics::Metrics;

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
    /// Set once the server listens; cancelled when streams have to end.
    pub(crate) stopping: OnceLock<CancellationToken>,
}

impl Desk {
    /// Records that a write was refused. It was refused whether or not that can be recorded.
    pub(crate) async fn note_refusal(&self, call: &Call, method: &'static str, fault: &Fault) {
        self.metrics.refused(fault.reason());
        // What is unavailable or broken is no refusal, and recording it would only add to the trouble.
        if !matches!(fault, Fault::Refused(_)) {
            return;
        }
        let event = convert::write_refused(&call.by, method, fault, self.clock.now());
        let outbox = self.outbox.clone();
        let recorded = self.db.tx("record_refusal", move |tx| {
            let (outbox, event) = (outbox.clone(), event.clone());
            Box::pin(async move {
                outbox.record(tx, Standard::Ordinary, event).await?;
                Ok(())
            })
        });
        if let Err(fault) = recorded.await.map_err(of_tx) {
            tracing::warn!(%fault, "a refusal could not be recorded");
        }
    }

    /// A new agent's id.
    pub(crate) fn agent_id(&self) -> Result<AgentId, Fault> {
        Ok(AgentId::from_parts(self.millis(), chance()?))
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
