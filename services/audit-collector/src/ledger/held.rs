//! A lease that was taken: the only thing that writes rows, and not any more once somebody else took it.

use std::sync::Arc;
use std::time::Duration;

use legate_db::{Tx, TxError};
use legate_planted::Bug;
use sea_orm::ConnectionTrait as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Batch, Ledger, NOW, NotDone, damaged, micros, not_done, of, packed, signed, standing};

/// For so long it is tried to find out what became of a write; then the log stops, and whoever opens it next reads it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The wait after a failure doubles from the first to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// The condition that fences. Planted for a test: a holder who is not asked whether he still is.
fn fence() -> &'static str {
    if legate_planted::is(Bug::NoFence) { "epoch >= $2" } else { "epoch = $2" }
}

/// The lease at one epoch. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    ledger: Ledger,
    epoch: u64,
    ttl: Duration,
    lost: CancellationToken,
}

impl Held {
    pub(super) fn new(ledger: Ledger, epoch: u64, ttl: Duration) -> Self {
        Self { ledger, epoch, ttl, lost: CancellationToken::new() }
    }

    /// Its rows.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Cancelled once it is known that somebody else leads.
    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Prolongs the lease, for as long as the process lives and the lease is ours.
    pub(crate) async fn renew_forever(self) {
        while !self.lost.is_cancelled() {
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, epoch = self.epoch, "the lease of the log is not prolonged");
            }
            tokio::time::sleep(self.ttl / 4).await;
        }
    }

    /// Prolongs the lease.
    pub(crate) async fn renew(&self) -> Result<(), NotDone> {
        let sql = format!("UPDATE log_lease SET lease_until = {NOW} + $3 WHERE shard = $1 AND {}", fence());
        self.lease("log_lease_renew", sql, micros(self.ttl)).await
    }

    /// That the lease is ours still, which it is for a while then.
    pub(crate) async fn confirm(&self, waits: impl Fn(Option<String>)) -> Result<(), NotDone> {
        self.until_known(waits, || self.renew()).await
    }

    /// Ends the lease, so that another one need not wait for it.
    pub(crate) async fn release(&self) -> Result<(), NotDone> {
        let sql = format!("UPDATE log_lease SET lease_until = $3 WHERE shard = $1 AND {}", fence());
        self.lease("log_lease_release", sql, 0).await
    }

    async fn lease(&self, name: &'static str, sql: String, until: i64) -> Result<(), NotDone> {
        let (shard, epoch) = (Arc::clone(&self.ledger.shard), signed(self.epoch));
        let writing = self.ledger.db.tx(name, move |tx| {
            let (shard, sql) = (Arc::clone(&shard), sql.clone());
            Box::pin(async move {
                let values = [shard.to_string().into(), epoch.into(), until.into()];
                let done = tx.execute_raw(of(&sql, values)).await?;
                if done.rows_affected() == 1 { Ok(()) } else { Err(TxError::Flow(NotDone::Fenced)) }
            })
        });
        self.told(writing.await.map_err(not_done))
    }

    /// Commits a group of leaves behind those that are there. Where the answer is lost, the rows are asked whether it was
    /// committed; nothing is guessed. `waits` hears why it takes longer, if it does.
    pub(crate) async fn commit(&self, batch: Batch, waits: impl Fn(Option<String>)) -> Result<(), NotDone> {
        let batch = Arc::new(Batch { epoch: self.epoch, ..batch });
        self.until_known(waits, || self.commit_once(Arc::clone(&batch))).await
    }

    pub(super) async fn commit_once(&self, batch: Arc<Batch>) -> Result<(), NotDone> {
        let (shard, ttl) = (Arc::clone(&self.ledger.shard), self.ttl);
        let writing = self.ledger.db.tx("log_commit", move |tx| {
            let (shard, batch) = (shard.to_string(), Arc::clone(&batch));
            Box::pin(async move { append(tx, &shard, &batch, ttl).await })
        });
        self.told(writing.await.map_err(not_done))
    }

    /// Keeps a small thing beside the rows, in the place of what was kept under this name; `None`: nothing any more.
    pub(crate) async fn put_note(&self, name: &'static str, value: Option<Vec<u8>>) -> Result<(), NotDone> {
        self.until_known(drop, || self.put_note_once(name, value.clone())).await
    }

    /// The same, tried once.
    pub(crate) async fn put_note_once(&self, name: &'static str, value: Option<Vec<u8>>) -> Result<(), NotDone> {
        let (shard, epoch) = (Arc::clone(&self.ledger.shard), signed(self.epoch));
        let writing = self.ledger.db.tx("log_note_put", move |tx| {
            let (shard, value) = (shard.to_string(), value.clone());
            Box::pin(async move {
                hold(tx, &shard, epoch).await?;
                let done = match value {
                    None => of("DELETE FROM log_note WHERE shard = $1 AND name = $2", [shard.into(), name.into()]),
                    Some(value) => {
                        let sql = "INSERT INTO log_note (shard, name, value) VALUES ($1, $2, $3) \
                            ON CONFLICT (shard, name) DO UPDATE SET value = EXCLUDED.value";
                        of(sql, [shard.into(), name.into(), value.into()])
                    }
                };
                tx.execute_raw(done).await?;
                Ok(())
            })
        });
        self.told(writing.await.map_err(not_done))
    }

    /// Says that the log is signed with this key from now on.
    pub(crate) async fn sign_with(&self, verifier_key: String) -> Result<(), NotDone> {
        self.until_known(drop, || self.sign_with_once(verifier_key.clone())).await
    }

    async fn sign_with_once(&self, verifier_key: String) -> Result<(), NotDone> {
        let (shard, epoch) = (Arc::clone(&self.ledger.shard), signed(self.epoch));
        let writing = self.ledger.db.tx("log_key_name", move |tx| {
            let (shard, key) = (shard.to_string(), verifier_key.clone());
            Box::pin(async move {
                let sql = format!("UPDATE log_lease SET verifier_key = $3 WHERE shard = $1 AND {}", fence());
                let done = tx.execute_raw(of(&sql, [shard.into(), epoch.into(), key.into()])).await?;
                if done.rows_affected() == 1 { Ok(()) } else { Err(TxError::Flow(NotDone::Fenced)) }
            })
        });
        self.told(writing.await.map_err(not_done))
    }

    /// Keeps slots of keys of names, in the place of what was in them.
    pub(crate) async fn put_slots(&self, slots: Vec<(u64, Vec<u8>)>) -> Result<(), NotDone> {
        for some in slots.chunks(2_048) {
            let some: Arc<[(u64, Vec<u8>)]> = some.into();
            self.until_known(drop, || self.put_slots_once(Arc::clone(&some))).await?;
        }
        Ok(())
    }

    async fn put_slots_once(&self, slots: Arc<[(u64, Vec<u8>)]>) -> Result<(), NotDone> {
        let (shard, epoch) = (Arc::clone(&self.ledger.shard), signed(self.epoch));
        let writing = self.ledger.db.tx("log_slots_put", move |tx| {
            let (shard, slots) = (shard.to_string(), Arc::clone(&slots));
            Box::pin(async move {
                hold(tx, &shard, epoch).await?;
                let sql = "INSERT INTO log_name_key (shard, slot, wrapped) VALUES ($1, $2, $3) \
                    ON CONFLICT (shard, slot) DO UPDATE SET wrapped = EXCLUDED.wrapped";
                for (slot, wrapped) in slots.iter() {
                    let values = [shard.clone().into(), signed(*slot).into(), wrapped.clone().into()];
                    tx.execute_raw(of(sql, values)).await?;
                }
                Ok(())
            })
        });
        self.told(writing.await.map_err(not_done))
    }

    /// Does something until it is known how it ended. It has to be good to be done again.
    async fn until_known<F: Future<Output = Result<(), NotDone>>>(
        &self,
        waits: impl Fn(Option<String>),
        once: impl Fn() -> F,
    ) -> Result<(), NotDone> {
        let (started, mut wait, mut is_told) = (Instant::now(), WAITS.0, false);
        loop {
            let why = match once().await {
                Err(NotDone::Away(why)) => why,
                known => {
                    if is_told {
                        waits(None);
                    }
                    return known;
                }
            };
            if self.lost.is_cancelled() {
                return Err(NotDone::Fenced);
            }
            if started.elapsed() > PATIENCE {
                return Err(NotDone::Away(why));
            }
            if !is_told {
                tracing::warn!(why, "a write to the commit log was not answered; what became of it is found out");
            }
            waits(Some(why));
            is_told = true;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.lost.cancelled() => return Err(NotDone::Fenced),
            }
            wait = (wait * 2).min(WAITS.1);
        }
    }

    fn told<T>(&self, outcome: Result<T, NotDone>) -> Result<T, NotDone> {
        if matches!(outcome, Err(NotDone::Fenced)) {
            self.lost.cancel();
        }
        outcome
    }
}

