//! A database with a table beside the outbox, and what is done to both.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::{TestClock, Timestamp};
use legate_db::{Db, TxError};
use legate_ids::SpiffeId;
use legate_outbox::{DbSource, Outbox, Source as _, Standard};
use legate_rpc::Fault;
use legate_wire::audit::AuditEvent;
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, DbErr, Statement};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

/// Nothing here takes longer; a test that waits for so long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) const EMITTER: &str = "spiffe://example.org/legate/registry";

pub(crate) struct Schema;
struct Deeds;

impl MigratorTrait for Schema {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![legate_outbox::migration(), Box::new(Deeds)]
    }
}

impl MigrationName for Deeds {
    fn name(&self) -> &str {
        "0001_deeds"
    }
}

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Deeds {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("CREATE TABLE deeds (name TEXT PRIMARY KEY)").await?;
        Ok(())
    }
}

pub(crate) fn clock() -> Arc<TestClock> {
    TestClock::at(Timestamp::from_secs(1_800_000_000))
}

pub(crate) fn outbox(bound: u64) -> Outbox {
    Outbox::new(SpiffeId::parse(EMITTER).unwrap(), clock(), bound)
}

pub(crate) fn event(name: &str) -> AuditEvent {
    AuditEvent { r#type: "test.done".into(), reason: name.into(), ..AuditEvent::default() }
}

/// A deed and its event, in one transaction called `deed`; with `fails` the body refuses after both.
pub(crate) async fn deed(db: &Db, outbox: &Outbox, name: &str, fails: bool) -> Result<u64, TxError<Fault>> {
    deed_as(db, outbox, Standard::Ordinary, name, fails).await
}

pub(crate) async fn deed_as(
    db: &Db,
    outbox: &Outbox,
    standard: Standard,
    name: &str,
    fails: bool,
) -> Result<u64, TxError<Fault>> {
    let (outbox, name) = (outbox.clone(), name.to_owned());
    db.tx("deed", move |tx| {
        let (outbox, name) = (outbox.clone(), name.clone());
        Box::pin(async move {
            tx.execute_unprepared(&format!("INSERT INTO deeds VALUES ('{name}')")).await?;
            let seq = outbox.record(tx, standard, event(&name)).await?;
            match fails {
                true => Err(TxError::Flow(Fault::invalid("deed", "is refused"))),
                false => Ok(seq),
            }
        })
    })
    .await
}

/// The names of the deeds that were kept.
pub(crate) async fn deeds(db: &Db) -> Vec<String> {
    let read = db.read::<_, (), _>("deeds", |tx| {
        Box::pin(async move {
            let all = Statement::from_string(tx.get_database_backend(), "SELECT name FROM deeds ORDER BY name");
            let rows = tx.query_all_raw(all).await?;
            Ok(rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect())
        })
    });
    read.await.unwrap()
}

/// The events that wait, of the oldest epoch.
pub(crate) async fn waiting(db: &Db) -> Vec<AuditEvent> {
    let batch = DbSource::new(db.clone()).next_batch(100_000, usize::MAX).await.unwrap();
    let events = batch.map(|batch| batch.events).unwrap_or_default();
    events.iter().map(|event| AuditEvent::decode(event.as_ref()).unwrap()).collect()
}

pub(crate) fn names(events: &[AuditEvent]) -> Vec<String> {
    events.iter().map(|event| event.reason.clone()).collect()
}

pub(crate) fn numbers(events: &[AuditEvent]) -> Vec<u64> {
    events.iter().map(|event| event.emitter.as_ref().unwrap().seq).collect()
}

/// Waits, and fails when it takes too long.
pub(crate) async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, wait).await.expect("it takes too long")
}
