//! The tables: the head, the objects as they are, every change and revision there was, who names whom, and requests that may be repeated.

mod approved;
mod departures;
mod facts;
mod lifecycle;
mod people;
mod retention;
mod reviews;
mod revoked_certificates;
mod search;
mod unasked;
mod unverified;
mod usage;
mod used_resources;

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement, Value};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

use departures::Departures;
use lifecycle::Lifecycle;
use people::OfPeople;
use retention::Retention;
use reviews::Reviews;
use revoked_certificates::RevokedCertificates;

/// The migrations of this service's database.
#[derive(Debug)]
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            legate_outbox::migration(),
            Box::new(Tables),
            Box::new(States),
            Box::new(Operators),
            Box::new(search::Search),
            Box::new(RevokedCertificates),
            Box::new(Departures),
            Box::new(Retention),
            Box::new(facts::Facts),
            Box::new(OfPeople),
            Box::new(usage::Usage),
            Box::new(Lifecycle),
            Box::new(Reviews),
            Box::new(approved::Approved),
            Box::new(ChangesInOrder),
            Box::new(unasked::Unasked),
            Box::new(used_resources::UsedResources),
            Box::new(unverified::Unverified),
        ]
    }
}

pub(crate) struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &str {
        "registry_0001_tables"
    }
}

// Times are Unix microseconds. Texts are compared byte for byte, as names and ids are.
// An object that is revoked stays as a row, so that a snapshot of an earlier revision can be read page by page.
const TABLES: &str = "
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision BIGINT NOT NULL,
    history {BYTES} NOT NULL,
    pages_key {BYTES} NOT NULL
);
CREATE TABLE object (
    id {TEXT} PRIMARY KEY,
    kind INTEGER NOT NULL,
    namespace {TEXT} NOT NULL,
    name {TEXT} NOT NULL,
    holds_name BOOLEAN NOT NULL,
    revoked BOOLEAN NOT NULL,
    state INTEGER NOT NULL,
    ends_at BIGINT,
    revision BIGINT NOT NULL,
    body {BYTES} NOT NULL
);
CREATE UNIQUE INDEX object_by_name ON object (kind, namespace, name) WHERE holds_name;
CREATE INDEX object_in_order ON object (kind, namespace, name, id);
CREATE INDEX object_that_ends ON object (ends_at) WHERE ends_at IS NOT NULL;
CREATE TABLE change (
    revision BIGINT NOT NULL,
    place INTEGER NOT NULL,
    object_id {TEXT} NOT NULL,
    revoked BOOLEAN NOT NULL,
    body {BYTES} NOT NULL,
    PRIMARY KEY (revision, place)
);
CREATE INDEX change_by_object ON change (object_id, revision);
CREATE TABLE revision (
    revision BIGINT PRIMARY KEY,
    history {BYTES} NOT NULL
);
CREATE TABLE reference (
    object_id {TEXT} NOT NULL,
    to_kind INTEGER NOT NULL,
    to_namespace {TEXT} NOT NULL,
    to_name {TEXT} NOT NULL,
    PRIMARY KEY (object_id, to_kind, to_namespace, to_name)
);
CREATE INDEX reference_by_target ON reference (to_kind, to_namespace, to_name);
CREATE TABLE request (
    caller {TEXT} NOT NULL,
    request_id {TEXT} NOT NULL,
    digest {BYTES} NOT NULL,
    answer {BYTES} NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (caller, request_id)
);
CREATE INDEX request_by_time ON request (created_at);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await?;
        let db = manager.get_connection();
        let backend = db.get_database_backend();
        // One begins the history of this registry, which no other shares; the other authenticates page tokens, on every
        // replica that uses this database.
        let (mut history, mut key) = (vec![0u8; 32], vec![0u8; 32]);
        for chance in [&mut history, &mut key] {
            aws_lc_rs::rand::fill(chance).map_err(|_| DbErr::Custom("the system gives no randomness".into()))?;
        }
        let places = if backend == DbBackend::Postgres { "$1, $2" } else { "?, ?" };
        let insert = format!("INSERT INTO head (id, revision, history, pages_key) VALUES (1, 0, {places})");
        let values = [Value::from(history), Value::from(key)];
        db.execute_raw(Statement::from_sql_and_values(backend, insert, values)).await?;
        Ok(())
    }
}

/// Agents are counted by state again and again: by an index, which does not hold the objects themselves.
pub(crate) struct States;

impl MigrationName for States {
    fn name(&self) -> &str {
        "registry_0002_states"
    }
}

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for States {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, "CREATE INDEX object_by_state ON object (kind, state);").await
    }
}

/// What stands for every change up to the last one of an operator binding.
pub(crate) struct Operators;

impl MigrationName for Operators {
    fn name(&self) -> &str {
        "registry_0003_operators"
    }
}

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Operators {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, "ALTER TABLE head ADD COLUMN operators {BYTES};").await
    }
}

/// The changes of an object, in the whole order that they are read in: PostgreSQL, where nobody gathered statistics, took the order
/// of all changes for the shorter way to the last one of an object.
pub(crate) struct ChangesInOrder;

impl MigrationName for ChangesInOrder {
    fn name(&self) -> &str {
        "registry_0017_changes_in_order"
    }
}

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for ChangesInOrder {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let index = "
CREATE INDEX change_in_order ON change (object_id, revision, place);
DROP INDEX change_by_object;
";
        legate_db::create_tables(manager, index).await
    }
}