/// Holds the lease's row until the transaction ends, at our epoch.
async fn hold(tx: &Tx, shard: &str, epoch: i64) -> Result<(), TxError<NotDone>> {
    let sql = format!("SELECT 1 AS one FROM log_lease WHERE shard = $1 AND {} FOR UPDATE", fence());
    let found = tx.query_one_raw(of(&sql, [shard.into(), epoch.into()])).await?;
    found.map(drop).ok_or(TxError::Flow(NotDone::Fenced))
}

/// Moves the head and writes the row, or finds that this very row was committed before. The update waits for whoever has the
/// lease's row, so that a commit whose answer was lost has ended one way or the other when this goes on.
async fn append(tx: &Tx, shard: &str, batch: &Batch, ttl: Duration) -> Result<(), TxError<NotDone>> {
    let (epoch, first, end) = (signed(batch.epoch), signed(batch.first), signed(batch.end()));
    let sql = format!(
        "UPDATE log_lease SET size = $4, root = $6, lease_until = GREATEST(lease_until, {NOW} + $7) \
        WHERE shard = $1 AND {} AND size = $3 AND root = $5",
        fence()
    );
    let values = [
        shard.into(),
        epoch.into(),
        first.into(),
        end.into(),
        batch.previous_root.to_vec().into(),
        batch.root.to_vec().into(),
        micros(ttl).into(),
    ];
    if tx.execute_raw(of(&sql, values)).await?.rows_affected() == 1 {
        let sql = "INSERT INTO log_batch (shard, first_index, count, epoch, previous_root, root, leaves, names) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let values = [
            shard.into(),
            first.into(),
            (end - first).into(),
            epoch.into(),
            batch.previous_root.to_vec().into(),
            batch.root.to_vec().into(),
            packed(&batch.leaves).into(),
            packed(&batch.names).into(),
        ];
        tx.execute_raw(of(sql, values)).await?;
        return Ok(());
    }
    hold(tx, shard, epoch).await?;
    let sql =
        "SELECT verifier_key, holder, address, epoch, 0::BIGINT AS left_us, size, root FROM log_lease WHERE shard = $1";
    let row = tx.query_one_raw(of(sql, [shard.into()])).await?;
    let head = standing(&row.ok_or_else(|| damaged("the lease is gone"))?)?.head;
    let sql = "SELECT epoch, root FROM log_batch WHERE shard = $1 AND first_index = $2";
    let row = tx.query_one_raw(of(sql, [shard.into(), first.into()])).await?;
    let ours = match row {
        Some(row) => row.try_get::<i64>("", "epoch")? == epoch && row.try_get::<Vec<u8>>("", "root")? == batch.root,
        None => false,
    };
    if ours && head.size == batch.end() && head.root == batch.root {
        return Ok(());
    }
    let why = format!("the log in the database ends at {} where this collector left it at {}", head.size, batch.first);
    Err(TxError::Flow(NotDone::Damaged(why)))
}
