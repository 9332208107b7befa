//! About which items of reviews nobody is asked.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct Unasked;

impl MigrationName for Unasked {
    fn name(&self) -> &str {
        "registry_0020_unasked_review_items"
    }
}

// Of items that were made before it is not known; they are told of when something is decided about them.
#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Unasked {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = "ALTER TABLE review_item ADD COLUMN unasked BOOLEAN NOT NULL DEFAULT FALSE;";
        legate_db::create_tables(manager, column).await
    }
}
