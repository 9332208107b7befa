//! Persons who left, whom of them nobody may name any more, and which agents nobody is accountable for.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct Departures;

impl MigrationName for Departures {
    fn name(&self) -> &str {
        "registry_0006_departures"
    }
}

// The place (field, namespace, name, id) says how far the agents that name the person have been seen to.
// In `departed` is only who left and has not come back: persons as `user:NAME`, operators as `operator:NAME`.
const TABLES: &str = "
ALTER TABLE object ADD COLUMN orphaned_at BIGINT;
CREATE INDEX object_orphaned ON object (kind, orphaned_at) WHERE orphaned_at IS NOT NULL;
CREATE TABLE departure (
    id {TEXT} PRIMARY KEY,
    person {TEXT} NOT NULL,
    namespace {TEXT} NOT NULL,
    successor {TEXT} NOT NULL,
    grace BIGINT,
    operators {TEXT} NOT NULL,
    reason {TEXT} NOT NULL,
    actor {TEXT} NOT NULL,
    left_at BIGINT NOT NULL,
    withdrawn_at BIGINT,
    withdraw_actor {TEXT} NOT NULL,
    withdraw_reason {TEXT} NOT NULL,
    settled_at BIGINT,
    at_field SMALLINT NOT NULL,
    at_namespace {TEXT} NOT NULL,
    at_name {TEXT} NOT NULL,
    at_object {TEXT} NOT NULL,
    passed BIGINT NOT NULL,
    orphaned BIGINT NOT NULL
);
CREATE UNIQUE INDEX departure_in_force ON departure (person, namespace) WHERE withdrawn_at IS NULL;
CREATE INDEX departure_by_namespace ON departure (namespace, id);
CREATE INDEX departure_by_person ON departure (person, id);
CREATE INDEX departure_unsettled ON departure (id) WHERE settled_at IS NULL;
CREATE TABLE departed (
    who {TEXT} NOT NULL,
    namespace {TEXT} NOT NULL,
    departure_id {TEXT} NOT NULL,
    PRIMARY KEY (who, namespace, departure_id)
) {BY_KEY};
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Departures {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}
