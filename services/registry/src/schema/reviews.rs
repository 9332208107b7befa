//! Rounds of review campaigns, and their items.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct Reviews;

impl MigrationName for Reviews {
    fn name(&self) -> &str {
        "registry_0015_reviews"
    }
}

// Of one campaign one round is under way at most. `slot_at` is the moment at which a round was due to start by the clock, and
// `at_name` how far its items are made. What columns say of an item counts, whatever its body says.
const TABLES: &str = "
CREATE TABLE review (
    id {TEXT} PRIMARY KEY,
    campaign_id {TEXT} NOT NULL,
    campaign {TEXT} NOT NULL,
    namespace {TEXT} NOT NULL,
    number BIGINT NOT NULL,
    state INTEGER NOT NULL,
    slot_at BIGINT,
    due_at BIGINT NOT NULL,
    closes_at BIGINT NOT NULL,
    at_name {TEXT} NOT NULL,
    made BIGINT NOT NULL,
    version BIGINT NOT NULL,
    body {BYTES} NOT NULL
);
CREATE UNIQUE INDEX review_by_number ON review (campaign_id, number);
CREATE UNIQUE INDEX review_under_way ON review (campaign_id) WHERE state < 4;
CREATE INDEX review_to_go_on ON review (id) WHERE state < 4;
CREATE INDEX review_by_namespace ON review (namespace, id);
CREATE TABLE review_item (
    id {TEXT} PRIMARY KEY,
    review_id {TEXT} NOT NULL,
    place BIGINT NOT NULL,
    namespace {TEXT} NOT NULL,
    agent_id {TEXT} NOT NULL,
    reviewed INTEGER NOT NULL,
    granted_id {TEXT} NOT NULL,
    decision INTEGER NOT NULL,
    remediation INTEGER NOT NULL,
    verified INTEGER NOT NULL,
    version BIGINT NOT NULL,
    body {BYTES} NOT NULL
);
CREATE UNIQUE INDEX review_item_in_order ON review_item (review_id, place);
CREATE INDEX review_item_of_agent ON review_item (review_id, agent_id, place);
CREATE INDEX review_item_by_decision ON review_item (review_id, decision, remediation, verified);
CREATE INDEX review_item_to_write ON review_item (review_id, reviewed, granted_id, place) WHERE remediation = 0;
CREATE INDEX review_item_earlier ON review_item (agent_id, granted_id);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Reviews {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}
