//! PostgreSQL: the pool, and transactions repeated after serialization failures.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sea_orm::{DatabaseConnection, DbErr, RuntimeErr, SqlxPostgresConnector, TransactionTrait as _};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{Fault, OpenError, Options, Tx, TxError, TxResult, guarded, within};

pub(crate) async fn open(url: &str, options: &Options) -> Result<DatabaseConnection, OpenError> {
    let connect: PgConnectOptions = url.parse().map_err(|_| OpenError::Url)?;
    let limit = options.tx_timeout.as_millis().to_string();
    let connect = connect.application_name("legate").options([
        // A commit that was acked survives power loss, whatever the server's default is.
        ("synchronous_commit", "on"),
        ("lock_timeout", limit.as_str()),
        ("statement_timeout", limit.as_str()),
        // No transaction here takes longer, so whoever says nothing within one for so long is stopped or cut off, and what it
        // has locked is not its any more.
        ("idle_in_transaction_session_timeout", limit.as_str()),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(options.pool.clamp(1, 1_000))
        .acquire_timeout(options.acquire_timeout)
        .idle_timeout(Duration::from_secs(600))
        .max_lifetime(Duration::from_secs(1_800))
        .connect_with(connect)
        .await
        .map_err(|e| DbErr::Conn(RuntimeErr::SqlxError(e.into())))?;
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}

pub(crate) async fn run<T, E, F>(
    pool: &DatabaseConnection,
    options: &Options,
    name: &'static str,
    body: &F,
    fault: Option<Fault>,
) -> TxResult<T, E>
where
    F: for<'a> Fn(&'a Tx) -> BoxFuture<'a, TxResult<T, E>>,
{
    let mut attempt = 0;
    loop {
        let result = once(pool, options, body, fault).await;
        match result {
            Err(e) if e.is_retryable() && attempt < options.retries => {
                attempt += 1;
                tracing::debug!(transaction = name, attempt, "repeated after a conflict");
                tokio::time::sleep(pause(attempt)).await;
            }
            // Still in conflict after every attempt: the caller may try later.
            Err(TxError::Broken(e)) if TxError::<E>::Broken(e.clone()).is_retryable() => {
                return Err(TxError::Unavailable(e));
            }
            result => return result,
        }
    }
}

async fn once<T, E, F>(pool: &DatabaseConnection, options: &Options, body: &F, fault: Option<Fault>) -> TxResult<T, E>
where
    F: for<'a> Fn(&'a Tx) -> BoxFuture<'a, TxResult<T, E>>,
{
    let tx = within(options.acquire_timeout, "no connection in time", pool.begin()).await??;
    let result = guarded(options.tx_timeout, async { body(&tx).await }).await;
    match (result, fault) {
        (Ok(_), Some(Fault::NotPersisted)) => {
            tx.rollback().await?;
            Err(TxError::unavailable("a planned fault: not persisted"))
        }
        (Ok(value), fault) => {
            within(options.tx_timeout, "the commit was not answered", tx.commit()).await??;
            match fault {
                None => Ok(value),
                Some(_) => Err(TxError::unavailable("a planned fault: the reply was lost")),
            }
        }
        (Err(e), _) => {
            // The connection may be gone; the server rolls back by itself then.
            drop(tx.rollback().await);
            Err(e)
        }
    }
}

/// Full jitter: anything up to 5 ms times two to the number of attempts, 320 ms at most.
fn pause(attempt: u32) -> Duration {
    let ceiling = 5_000u64 << attempt.min(6);
    Duration::from_micros(rand::random::<u64>() % ceiling)
}
