//! Opening SQLite: WAL, every commit synced, one connection that writes, several that read.

use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbErr, RuntimeErr, SqlxSqliteConnector};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::{OpenError, Options};

/// Below this, a database in WAL mode can be corrupted (sqlite.org/wal.html, "the WAL-reset bug").
const OLDEST: (u32, u32, u32) = (3, 51, 3);

/// Pages that the writer keeps in memory, in KiB: a transaction of many rows that fills the cache is written twice.
const WRITER_CACHE: &str = "-65536";
/// The same for each connection that reads.
const READER_CACHE: &str = "-8192";
/// Pages after which the journal is put into the file. SQLite's own bound (1,000) is passed by a single transaction of
/// many rows; this many are 32 MiB, which a start after a crash reads in no time.
const CHECKPOINT: &str = "8192";

/// Rows that a reading connection goes on to while nobody has taken the first of them: with the driver's own bound (50) its
/// thread and whoever reads wake each other all the time.
const ROWS_AHEAD: usize = 1_024;

/// Makes connections that write.
#[derive(Clone, Debug)]
pub(crate) struct Opener(SqliteConnectOptions);

impl Opener {
    /// A pool of exactly one connection.
    pub(crate) async fn connect(&self) -> Result<DatabaseConnection, DbErr> {
        pool(self.0.clone(), 1, Duration::from_secs(10)).await
    }
}

async fn pool(options: SqliteConnectOptions, size: u32, acquire: Duration) -> Result<DatabaseConnection, DbErr> {
    let pool = SqlitePoolOptions::new()
        .max_connections(size)
        .min_connections(1)
        .acquire_timeout(acquire)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|e| DbErr::Conn(RuntimeErr::SqlxError(e.into())))?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

pub(crate) async fn open(url: &str, options: &Options) -> Result<(Opener, DatabaseConnection), OpenError> {
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(OpenError::Url);
    }
    let base: SqliteConnectOptions = url.parse().map_err(|_| OpenError::Url)?;
    make_file(base.get_filename())?;
    let base = base
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON");
    let opener = Opener(base.clone().pragma("cache_size", WRITER_CACHE).pragma("wal_autocheckpoint", CHECKPOINT));

    let first = opener.connect().await?;
    verify(&first).await?;
    first.close().await?;

    let reading = base.pragma("query_only", "ON").pragma("cache_size", READER_CACHE).row_buffer_size(ROWS_AHEAD);
    let readers = pool(reading, options.readers.clamp(1, 64), options.acquire_timeout).await?;
    Ok((opener, readers))
}

/// The file is ours alone (0600); SQLite gives its journal the same mode.
fn make_file(path: &std::path::Path) -> Result<(), std::io::Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut new = std::fs::OpenOptions::new();
    match new.write(true).create_new(true).mode(0o600).open(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

async fn verify(conn: &DatabaseConnection) -> Result<(), OpenError> {
    let version = text(conn, "SELECT sqlite_version()").await?;
    if !is_new_enough(&version) {
        return Err(OpenError::TooOld(version));
    }
    // synchronous 2 is FULL: a commit returns after the WAL is synced (sqlite.org/pragma.html).
    for (setting, wanted) in [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1")] {
        let value = text(conn, &format!("SELECT CAST({setting} AS TEXT) FROM pragma_{setting}")).await?;
        if value != wanted {
            return Err(OpenError::Setting { setting, value, wanted });
        }
    }
    Ok(())
}

async fn text(conn: &DatabaseConnection, sql: &str) -> Result<String, DbErr> {
    let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, sql);
    match conn.query_one_raw(statement).await? {
        Some(row) => row.try_get_by_index(0),
        None => Ok(String::new()),
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_sqlite_is_refused() {
        for bad in ["3.51.2", "3.50.9", "2.99.99", "", "3"] {
            assert!(!is_new_enough(bad), "{bad}");
        }
        for good in ["3.51.3", "3.52.0", "3.100.1", "4.0.0"] {
            assert!(is_new_enough(good), "{good}");
        }
    }
}
