//! Where events wait for the collector: the trait, and the outbox table behind it.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use legate_clock::Timestamp;
use legate_db::{Db, Tx, TxError};
use legate_rpc::Fault;
use legate_wire::audit::AuditEvent;
use prost::Message as _;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, ExprTrait as _};
use sea_orm::{QueryFilter as _, QueryOrder as _, QuerySelect as _};
use tokio::sync::{Mutex, watch};

use crate::heartbeat::{heartbeat, left};
use crate::record::{Outbox, Standard, unsigned};
use crate::schema::{event, head, new_epoch};

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

    /// The collector has other events under numbers of the epoch: the store is an earlier copy of itself, and what waits has to go
    /// under other numbers. A source that never gives a number again has nothing to do.
    fn differs(&self, _epoch: &str) -> impl Future<Output = Result<(), SourceError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Records that the emitter lives, to be shipped like everything else. One that cannot record anything does nothing.
    fn beat(&self) -> impl Future<Output = Result<(), SourceError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Records that the emitter is stopped in order: nobody is to miss it. One that tells so by itself does nothing.
    fn leave(&self) -> impl Future<Output = Result<(), SourceError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Ends when there may be more than the last `next_batch` saw. May end for nothing.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// The outbox of a database.
#[derive(Debug)]
pub struct DbSource {
    db: Db,
    commits: Mutex<watch::Receiver<u64>>,
    /// By which it is recorded that the emitter lives, and under which name.
    living: Option<(Outbox, String)>,
}

impl DbSource {
    /// The events that [`Outbox::record`](crate::Outbox::record) stored in `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        let mut commits = db.commits();
        commits.mark_changed();
        Self { db, commits: Mutex::new(commits), living: None }
    }

    /// The same, which tells that the copy of the service that is called `replica` lives, and when it leaves.
    #[must_use]
    pub fn with_heartbeats(self, outbox: Outbox, replica: String) -> Self {
        Self { living: Some((outbox, replica)), ..self }
    }

    /// Records an event of the emitter about itself.
    async fn note(&self, event: fn(&str) -> AuditEvent, standard: Standard) -> Result<(), SourceError> {
        let Some((outbox, replica)) = &self.living else { return Ok(()) };
        let (outbox, event) = (outbox.clone(), event(replica));
        let recorded = self.db.tx("outbox_note", move |tx| {
            let (outbox, event) = (outbox.clone(), event.clone());
            Box::pin(async move {
                outbox.record(tx, standard, event).await?;
                Ok::<_, TxError<Fault>>(())
            })
        });
        recorded.await.map_err(|e| SourceError(e.to_string()))
    }
}

impl From<TxError<Infallible>> for SourceError {
    fn from(e: TxError<Infallible>) -> Self {
        Self(e.to_string())
    }
}

/// Begins a new epoch. To be called when a database was opened to be written, before the first event.
///
/// A database that was restored from a copy, and has to use numbers again that it gave before, gives them under another
/// name then: the collector, which goes by epoch and number, would take the new events for those that it has.
///
/// # Errors
/// The database.
pub async fn begin_epoch(db: &Db) -> Result<(), TxError<Infallible>> {
    db.tx("outbox_epoch", |tx| {
        Box::pin(async move {
            head::Entity::update_many()
                .col_expr(head::Column::Epoch, Expr::value(new_epoch()))
                .col_expr(head::Column::Base, Expr::col(head::Column::LastPlace))
                .exec(tx)
                .await?;
            Ok(())
        })
    })
    .await
}

impl Source for DbSource {
    async fn next_batch(&self, max_events: usize, max_bytes: usize) -> Result<Option<Batch>, SourceError> {
        let limit = u64::try_from(std::cmp::max(max_events, 1)).unwrap_or(u64::MAX);
        let read = self.db.read("outbox_batch", move |tx| {
            Box::pin(async move {
                let head = head::Entity::find().one(tx).await?;
                let rows = event::Entity::find().order_by_asc(event::Column::Place).limit(limit).all(tx).await?;
                Ok::<_, TxError<Infallible>>((head, rows))
            })
        });
        let (Some(head), rows) = read.await? else {
            return Err(SourceError("the outbox has no head".to_owned()));
        };
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let (epoch, first_seq) = (first.epoch.clone(), unsigned(first.seq));
        let oldest = Timestamp::from_micros(first.recorded_at);
        let mut events = Vec::with_capacity(rows.len());
        let mut size = 0;
        for (row, seq) in rows.into_iter().zip(first_seq..) {
            size += row.event.len();
            if row.epoch != epoch || (!events.is_empty() && size > max_bytes) {
                break;
            }
            if unsigned(row.seq) != seq {
                return Err(SourceError(format!("the outbox lacks the event {seq} of the epoch {epoch}")));
            }
            events.push(numbered(&row, seq)?);
        }
        let waiting = unsigned(head.last_place - head.acked_place);
        Ok(Some(Batch { epoch, first_seq, events, oldest, waiting }))
    }

