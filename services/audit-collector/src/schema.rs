//! The index's tables: which events there are, by what is asked for, and how far the index has come.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

/// The migrations of the index.
#[derive(Debug)]
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Tables)]
    }
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &str {
        "audit_0001_index"
    }
}

// The events themselves are in the log and nowhere else. Times are Unix microseconds; what an event does not say is NULL,
// so that it takes no place in the indexes. Texts are compared byte for byte.
const TABLES: &str = "
CREATE TABLE indexed_event (
    leaf BIGINT PRIMARY KEY,
    time BIGINT NOT NULL,
    type {TEXT} NOT NULL,
    outcome INTEGER NOT NULL,
    emitter {TEXT} NOT NULL,
    namespace {TEXT},
    actor {TEXT},
    agent_id {TEXT},
    action {TEXT},
    resource_type {TEXT},
    resource_id {TEXT},
    trace_id {TEXT},
    credential_id {TEXT},
    decision_id {TEXT}
);
CREATE INDEX indexed_event_time ON indexed_event (time);
CREATE INDEX indexed_event_type ON indexed_event (type, leaf);
CREATE INDEX indexed_event_agent ON indexed_event (agent_id, leaf) WHERE agent_id IS NOT NULL;
CREATE INDEX indexed_event_trace ON indexed_event (trace_id, leaf) WHERE trace_id IS NOT NULL;
CREATE INDEX indexed_event_credential ON indexed_event (credential_id, leaf) WHERE credential_id IS NOT NULL;
CREATE INDEX indexed_event_decision ON indexed_event (decision_id) WHERE decision_id IS NOT NULL;
CREATE INDEX indexed_event_actor ON indexed_event (actor, leaf) WHERE actor IS NOT NULL;
CREATE INDEX indexed_event_resource ON indexed_event (resource_type, resource_id, leaf) WHERE resource_type IS NOT NULL;
CREATE TABLE index_head (
    id INTEGER PRIMARY KEY,
    origin {TEXT} NOT NULL,
    size BIGINT NOT NULL,
    root {BYTES} NOT NULL
);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}
