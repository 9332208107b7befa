//! From which revision on the past is kept, how far what is older was swept, and who declared what is no longer there.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct Retention;

impl MigrationName for Retention {
    fn name(&self) -> &str {
        "registry_0007_retention"
    }
}

const TABLES: &str = "
ALTER TABLE head ADD COLUMN oldest BIGINT NOT NULL DEFAULT 1;
ALTER TABLE head ADD COLUMN swept BIGINT NOT NULL DEFAULT 0;
CREATE TABLE declarer (
    object_id {TEXT} NOT NULL,
    actor {TEXT} NOT NULL,
    PRIMARY KEY (object_id, actor)
) {BY_KEY};
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Retention {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}
