//! What an operator may do here, by the view; and that what he was not let do, or did in an emergency, is on record.

use legate_outbox::Standard;
use legate_rpc::{Fault, Mandate, is_for_want_of_a_role};

use super::{Call, Desk};
use crate::convert;
use crate::error::of_tx;

impl Desk {
    /// What the caller may do now, by a view that is fresh enough.
    pub(crate) async fn mandate(&self, call: &Call) -> Result<Mandate, Fault> {
        let now = self.clock.now();
        let found = self.look(|snapshot| snapshot.mandate(&call.peer, call.emergency.as_deref(), now)).await?;
        Ok(found.0)
    }

    /// Makes an operator's journey, and records where he was not let make it.
    pub(crate) async fn for_operator<T>(
        &self,
        call: &Call,
        journey: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let made = journey.await;
        match &made {
            Err(fault) if is_for_want_of_a_role(fault) => self.note_refusal(call, "operator", None, fault).await,
            Ok(_) if call.emergency.is_some() => self.tell_of_broken_glass(call),
            _ => {}
        }
        made
    }

    /// Says it where people look: the log and the metrics, to which an alert hangs.
    fn tell_of_broken_glass(&self, call: &Call) {
        self.metrics.broke_glass();
        let (operator, emergency) = (call.peer.id_text(), call.emergency.as_deref());
        tracing::warn!(operator, emergency, "an operator broke the glass");
    }

    /// The emergency in which somebody only looks, on disk before he sees anything.
    pub(crate) async fn record_emergency(&self, call: &Call) -> Result<(), Fault> {
        let Some(event) = convert::broke_glass(call, self.clock.now()) else { return Ok(()) };
        let outbox = self.outbox.clone();
        let recorded = self.db.tx("record_emergency", move |tx| {
            let (outbox, event) = (outbox.clone(), event.clone());
            Box::pin(async move {
                outbox.record(tx, Standard::Stopping, event).await?;
                Ok(())
            })
        });
        recorded.await.map_err(of_tx)
    }
}
