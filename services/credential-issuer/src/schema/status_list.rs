//! Places in status lists, and the lists.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct StatusLists;

impl MigrationName for StatusLists {
    fn name(&self) -> &str {
        "issuer_0009_status_lists"
    }
}

// A credential has a place once a token was obtained by it while lists are published. The row of the newest list is the lock under
// which places are given; `shuffle` is the order in which those of a list are. `live_until` is when the last credential in it ends.
const TABLES: &str = "
ALTER TABLE credential ADD COLUMN status_index BIGINT;
CREATE UNIQUE INDEX credential_by_status_index ON credential (status_index) WHERE status_index IS NOT NULL;
CREATE TABLE status_list (
    number BIGINT PRIMARY KEY,
    shuffle {BYTES} NOT NULL,
    given BIGINT NOT NULL,
    live_until BIGINT NOT NULL
);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for StatusLists {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}
