//! Beneath the registry: bare rows in a database of the same kind, and what the kernel says of memory and files.

use std::path::Path;
use std::time::Instant;

use legate_db::{Db, Options, Tx, TxError};
use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement, Value};

use crate::Failed;

/// Rows in one transaction, as the registry has objects.
const IN_TRANSACTION: u32 = 500;
/// Rows in one statement.
const AT_ONCE: u32 = 125;
/// Bytes that the registry writes for one agent: the object twice, its audit event.
const BYTES: usize = 2_000;

/// Writes as many bytes as the registry does, as rows that nothing is asked of; rows a second.
pub(crate) async fn insert(dir: &Path, postgres: Option<&str>, rows: u32) -> Result<f64, Failed> {
    let own = match postgres {
        Some(url) => Some(new_database(url).await?),
        None => None,
    };
    let url = own.clone().unwrap_or_else(|| format!("sqlite:{}", dir.join("bare.db").display()));
    let db = Db::open(&url, Options::default()).await?;
    let bytes = if postgres.is_some() { "BYTEA" } else { "BLOB" };
    let create = format!("CREATE TABLE bare (id TEXT PRIMARY KEY, body {bytes} NOT NULL)");
    run(&db, move |tx| {
        let create = create.clone();
        Box::pin(async move { Ok(tx.execute_unprepared(&create).await.map(drop)?) })
    })
    .await?;
    let began = Instant::now();
    for from in (0..rows).step_by(IN_TRANSACTION as usize) {
        run(&db, move |tx| Box::pin(some(tx, from, rows.min(from + IN_TRANSACTION)))).await?;
    }
    let took = began.elapsed();
    db.close().await;
    if let (Some(url), Some(own)) = (postgres, own) {
        drop_database(url, &own).await?;
    }
    Ok(f64::from(rows) / took.as_secs_f64())
}

type Ran = Result<(), TxError<std::io::Error>>;

async fn run<F>(db: &Db, body: F) -> Result<(), Failed>
where
    F: for<'a> Fn(&'a Tx) -> std::pin::Pin<Box<dyn Future<Output = Ran> + Send + 'a>> + Send + Sync + 'static,
{
    db.tx("bare", body).await.map_err(|e| e.to_string().into())
}

async fn some(tx: &Tx, from: u32, to: u32) -> Ran {
    let backend = tx.get_database_backend();
    for first in (from..to).step_by(AT_ONCE as usize) {
        let numbers = first..to.min(first + AT_ONCE);
        let place = |n: u32| match backend {
            DbBackend::Postgres => format!("(${}, ${})", n * 2 + 1, n * 2 + 2),
            _ => "(?, ?)".to_owned(),
        };
        let places: Vec<String> = (0..numbers.end - numbers.start).map(place).collect();
        let values = numbers.flat_map(|n| [Value::from(format!("agt_{n:026}")), Value::from(vec![7u8; BYTES])]);
        let sql = format!("INSERT INTO bare VALUES {}", places.join(", "));
        tx.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    }
    Ok(())
}

/// Makes a database beside the one that is named; its URL.
pub(crate) async fn new_database(url: &str) -> Result<String, Failed> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("legate_bench_{}_{next}", std::process::id());
    Database::connect(url).await?.execute_unprepared(&format!("CREATE DATABASE {name}")).await?;
    let (server, _) = url.rsplit_once('/').ok_or("a URL has a path")?;
    Ok(format!("{server}/{name}"))
}

/// Removes it.
pub(crate) async fn drop_database(url: &str, database: &str) -> Result<(), Failed> {
    let name = database.rsplit('/').next().unwrap_or_default();
    Database::connect(url).await?.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await?;
    Ok(())
}

/// The bytes of this process that are in memory.
pub(crate) fn resident() -> Result<usize, Failed> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = text.split(' ').nth(1).ok_or("statm has no second field")?.parse()?;
    Ok(pages * 4_096)
}

/// The bytes of all files in a directory.
pub(crate) fn bytes_under(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_under(&entry.path()),
        _ => entry.metadata().map_or(0, |m| m.len()),
    };
    entries.flatten().map(of).sum()
}
