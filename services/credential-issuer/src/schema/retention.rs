//! What ended long ago is found by when it ended.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct Retention;

impl MigrationName for Retention {
    fn name(&self) -> &str {
        "issuer_0012_retention"
    }
}

const INDEXES: &str = "
CREATE INDEX enrolment_by_end ON enrolment (expires_at);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Retention {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, INDEXES).await
    }
}
