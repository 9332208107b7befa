//! The log's truth in PostgreSQL: a row for each group of leaves, appended by whoever holds the lease and by nobody else.
//!
//! The lease has an epoch, which grows whenever it is taken. Each write is one transaction that first finds the lease at the
//! writer's own epoch, and holds that row until it is committed: whoever was paused while another took the lead writes nothing any
//! more. What time it is is the database's to say.

mod batch;
mod held;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use legate_db::{Db, OpenError, Options, Tx, TxError};
use legate_merkle::Hash;
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, QueryResult, Statement, Value};

pub(crate) use batch::{Batch, packed, unpacked};
pub(crate) use held::Held;

use crate::schema::Migrator;

/// Connections: the commit, the lease, and who reads.
const POOL: u32 = 4;

/// A transaction takes no longer, or its outcome is found out by reading.
const LONGEST: Duration = Duration::from_secs(5);

/// Rows of one page, and their bytes.
const PAGE: i64 = 512;
const PAGE_BYTES: i64 = 8 << 20;

/// The database's clock, in microseconds since 1970.
const NOW: &str = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT";

/// The rows of one log. Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    db: Db,
    /// The log's name.
    shard: Arc<str>,
}

/// Why rows were not written, or cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotDone {
    /// The lease is at another epoch.
    #[error("another collector has taken the lead")]
    Fenced,
    /// Not now, or the answer was lost.
    #[error("the database of the commit log does not answer: {0}")]
    Away(String),
    /// What is there is not what was written.
    #[error("{0}")]
    Damaged(String),
}

/// Why the rows cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotOpened {
    #[error("the database of the commit log cannot be opened: {0}")]
    Open(#[from] OpenError),
    #[error("the database of the commit log cannot be brought up to date: {0}")]
    Migrate(DbErr),
}

/// Who wants to lead.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// The name of the directory that the copy of the log is in. Whoever comes again by it need not wait for its own lease: its
    /// directory is locked, so the process before it is gone, and if it were not, it would be fenced.
    pub(crate) holder: String,
    /// Where producers reach it.
    pub(crate) address: String,
    /// The log's public key.
    pub(crate) verifier_key: String,
    /// How long a lease lasts.
    pub(crate) ttl: Duration,
}

/// Who leads, or did last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) holder: String,
    pub(crate) address: String,
    pub(crate) epoch: u64,
    /// How long the lease lasts still, by the database's clock; zero: it is over.
    pub(crate) left: Duration,
}

/// Where the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

/// The one row about a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) verifier_key: String,
    pub(crate) leader: Leader,
    pub(crate) head: Head,
}

/// What came of a claim.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// The lease is ours.
    Lead(Held, Head),
    /// Another one's, and not over.
    Follow(Leader),
    /// The log is signed with this key, and not with ours.
    OtherKey(String),
}

impl Ledger {
    /// Opens the rows of the log called `shard`; makes the tables where they are missing.
    pub(crate) async fn open(url: &str, shard: &str) -> Result<Self, NotOpened> {
        let options = Options { pool: POOL, tx_timeout: LONGEST, ..Options::default() };
        let db = Db::open(url, options).await?;
        db.migrate::<Migrator>().await.map_err(NotOpened::Migrate)?;
        Ok(Self { db, shard: shard.into() })
    }

    pub(crate) async fn close(&self) {
        self.db.close().await;
    }

    /// Who leads and where the log is; `None`: there is no such log yet.
    pub(crate) async fn look(&self) -> Result<Option<Standing>, NotDone> {
        let shard = self.shard.to_string();
        let reading = self.db.peek("log_look", |db| {
            Box::pin(async move {
                let sql = format!(
                    "SELECT verifier_key, holder, address, epoch, GREATEST(lease_until - {NOW}, 0) AS left_us, size, root FROM log_lease WHERE shard = $1"
                );
                let row = db.query_one_raw(of(&sql, [shard.into()])).await?;
                row.map(|row| standing(&row)).transpose()
            })
        });
        reading.await.map_err(not_done)
    }

