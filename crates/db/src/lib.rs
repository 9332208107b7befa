//! The database: SQLite or PostgreSQL, named transactions, group commit, faults on demand.
//!
//! Every write is [`Db::tx`] and has a name: the name is its metric label, its span and its fault point.
//! On SQLite one writer runs queued transactions inside savepoints of one outer transaction and commits
//! them together, so that one fsync pays for many; what nobody waits behind needs no savepoint. On
//! PostgreSQL each has its own connection at `READ COMMITTED`: a transaction that reads, decides and writes
//! first locks the row it decides on (`SELECT ... FOR UPDATE`), and serialization failures and deadlocks are
//! retried.

mod error;
pub mod fault;
mod metrics;
mod options;
mod postgres;
pub mod rows;
mod schema;
mod sqlite;
#[doc(hidden)]
pub mod testing;
mod writer;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sea_orm::{
    AccessMode, ConnectionTrait as _, DatabaseConnection, DbErr, IsolationLevel, SqliteTransactionMode,
    TransactionOptions, TransactionTrait as _,
};
use sea_orm_migration::MigratorTrait;
use tokio::sync::watch;
use tracing::Instrument as _;

pub use error::{OpenError, TxError};
pub use fault::{Fault, Faults};
pub use options::Options;
pub use schema::create_tables;

/// One transaction; hand it to sea-orm where it wants a connection.
pub type Tx = sea_orm::DatabaseTransaction;

/// What a transaction's body returns.
pub type TxResult<T, E> = Result<T, TxError<E>>;

/// Which database stands behind a [`Db`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// SQLite, in this process.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// An open database; clones share it.
#[derive(Clone, Debug)]
pub struct Db {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    faults: Arc<Faults>,
    metrics: metrics::Metrics,
    commits: watch::Sender<u64>,
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    Sqlite { writer: writer::Writer, readers: DatabaseConnection },
    Postgres { pool: DatabaseConnection },
}

impl Db {
    /// Opens `sqlite:PATH` (made when missing, with its folder) or `postgres://...`.
    ///
    /// # Errors
    /// A URL of another kind, an SQLite older than 3.51.3, or a database that does not answer.
    pub async fn open(url: &str, options: Options) -> Result<Self, OpenError> {
        let faults = Arc::new(Faults::default());
        let metrics = metrics::Metrics::default();
        let (commits, _) = watch::channel(0);
        let engine = if url.starts_with("sqlite:") {
            let (opener, readers) = sqlite::open(url, &options).await?;
            let writer = writer::Writer::start(opener, &options, metrics.clone(), commits.clone()).await?;
            Engine::Sqlite { writer, readers }
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let pool = postgres::open(url, &options).await?;
            Engine::Postgres { pool }
        } else {
            return Err(OpenError::Url);
        };
        let inner = Inner { options, faults, metrics, commits, engine };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match self.inner.engine {
            Engine::Sqlite { .. } => Backend::Sqlite,
            Engine::Postgres { .. } => Backend::Postgres,
        }
    }

