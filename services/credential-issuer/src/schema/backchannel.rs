//! Requests by CIBA that clients poll for.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct Backchannel;

impl MigrationName for Backchannel {
    fn name(&self) -> &str {
        "issuer_0005_backchannel"
    }
}

const TABLE: &str = "
CREATE TABLE backchannel (
    request {BYTES} PRIMARY KEY,
    agent_id {TEXT} NOT NULL,
    approval_id {TEXT} NOT NULL,
    audience {TEXT} NOT NULL,
    scope {TEXT} NOT NULL,
    until BIGINT NOT NULL,
    polled_at BIGINT,
    wait INTEGER NOT NULL,
    spent BOOLEAN NOT NULL
);
CREATE INDEX backchannel_that_ends ON backchannel (until);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Backchannel {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLE).await
    }
}
