//! Bundles of other trust domains, as they were last fetched.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct FederatedBundles;

impl MigrationName for FederatedBundles {
    fn name(&self) -> &str {
        "issuer_0011_federated_bundles"
    }
}

const TABLE: &str = "
CREATE TABLE federated_bundle (
    source {TEXT} PRIMARY KEY,
    trust_domain {TEXT} NOT NULL,
    declared {BYTES} NOT NULL,
    body {BYTES} NOT NULL,
    fetched_at BIGINT NOT NULL
);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for FederatedBundles {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLE).await
    }
}