    /// The faults that tests plan, by transaction name.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// Counts this handle's commits; changes after each one, so it wakes whoever follows the data.
    #[must_use]
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.inner.commits.subscribe()
    }

    /// Adds the transactions' counters and durations to a registry of metrics.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.inner.metrics.register(registry);
    }

    /// Brings the schema up to date, in one transaction; several replicas may do so at once.
    ///
    /// # Errors
    /// A migration failed, or the database has one that this program does not know.
    pub async fn migrate<M: MigratorTrait>(&self) -> Result<(), DbErr> {
        let tx = match &self.inner.engine {
            Engine::Sqlite { writer, .. } => {
                let mode = TransactionOptions {
                    sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                    ..TransactionOptions::default()
                };
                writer.connection().await.begin_with_options(mode).await?
            }
            Engine::Postgres { pool } => {
                let tx = pool.begin().await?;
                let unbounded = "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; \
                    SET LOCAL idle_in_transaction_session_timeout = 0";
                tx.execute_unprepared(unbounded).await?;
                tx.execute_unprepared("SELECT pg_advisory_xact_lock(1818585972)").await?;
                tx
            }
        };
        M::up(&tx, None).await?;
        tx.commit().await
    }

    /// Runs a writing transaction. `body` may run more than once, so it has no effect outside `tx`.
    ///
    /// `Ok` means committed and synced. `Unavailable` and `Broken` may also mean committed with the
    /// answer lost: repeat only what is idempotent.
    ///
    /// # Errors
    /// [`TxError`]; with any error of `body`, nothing of it is kept.
    pub async fn tx<T, E, F>(&self, name: &'static str, body: F) -> TxResult<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: for<'a> Fn(&'a Tx) -> BoxFuture<'a, TxResult<T, E>> + Send + Sync + 'static,
    {
        let span = tracing::info_span!("db.tx", db.transaction = name);
        let started = Instant::now();
        let fault = self.inner.faults.take(name);
        let result = match &self.inner.engine {
            Engine::Sqlite { writer, .. } => {
                writer.run(body, fault, self.inner.options.acquire_timeout).instrument(span).await
            }
            Engine::Postgres { pool } => {
                let result = postgres::run(pool, &self.inner.options, name, &body, fault).instrument(span).await;
                if result.is_ok() {
                    self.inner.commits.send_modify(|n| *n += 1);
                }
                result
            }
        };
        self.inner.metrics.done(name, &result, started.elapsed());
        result
    }

    /// Runs a reading transaction on one snapshot; writing in it fails.
    ///
    /// # Errors
    /// [`TxError`].
    pub async fn read<T, E, F>(&self, name: &'static str, body: F) -> TxResult<T, E>
    where
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, TxResult<T, E>> + Send,
    {
        let span = tracing::info_span!("db.read", db.transaction = name);
        let started = Instant::now();
        let result = self.read_once(name, body).instrument(span).await;
        self.inner.metrics.done(name, &result, started.elapsed());
        result
    }

    /// Runs a reading body outside of a transaction: each of its statements sees what is committed when it begins. For what
    /// is one statement, or several that need not agree: it spares the begin and the end of [`Db::read`].
    ///
    /// # Errors
    /// [`TxError`].
    pub async fn peek<T, E, F>(&self, name: &'static str, body: F) -> TxResult<T, E>
    where
        F: for<'a> FnOnce(&'a DatabaseConnection) -> BoxFuture<'a, TxResult<T, E>> + Send,
    {
        let span = tracing::info_span!("db.read", db.transaction = name);
        let started = Instant::now();
        let inner = &self.inner;
        let result = if inner.faults.take(name).is_some() {
            Err(TxError::unavailable("a planned fault"))
        } else {
            let connections = match &inner.engine {
                Engine::Sqlite { readers, .. } => readers,
                Engine::Postgres { pool } => pool,
            };
            guarded(inner.options.tx_timeout, body(connections)).instrument(span).await
        };
        inner.metrics.done(name, &result, started.elapsed());
        result
    }

    async fn read_once<T, E, F>(&self, name: &'static str, body: F) -> TxResult<T, E>
    where
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, TxResult<T, E>> + Send,
    {
        let options = &self.inner.options;
        if self.inner.faults.take(name).is_some() {
            return Err(TxError::unavailable("a planned fault"));
        }
        let begin = async {
            match &self.inner.engine {
                Engine::Sqlite { readers, .. } => readers.begin().await,
                Engine::Postgres { pool } => {
                    pool.begin_with_config(Some(IsolationLevel::RepeatableRead), Some(AccessMode::ReadOnly)).await
                }
            }
        };
        let tx = within(options.acquire_timeout, "no connection in time", begin).await??;
        let result = guarded(options.tx_timeout, body(&tx)).await;
        // Nothing was written: ending the snapshot cannot change the answer.
        drop(tx.rollback().await);
        result
    }

    /// Whether the database answers, and, on SQLite, whether it still takes writes.
    ///
    /// # Errors
    /// [`TxError::Unavailable`] or [`TxError::Broken`] with what is wrong.
    pub async fn check(&self) -> Result<(), TxError<std::convert::Infallible>> {
        if let Engine::Sqlite { writer, .. } = &self.inner.engine {
            writer.check()?;
        }
        self.read("health", |tx| {
            Box::pin(async move {
                tx.execute_unprepared("SELECT 1").await?;
                Ok(())
            })
        })
        .await
    }

    /// Ends the writer and closes the connections; what was acked is on disk already.
    pub async fn close(&self) {
        match &self.inner.engine {
            Engine::Sqlite { writer, readers } => {
                writer.close().await;
                drop(readers.close_by_ref().await);
            }
            Engine::Postgres { pool } => drop(pool.close_by_ref().await),
        }
    }
}

/// Bounds a wait; late is [`TxError::Unavailable`].
async fn within<T, E>(limit: Duration, what: &str, wait: impl Future<Output = T>) -> Result<T, TxError<E>> {
    tokio::time::timeout(limit, wait).await.map_err(|_| TxError::unavailable(what))
}

/// Runs a body with a time limit, and turns a panic into [`TxError::Broken`].
async fn guarded<T, E>(limit: Duration, body: impl Future<Output = TxResult<T, E>>) -> TxResult<T, E> {
    match tokio::time::timeout(limit, AssertUnwindSafe(body).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(TxError::broken("the transaction's body panicked")),
        Err(_) => Err(TxError::unavailable("the transaction took too long")),
    }
}