    async fn acked(&self, epoch: &str, seq: u64) -> Result<(), SourceError> {
        let wanted = epoch.to_owned();
        let last = self.db.tx("outbox_ack", move |tx| {
            let epoch = wanted.clone();
            Box::pin(async move { Ok::<_, TxError<Infallible>>(let_go(tx, &epoch, seq).await?) })
        });
        match last.await? {
            Acked::Done => Ok(()),
            // Told as a failure, and what waits is offered again under its new numbers.
            Acked::Ahead(last) => Err(SourceError(format!(
                "audit-collector holds event {seq} of the epoch {epoch}, and this database gave only {last}: it was \
                 restored from a copy; what waits is numbered again in a new epoch, and nothing of it is dropped"
            ))),
        }
    }

    async fn differs(&self, epoch: &str) -> Result<(), SourceError> {
        let wanted = epoch.to_owned();
        let done = self.db.tx("outbox_renumber", move |tx| {
            let epoch = wanted.clone();
            Box::pin(async move {
                let head = locked_head(tx).await?;
                if event::Entity::find().filter(event::Column::Epoch.eq(&*epoch)).one(tx).await?.is_some() {
                    renumber(tx, &head).await?;
                }
                Ok::<_, TxError<Infallible>>(())
            })
        });
        Ok(done.await?)
    }

    async fn beat(&self) -> Result<(), SourceError> {
        self.note(heartbeat, Standard::Ordinary).await
    }

    async fn leave(&self) -> Result<(), SourceError> {
        self.note(left, Standard::Stopping).await
    }

    async fn changed(&self) {
        // The bound catches what another process wrote.
        let mut commits = self.commits.lock().await;
        drop(tokio::time::timeout(Duration::from_secs(1), commits.changed()).await);
    }
}

/// What came of an acknowledgement.
enum Acked {
    Done,
    /// The collector knows numbers that this store never gave; here is the last that it gave.
    Ahead(u64),
}

async fn let_go(tx: &Tx, epoch: &str, seq: u64) -> Result<Acked, DbErr> {
    let head = locked_head(tx).await?;
    let of_epoch = event::Entity::find().filter(event::Column::Epoch.eq(epoch));
    let Some(newest) = of_epoch.clone().order_by_desc(event::Column::Seq).one(tx).await? else {
        return Ok(Acked::Done);
    };
    let last = unsigned(newest.seq);
    if seq > last {
        renumber(tx, &head).await?;
        return Ok(Acked::Ahead(last));
    }
    let up_to = i64::try_from(seq).unwrap_or(i64::MAX);
    let acked = of_epoch.filter(event::Column::Seq.lte(up_to)).order_by_desc(event::Column::Seq).one(tx).await?;
    if let Some(acked) = acked {
        head::Entity::update_many().col_expr(head::Column::AckedPlace, Expr::value(acked.place)).exec(tx).await?;
        event::Entity::delete_many().filter(event::Column::Place.lte(acked.place)).exec(tx).await?;
    }
    Ok(Acked::Done)
}

/// The head, with its row's lock, so that nobody records meanwhile.
async fn locked_head(tx: &Tx) -> Result<head::Model, DbErr> {
    let head = head::Entity::update_many()
        .col_expr(head::Column::AckedPlace, Expr::col(head::Column::AckedPlace))
        .exec_with_returning(tx)
        .await?
        .pop();
    head.ok_or_else(|| DbErr::RecordNotFound("outbox_head".to_owned()))
}

/// Puts everything that waits into a new epoch: of some of it the collector may hold others under the same numbers.
async fn renumber(tx: &Tx, head: &head::Model) -> Result<(), DbErr> {
    let epoch = new_epoch();
    event::Entity::update_many()
        .col_expr(event::Column::Epoch, Expr::value(epoch.clone()))
        .col_expr(event::Column::Seq, Expr::col(event::Column::Place).sub(head.acked_place))
        .exec(tx)
        .await?;
    head::Entity::update_many()
        .col_expr(head::Column::Epoch, Expr::value(epoch))
        .col_expr(head::Column::Base, Expr::value(head.acked_place))
        .exec(tx)
        .await?;
    Ok(())
}

/// The event with the number that it has now.
fn numbered(row: &event::Model, seq: u64) -> Result<Bytes, SourceError> {
    let broken =
        |why: &dyn std::fmt::Display| SourceError(format!("the event at place {} is broken: {why}", row.place));
    let mut event = AuditEvent::decode(row.event.as_slice()).map_err(|e| broken(&e))?;
    let emitter = event.emitter.as_mut().ok_or_else(|| broken(&"it has no emitter"))?;
    emitter.epoch.clone_from(&row.epoch);
    emitter.seq = seq;
    Ok(event.encode_to_vec().into())
}