    /// Takes the lease where it is over, or was ours; its epoch grows by that.
    pub(crate) async fn claim(&self, claim: &Claim) -> Result<Claimed, NotDone> {
        let (shard, wanted) = (self.shard.to_string(), claim.clone());
        let taking = self.db.tx("log_lease_take", move |tx| {
            let (shard, claim) = (shard.clone(), wanted.clone());
            Box::pin(async move { take(tx, &shard, &claim).await })
        });
        let taken = taking.await.map_err(not_done)?;
        let found = match taken {
            Taken::Ours(found) => found,
            Taken::Theirs(leader) => return Ok(Claimed::Follow(leader)),
            Taken::OtherKey(key) => return Ok(Claimed::OtherKey(key)),
        };
        Ok(Claimed::Lead(Held::new(self.clone(), found.leader.epoch, claim.ttl), found.head))
    }

    /// Rows from the one that begins with leaf `from` on: some of them, at least one if there is any.
    pub(crate) async fn batches(&self, from: u64) -> Result<Vec<Batch>, NotDone> {
        let shard = self.shard.to_string();
        let reading = self.db.peek("log_rows", |db| {
            Box::pin(async move {
                let sql = "SELECT first_index, count, epoch, previous_root, root, leaves, names FROM (\
                    SELECT b.*, SUM(octet_length(leaves) + octet_length(names)) OVER (ORDER BY first_index) \
                        - octet_length(leaves) - octet_length(names) AS before \
                    FROM (SELECT * FROM log_batch WHERE shard = $1 AND first_index >= $2 ORDER BY first_index LIMIT $3) b) t \
                    WHERE before < $4 ORDER BY first_index";
                let values = [shard.into(), signed(from).into(), PAGE.into(), PAGE_BYTES.into()];
                Ok::<_, TxError<NotDone>>(db.query_all_raw(of(sql, values)).await?)
            })
        });
        reading.await.map_err(not_done)?.iter().map(Batch::read).collect()
    }

    /// The sealed names of rows from the one that has leaf `from` on, with the leaf that each row begins with and the one behind its
    /// last; rows without names are left out.
    pub(crate) async fn names(&self, from: u64) -> Result<Vec<(u64, u64, Vec<Vec<u8>>)>, NotDone> {
        let shard = self.shard.to_string();
        let reading = self.db.peek("log_names", |db| {
            Box::pin(async move {
                let sql = "SELECT first_index, count, names FROM log_batch WHERE shard = $1 AND octet_length(names) > 0 \
                    AND first_index + count > $2 AND first_index >= COALESCE((SELECT MAX(first_index) FROM log_batch \
                    WHERE shard = $1 AND first_index <= $2), 0) ORDER BY first_index LIMIT $3";
                let values = [shard.into(), signed(from).into(), PAGE.into()];
                Ok::<_, TxError<NotDone>>(db.query_all_raw(of(sql, values)).await?)
            })
        });
        let read = |row: &QueryResult| {
            let first = number(row, "first_index")?;
            let names: Vec<u8> = column(row, "names")?;
            let unpacked = unpacked(&names).ok_or_else(|| NotDone::Damaged(format!("the names of row {first}")))?;
            Ok((first, first + number(row, "count")?, unpacked))
        };
        reading.await.map_err(not_done)?.iter().map(read).collect()
    }

    /// A small thing that is kept beside the rows.
    pub(crate) async fn note(&self, name: &'static str) -> Result<Option<Vec<u8>>, NotDone> {
        let shard = self.shard.to_string();
        let reading = self.db.peek("log_note", |db| {
            Box::pin(async move {
                let sql = "SELECT value FROM log_note WHERE shard = $1 AND name = $2";
                let row = db.query_one_raw(of(sql, [shard.into(), name.into()])).await?;
                Ok::<_, TxError<NotDone>>(row.map(|row| row.try_get("", "value")).transpose()?)
            })
        });
        reading.await.map_err(not_done)
    }

