//! Nodes: whom enrolment tokens let in, which instances they attested, and what they asked for lately.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct Nodes;

impl MigrationName for Nodes {
    fn name(&self) -> &str {
        "issuer_0010_nodes"
    }
}

// `node` of an enrolment is a name in its namespace; elsewhere nodes and policies are `NAMESPACE/NAME`, the agent's own namespace or
// another's. A request of a node is kept for as long as it may be repeated.
const TABLES: &str = "
ALTER TABLE enrolment ADD COLUMN node {TEXT} NOT NULL DEFAULT '';
ALTER TABLE instance ADD COLUMN node {TEXT} NOT NULL DEFAULT '';
ALTER TABLE instance ADD COLUMN attestation_policy {TEXT} NOT NULL DEFAULT '';
CREATE INDEX instance_by_node ON instance (node, id) WHERE node <> '';
CREATE INDEX instance_of_node_by_end ON instance (node, ends_at) WHERE node <> '';
CREATE TABLE node_request (
    node {TEXT} NOT NULL,
    request_id {TEXT} NOT NULL,
    request_sha256 {BYTES} NOT NULL,
    credential_id {TEXT} NOT NULL,
    made_at BIGINT NOT NULL,
    PRIMARY KEY (node, request_id)
);
CREATE INDEX node_request_by_time ON node_request (made_at);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Nodes {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}
