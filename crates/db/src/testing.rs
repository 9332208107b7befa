//! Databases for tests: SQLite in a new folder always, a new PostgreSQL database where `LEGATE_TEST_POSTGRES` is set.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt as _;
use sea_orm::{ConnectionTrait as _, Database};
use sea_orm_migration::MigratorTrait;

use crate::{Backend, Db, Options};

/// A database that ends with the test.
#[derive(Debug)]
pub struct Fixture {
    /// The open database, its schema up to date.
    pub db: Db,
    /// Opens the same database again.
    pub url: String,
    _dir: tempfile::TempDir,
}

impl Fixture {
    /// Whether it is PostgreSQL, which several processes can open at once.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        self.db.backend() == Backend::Postgres
    }

    /// Opens the same database once more, as a restarted process or another replica would.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub async fn again(&self) -> Db {
        open(&self.url).await
    }
}

async fn open(url: &str) -> Db {
    match Db::open(url, Options::default()).await {
        Ok(db) => db,
        Err(e) => panic!("{url}: {e}"),
    }
}

/// Runs `test` once on every database at hand, each time on a new one with the schema of `M`.
///
/// # Panics
/// When `test` panics, or a database cannot be made.
pub async fn on_each<M: MigratorTrait>(test: impl AsyncFn(Fixture)) {
    on_sqlite::<M>(&test).await;
    if let Ok(base) = std::env::var("LEGATE_TEST_POSTGRES") {
        on_postgres::<M>(&base, &test).await;
    }
}

async fn fixture<M: MigratorTrait>(url: String, dir: tempfile::TempDir) -> Fixture {
    let db = open(&url).await;
    if let Err(e) = db.migrate::<M>().await {
        panic!("migration: {e}");
    }
    Fixture { db, url, _dir: dir }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the system's folder for temporary files can be written")
}

async fn on_sqlite<M: MigratorTrait>(test: &impl AsyncFn(Fixture)) {
    let dir = folder();
    let url = format!("sqlite:{}", dir.path().join("test.db").display());
    test(fixture::<M>(url, dir).await).await;
}

async fn on_postgres<M: MigratorTrait>(base: &str, test: &impl AsyncFn(Fixture)) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "legate_test_{}_{}_{:08x}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed),
        rand::random::<u32>()
    );
    let admin = Database::connect(base).await.expect("LEGATE_TEST_POSTGRES names a server that answers");
    admin
        .execute_unprepared(&format!("CREATE DATABASE {name}"))
        .await
        .expect("LEGATE_TEST_POSTGRES names a user that may create databases");
    let (server, _) = base.rsplit_once('/').expect("a URL has a path");
    let fixture = fixture::<M>(format!("{server}/{name}"), folder()).await;
    let result = AssertUnwindSafe(test(fixture)).catch_unwind().await;
    drop(admin.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
