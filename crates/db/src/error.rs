//! How a transaction fails: refused by its own flow, not available now, or broken.

use std::fmt;

use sea_orm::{DbErr, RuntimeErr};

/// Why a database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither SQLite nor PostgreSQL.
    #[error("a database URL is sqlite:PATH or postgres://USER@HOST/DATABASE; in-memory SQLite is refused")]
    Url,
    /// SQLite before 3.51.3 can corrupt a database in WAL mode.
    #[error(
        "SQLite {0} is too old: below 3.51.3 a database in WAL mode can be corrupted; build with the bundled SQLite"
    )]
    TooOld(String),
    /// SQLite did not take a setting that durability depends on.
    #[error(
        "SQLite answers {setting} = {value}, and {wanted} is needed: is the file on a file system without WAL support?"
    )]
    Setting {
        /// The pragma.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it has to be.
        wanted: &'static str,
    },
    /// The folder or file could not be made.
    #[error("the database file cannot be made: {0}")]
    Io(#[from] std::io::Error),
    /// The database did not answer.
    #[error("the database cannot be opened: {0}")]
    Db(#[from] DbErr),
}

/// Why a transaction did not succeed. `?` on a [`DbErr`] chooses the right door.
#[derive(Debug)]
pub enum TxError<E> {
    /// The body refused; nothing was written.
    Flow(E),
    /// Not now: busy, full, unreachable, or the answer of the commit was lost.
    Unavailable(DbErr),
    /// A defect, or a disk that failed.
    Broken(DbErr),
}

impl<E> TxError<E> {
    pub(crate) fn unavailable(what: &str) -> Self {
        Self::Unavailable(DbErr::Custom(what.to_owned()))
    }

    pub(crate) fn broken(what: &str) -> Self {
        Self::Broken(DbErr::Custom(what.to_owned()))
    }

    /// The same with another kind of refusal.
    pub fn map<F>(self, f: impl FnOnce(E) -> F) -> TxError<F> {
        match self {
            Self::Flow(e) => TxError::Flow(f(e)),
            Self::Unavailable(e) => TxError::Unavailable(e),
            Self::Broken(e) => TxError::Broken(e),
        }
    }

    /// A serialization failure or deadlock on PostgreSQL: the transaction can be run again at once.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Flow(_) => false,
            Self::Unavailable(e) | Self::Broken(e) => {
                matches!(code(e).as_deref(), Some("40001" | "40P01"))
            }
        }
    }
}

impl<E> From<DbErr> for TxError<E> {
    fn from(e: DbErr) -> Self {
        if is_passing(&e) { Self::Unavailable(e) } else { Self::Broken(e) }
    }
}

impl<E: fmt::Display> fmt::Display for TxError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flow(e) => e.fmt(f),
            Self::Unavailable(e) => write!(f, "the database is not available: {e}"),
            Self::Broken(e) => write!(f, "the database failed: {e}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for TxError<E> {}

fn sqlx_error(e: &DbErr) -> Option<&sqlx::Error> {
    match e {
        DbErr::Exec(RuntimeErr::SqlxError(e))
        | DbErr::Query(RuntimeErr::SqlxError(e))
        | DbErr::Conn(RuntimeErr::SqlxError(e)) => Some(e),
        _ => None,
    }
}

/// SQLSTATE on PostgreSQL, the extended result code in decimal on SQLite.
fn code(e: &DbErr) -> Option<String> {
    let e = sqlx_error(e)?.as_database_error()?;
    e.code().map(|c| c.into_owned())
}

/// Whether the same may succeed later without anybody changing anything.
fn is_passing(e: &DbErr) -> bool {
    if matches!(e, DbErr::ConnectionAcquire(_) | DbErr::Conn(_)) {
        return true;
    }
    let Some(e) = sqlx_error(e) else { return false };
    match e {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(e) => match e.code() {
            // SQLite: BUSY (5), LOCKED (6), FULL (13), in their extended forms too.
            Some(c) if c.len() < 5 => c.parse::<u32>().is_ok_and(|c| matches!(c & 0xff, 5 | 6 | 13)),
            // PostgreSQL: connection (08), rollback (40), resources (53), intervention (57),
            // lock not available, read-only after a fail-over.
            Some(c) => {
                ["08", "40", "53", "57"].iter().any(|class| c.starts_with(class)) || c == "55P03" || c == "25006"
            }
            None => false,
        },
        _ => false,
    }
}

/// SQLite IOERR (10): after a failed fsync nothing that follows can be trusted.
pub(crate) fn is_disk_failure(e: &DbErr) -> bool {
    code(e).is_some_and(|c| c.len() < 5 && c.parse::<u32>().is_ok_and(|c| c & 0xff == 10))
}