    /// The slots of the keys of names, from slot `from` on, in order: some of them, at least one if there is any.
    pub(crate) async fn slots(&self, from: u64) -> Result<Vec<(u64, Vec<u8>)>, NotDone> {
        let shard = self.shard.to_string();
        let reading = self.db.peek("log_slots", |db| {
            Box::pin(async move {
                let sql =
                    "SELECT slot, wrapped FROM log_name_key WHERE shard = $1 AND slot >= $2 ORDER BY slot LIMIT 8192";
                let values = [shard.into(), signed(from).into()];
                Ok::<_, TxError<NotDone>>(db.query_all_raw(of(sql, values)).await?)
            })
        });
        let read = |row: &QueryResult| Ok((number(row, "slot")?, column(row, "wrapped")?));
        reading.await.map_err(not_done)?.iter().map(read).collect()
    }
}

enum Taken {
    Ours(Standing),
    Theirs(Leader),
    OtherKey(String),
}

async fn take(tx: &Tx, shard: &str, claim: &Claim) -> Result<Taken, TxError<NotDone>> {
    let new = "INSERT INTO log_lease (shard, verifier_key, epoch, holder, address, lease_until, size, root) \
        VALUES ($1, $2, 0, '', '', 0, 0, $3) ON CONFLICT (shard) DO NOTHING";
    let root = legate_merkle::empty_root().to_vec();
    tx.execute_raw(of(new, [shard.into(), claim.verifier_key.clone().into(), root.into()])).await?;
    let sql = format!(
        "SELECT verifier_key, holder, address, epoch, GREATEST(lease_until - {NOW}, 0) AS left_us, size, root FROM log_lease WHERE shard = $1 FOR UPDATE"
    );
    let row = tx.query_one_raw(of(&sql, [shard.into()])).await?;
    let mut found = standing(&row.ok_or_else(|| damaged("the lease is gone"))?)?;
    if found.verifier_key != claim.verifier_key {
        return Ok(Taken::OtherKey(found.verifier_key));
    }
    if found.leader.holder != claim.holder && found.leader.left > Duration::ZERO {
        return Ok(Taken::Theirs(found.leader));
    }
    let sql = format!(
        "UPDATE log_lease SET epoch = epoch + 1, holder = $2, address = $3, lease_until = {NOW} + $4 WHERE shard = $1"
    );
    let values = [shard.into(), claim.holder.clone().into(), claim.address.clone().into(), micros(claim.ttl).into()];
    tx.execute_raw(of(&sql, values)).await?;
    found.leader.epoch += 1;
    Ok(Taken::Ours(found))
}

fn standing(row: &QueryResult) -> Result<Standing, TxError<NotDone>> {
    let text = |name: &str| row.try_get::<String>("", name);
    let root: Vec<u8> = row.try_get("", "root")?;
    let number = |name: &str| row.try_get::<i64>("", name).map(unsigned);
    Ok(Standing {
        verifier_key: text("verifier_key")?,
        leader: Leader {
            holder: text("holder")?,
            address: text("address")?,
            epoch: number("epoch")?,
            left: Duration::from_micros(number("left_us")?),
        },
        head: Head { size: number("size")?, root: root.try_into().map_err(|_| damaged("the head's root"))? },
    })
}

fn damaged(what: &str) -> TxError<NotDone> {
    TxError::Flow(NotDone::Damaged(format!("{what} is not what was written")))
}

/// A statement of PostgreSQL's.
fn of<const N: usize>(sql: &str, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

/// Every write here is good to be done again, so that what failed oddly is tried again like what was not answered.
fn not_done(e: TxError<NotDone>) -> NotDone {
    match e {
        TxError::Flow(e) => e,
        TxError::Unavailable(e) | TxError::Broken(e) => NotDone::Away(e.to_string()),
    }
}

fn column<T: sea_orm::TryGetable>(row: &QueryResult, name: &str) -> Result<T, NotDone> {
    row.try_get("", name).map_err(|e| NotDone::Damaged(e.to_string()))
}

fn number(row: &QueryResult, name: &str) -> Result<u64, NotDone> {
    column::<i64>(row, name).map(unsigned)
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
