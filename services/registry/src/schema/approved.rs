//! What agents had when they were approved: what they are given later is held against it.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct Approved;

impl MigrationName for Approved {
    fn name(&self) -> &str {
        "registry_0016_approved"
    }
}

// A row for each thing that an agent had; one with an empty id where it had nothing of a kind. What reviews decided rests with their items.
const TABLES: &str = "
CREATE TABLE approved_thing (
    agent_id {TEXT} NOT NULL,
    reviewed INTEGER NOT NULL,
    granted_id {TEXT} NOT NULL,
    approved_at BIGINT NOT NULL,
    body {BYTES} NOT NULL,
    PRIMARY KEY (agent_id, reviewed, granted_id)
) {BY_KEY};
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Approved {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}
