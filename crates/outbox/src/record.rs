//! Recording an event in the caller's transaction, with the next number of this store.

use std::sync::Arc;

use legate_clock::Clock;
use legate_db::{Tx, rows};
use legate_ids::{EventId, SpiffeId};
use legate_wire::audit::{AuditEvent, Emitter};
use prost::Message as _;
use sea_orm::sea_query::Expr;
use sea_orm::{DbErr, EntityTrait as _, ExprTrait as _};

use crate::RecordError;
use crate::schema::{event, head};

/// The largest event that the collector takes, in bytes.
const LARGEST: usize = 60 * 1_024;

/// How much the outbox holds before it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// Refused once the backlog is at its bound.
    Ordinary,
    /// Refused once the backlog is at half of its bound: for many writes that can wait, so that the others need not.
    Patient,
    /// May use the reserve of one tenth above the bound: for what stops somebody, such as a suspension.
    Stopping,
}

/// Records events of one emitter.
#[derive(Clone, Debug)]
pub struct Outbox {
    emitter: SpiffeId,
    clock: Arc<dyn Clock>,
    bound: u64,
}

impl Outbox {
    /// An outbox for `emitter` that holds `bound` events at most, and a tenth more for what stops somebody.
    #[must_use]
    pub fn new(emitter: SpiffeId, clock: Arc<dyn Clock>, bound: u64) -> Self {
        Self { emitter, clock, bound }
    }

    /// Stores `event` under the next `seq`, which it returns. Sets the emitter, and the id and the time where
    /// they are not set. Call it last in the transaction: it holds a lock until the commit.
    ///
    /// # Errors
    /// [`RecordError`]: the transaction must not commit then, so give it to `?`.
    pub async fn record(&self, tx: &Tx, standard: Standard, event: AuditEvent) -> Result<u64, RecordError> {
        self.record_all(tx, standard, vec![event]).await
    }

    /// Stores events under the next numbers, in their order; the last of these numbers, 0 where there are no events. As
    /// [`Outbox::record`].
    ///
    /// # Errors
    /// As [`Outbox::record`]; none of them is stored then.
    pub async fn record_all(&self, tx: &Tx, standard: Standard, events: Vec<AuditEvent>) -> Result<u64, RecordError> {
        if events.is_empty() {
            return Ok(0);
        }
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let head = head::Entity::update_many()
            .col_expr(head::Column::LastPlace, Expr::col(head::Column::LastPlace).add(count))
            .exec_with_returning(tx)
            .await?
            .pop()
            .ok_or_else(|| DbErr::RecordNotFound("outbox_head".to_owned()))?;
        let bound = match standard {
            Standard::Ordinary => self.bound,
            Standard::Patient => self.bound.div_ceil(2),
            Standard::Stopping => self.bound.saturating_add(self.bound / 10).saturating_add(1),
        };
        // Before the last of them.
        let waiting = unsigned(head.last_place - head.acked_place - 1);
        if waiting >= bound {
            return Err(RecordError::Full(waiting));
        }

        let now = self.clock.now();
        let millis = u64::try_from(now.micros() / 1_000).unwrap_or(0);
        let mut rows = Vec::with_capacity(events.len());
        for (mut event, place) in events.into_iter().zip(head.last_place - count + 1..) {
            let seq = place - head.base;
            event.emitter =
                Some(Emitter { spiffe_id: self.emitter.to_string(), epoch: head.epoch.clone(), seq: unsigned(seq) });
            if event.event_id.is_empty() {
                event.event_id = EventId::from_parts(millis, rand::random()).to_string();
            }
            event.time.get_or_insert_with(|| now.into());
            let bytes = event.encode_to_vec();
            if bytes.len() > LARGEST {
                return Err(RecordError::TooLarge(bytes.len()));
            }
            let (epoch, recorded_at) = (head.epoch.clone(), now.micros());
            rows.push(event::Model { place, epoch, seq, event: bytes, recorded_at });
        }
        rows::insert::<event::Entity>(tx, rows, None).await?;
        Ok(unsigned(head.last_place - head.base))
    }
}

/// A counter from the database, which never holds a negative one.
pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
