//! What agents used, by resource: what was counted before may have been of any.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct UsedResources;

impl MigrationName for UsedResources {
    fn name(&self) -> &str {
        "registry_0023_used_resources"
    }
}

// A primary key is not altered in SQLite.
const TABLES: &str = "
ALTER TABLE used_permission RENAME TO used_permission_before;
CREATE TABLE used_permission (
    agent_id {TEXT} NOT NULL,
    action {TEXT} NOT NULL,
    resource_type {TEXT} NOT NULL,
    resource_id {TEXT} NOT NULL,
    way INTEGER NOT NULL,
    count BIGINT NOT NULL,
    first_time BIGINT NOT NULL,
    last_time BIGINT NOT NULL,
    newest_day BIGINT NOT NULL,
    days {BYTES} NOT NULL,
    PRIMARY KEY (agent_id, action, resource_type, resource_id, way)
) {BY_KEY};
INSERT INTO used_permission (agent_id, action, resource_type, resource_id, way, count, first_time, last_time, newest_day, days)
    SELECT agent_id, action, resource_type, '*', way, count, first_time, last_time, newest_day, days FROM used_permission_before;
DROP TABLE used_permission_before;
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for UsedResources {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}
