//! Which instances their nodes ended themselves: nobody has to tell these of them.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct EndedByNodes;

impl MigrationName for EndedByNodes {
    fn name(&self) -> &str {
        "issuer_0013_ended_by_nodes"
    }
}

// What was ended before is told once more for as long as its last certificate would have lived, which harms nobody. The index finds
// what a node would have to be told of among what it did not end, which is little, however many processes come and go there.
const TABLES: &str = "
ALTER TABLE instance ADD COLUMN ended_by_node BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX instance_of_node_not_ended ON instance (node, ended_by_node, agent_id, ends_at);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for EndedByNodes {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}
