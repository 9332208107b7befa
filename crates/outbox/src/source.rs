//! Where events wait for the collector: the trait, and the outbox table behind it.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use legate_clock::Timestamp;
use legate_db::{Db, TxError};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _};
use tokio::sync::{Mutex, watch};

use crate::record::unsigned;
use crate::schema::{event, head};

/// Why a source did not answer; it is asked again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Events in order, without gaps.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The life of the store that numbered them.
    pub epoch: String,
    /// The number of the first.
    pub first_seq: u64,
    /// The serialized events; never empty.
    pub events: Vec<Bytes>,
    /// When the first was recorded.
    pub oldest: Timestamp,
    /// How many wait, these included.
    pub waiting: u64,
}

impl Batch {
    /// The number of the last event.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.first_seq + (self.events.len() as u64).saturating_sub(1)
    }
}

/// Where events wait. One shipper asks, one call at a time.
pub trait Source: Send + Sync + 'static {
    /// The oldest events that are not acknowledged, `max_events` and `max_bytes` at most but at least one.
    fn next_batch(
        &self,
        max_events: usize,
        max_bytes: usize,
    ) -> impl Future<Output = Result<Option<Batch>, SourceError>> + Send;

    /// The collector has every event of the epoch up to `seq`: they need not be kept.
    fn acked(&self, epoch: &str, seq: u64) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Ends when there may be more than the last `next_batch` saw. May end for nothing.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// The outbox of a database.
#[derive(Debug)]
pub struct DbSource {
    db: Db,
    commits: Mutex<watch::Receiver<u64>>,
}

impl DbSource {
    /// The events that [`Outbox::record`](crate::Outbox::record) stored in `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        let mut commits = db.commits();
        commits.mark_changed();
        Self { db, commits: Mutex::new(commits) }
    }
}

impl From<TxError<std::convert::Infallible>> for SourceError {
    fn from(e: TxError<std::convert::Infallible>) -> Self {
        Self(e.to_string())
    }
}

impl Source for DbSource {
    async fn next_batch(&self, max_events: usize, max_bytes: usize) -> Result<Option<Batch>, SourceError> {
        let limit = u64::try_from(max_events).unwrap_or(u64::MAX).max(1);
        let read = self.db.read("outbox_batch", move |tx| {
            Box::pin(async move {
                let head = head::Entity::find().one(tx).await?;
                let rows = event::Entity::find().order_by_asc(event::Column::Seq).limit(limit).all(tx).await?;
                Ok::<_, TxError<std::convert::Infallible>>((head, rows))
            })
        });
        let (Some(head), rows) = read.await? else {
            return Err(SourceError("the outbox has no head".to_owned()));
        };
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let first_seq = unsigned(first.seq);
        let oldest = Timestamp::from_micros(first.recorded_at);
        let mut events = Vec::with_capacity(rows.len());
        let mut size = 0;
        for (row, seq) in rows.into_iter().zip(first_seq..) {
            size += row.event.len();
            if !events.is_empty() && size > max_bytes {
                break;
            }
            if unsigned(row.seq) != seq {
                return Err(SourceError(format!("the outbox lacks the event {seq}")));
            }
            events.push(Bytes::from(row.event));
        }
        Ok(Some(Batch {
            epoch: head.epoch,
            first_seq,
            events,
            oldest,
            waiting: unsigned(head.last_seq).saturating_sub(unsigned(head.acked_seq)),
        }))
    }

    async fn acked(&self, epoch: &str, seq: u64) -> Result<(), SourceError> {
        let epoch = epoch.to_owned();
        let seq = i64::try_from(seq).map_err(|e| SourceError(e.to_string()))?;
        self.db
            .tx("outbox_ack", move |tx| {
                let epoch = epoch.clone();
                Box::pin(async move {
                    let moved = head::Entity::update_many()
                        .col_expr(head::Column::AckedSeq, Expr::value(seq))
                        .filter(head::Column::Epoch.eq(epoch))
                        .filter(head::Column::AckedSeq.lt(seq))
                        .filter(head::Column::LastSeq.gte(seq))
                        .exec(tx)
                        .await?;
                    if moved.rows_affected == 1 {
                        event::Entity::delete_many()
                            .filter(event::Column::Seq.lte(seq))
                            .exec(tx)
                            .await?;
                    }
                    let head = head::Entity::find().one(tx).await?;
                    Ok::<_, TxError<std::convert::Infallible>>(head.map_or(0, |h| h.acked_seq))
                })
            })
            .await
            .map_err(SourceError::from)
            .and_then(|acked| {
                // The collector knows numbers that this store never gave: it was restored from a copy.
                (acked >= seq).then_some(()).ok_or_else(|| {
                    SourceError(format!(
                        "audit-collector holds event {seq} of this epoch, and this database does not: was it restored from a copy?"
                    ))
                })
            })
    }

    async fn changed(&self) {
        // The bound catches what another process wrote.
        let mut commits = self.commits.lock().await;
        drop(tokio::time::timeout(Duration::from_secs(1), commits.changed()).await);
    }
}
