//! Databases for tests: SQLite in a new folder always, a new PostgreSQL database where `LEGATE_TEST_POSTGRES` is set.

use std::any::TypeId;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use futures_util::FutureExt as _;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, Statement};
use sea_orm_migration::MigratorTrait;
use tokio::sync::Mutex;

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

/// What a migrator makes, made once in a process and copied for each test: the file of SQLite, and the name of a PostgreSQL database.
#[derive(Default)]
struct Made {
    files: HashMap<TypeId, Arc<[u8]>>,
    databases: HashMap<TypeId, String>,
}

static MADE: LazyLock<Mutex<Made>> = LazyLock::new(Mutex::default);

/// Databases that others are made from are named so, with the process that made them behind it.
const MADE_BY: &str = "legate_made_by_";

/// Runs `test` once on every database at hand, each time on a new one with the schema of `M`.
///
/// # Panics
/// When `test` panics, or a database cannot be made.
pub async fn on_each<M: MigratorTrait + 'static>(test: impl AsyncFn(Fixture)) {
    on_sqlite::<M>(&test).await;
    if let Ok(base) = std::env::var("LEGATE_TEST_POSTGRES") {
        on_postgres::<M>(&base, &test).await;
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the system's folder for temporary files can be written")
}

/// Makes the schema, and lets go of the database.
async fn make<M: MigratorTrait>(url: &str) {
    let db = open(url).await;
    if let Err(e) = db.migrate::<M>().await {
        panic!("migration: {e}");
    }
    db.close().await;
}

async fn file<M: MigratorTrait + 'static>() -> Arc<[u8]> {
    let mut made = MADE.lock().await;
    if let Some(file) = made.files.get(&TypeId::of::<M>()) {
        return Arc::clone(file);
    }
    let dir = folder();
    let path = dir.path().join("made.db");
    // The last who closes it writes everything into the one file.
    make::<M>(&format!("sqlite:{}", path.display())).await;
    let bytes: Arc<[u8]> = std::fs::read(&path).expect("the file was made").into();
    made.files.insert(TypeId::of::<M>(), Arc::clone(&bytes));
    bytes
}

async fn on_sqlite<M: MigratorTrait + 'static>(test: &impl AsyncFn(Fixture)) {
    let dir = folder();
    let path = dir.path().join("test.db");
    std::fs::write(&path, file::<M>().await).expect("the folder can be written");
    let url = format!("sqlite:{}", path.display());
    test(Fixture { db: open(&url).await, url, _dir: dir }).await;
}

async fn create(admin: &DatabaseConnection, name: &str, from: &str) {
    admin
        .execute_unprepared(&format!("CREATE DATABASE {name} TEMPLATE {from}"))
        .await
        .expect("LEGATE_TEST_POSTGRES names a user that may create databases");
}

/// Drops a database, where it is there.
async fn forget(admin: &DatabaseConnection, name: &str) {
    drop(admin.execute_unprepared(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await);
}

async fn database<M: MigratorTrait + 'static>(admin: &DatabaseConnection, server: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut made = MADE.lock().await;
    if let Some(name) = made.databases.get(&TypeId::of::<M>()) {
        return name.clone();
    }
    forget_others(admin).await;
    let (process, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let name = format!("{MADE_BY}{process}_{n}");
    // One of an earlier process with this number, before the machine was started anew.
    forget(admin, &name).await;
    create(admin, &name, "template1").await;
    make::<M>(&format!("{server}/{name}")).await;
    made.databases.insert(TypeId::of::<M>(), name.clone());
    name
}

/// Drops what processes left that are no more, where the system tells which there are.
async fn forget_others(admin: &DatabaseConnection) {
    if !Path::new("/proc/self").exists() {
        return;
    }
    let all = format!("SELECT datname FROM pg_database WHERE datname LIKE '{MADE_BY}%'");
    let rows = admin.query_all_raw(Statement::from_string(admin.get_database_backend(), all)).await;
    for row in rows.unwrap_or_default() {
        let Ok(name) = row.try_get_by_index::<String>(0) else { continue };
        let process = name.strip_prefix(MADE_BY).and_then(|rest| rest.split('_').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            forget(admin, &name).await;
        }
    }
}

async fn on_postgres<M: MigratorTrait + 'static>(base: &str, test: &impl AsyncFn(Fixture)) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "legate_test_{}_{}_{:08x}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed),
        rand::random::<u32>()
    );
    let admin = Database::connect(base).await.expect("LEGATE_TEST_POSTGRES names a server that answers");
    let (server, _) = base.rsplit_once('/').expect("a URL has a path");
    create(&admin, &name, &database::<M>(&admin, server).await).await;
    let url = format!("{server}/{name}");
    let fixture = Fixture { db: open(&url).await, url, _dir: folder() };
    let result = AssertUnwindSafe(test(fixture)).catch_unwind().await;
    forget(&admin, &name).await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
