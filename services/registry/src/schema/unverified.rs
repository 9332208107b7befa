//! Rounds of reviews that are closed, and at which policy-decision has not looked.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct Unverified;

impl MigrationName for Unverified {
    fn name(&self) -> &str {
        "registry_0024_unverified_reviews"
    }
}

// A state of 4 is CLOSED; `verified` of 0 says that nobody has looked.
const COLUMN: &str = "
ALTER TABLE review ADD COLUMN unverified BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE review SET unverified = TRUE
WHERE state = 4 AND EXISTS (SELECT 1 FROM review_item WHERE review_item.review_id = review.id AND review_item.verified = 0);
CREATE INDEX review_unverified ON review (id) WHERE unverified;
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Unverified {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, COLUMN).await
    }
}
