//! When lifecycle policies have to be looked at, what was told of them, and how far the alerts of audit-collector were dealt with.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct Lifecycle;

impl MigrationName for Lifecycle {
    fn name(&self) -> &str {
        "registry_0013_lifecycle"
    }
}

// No agent of before has to be looked at: no policy was there.
// In `lifecycle_replan` is a namespace as long as its agents are looked at anew, and behind which of them that goes on.
// `alert_feed` says from which leaf of the log on alerts were not dealt with.
const TABLES: &str = "
ALTER TABLE object ADD COLUMN look_at BIGINT;
ALTER TABLE object ADD COLUMN due_at BIGINT;
ALTER TABLE object ADD COLUMN attest_at BIGINT;
CREATE INDEX object_to_look_at ON object (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX object_due ON object (kind, due_at) WHERE due_at IS NOT NULL;
CREATE TABLE lifecycle_replan (
    namespace {TEXT} PRIMARY KEY,
    at_name {TEXT} NOT NULL,
    at_object {TEXT} NOT NULL
);
CREATE TABLE lifecycle_told (
    object_id {TEXT} NOT NULL,
    policy_id {TEXT} NOT NULL,
    rule SMALLINT NOT NULL,
    beforehand BOOLEAN NOT NULL,
    act_at BIGINT NOT NULL,
    PRIMARY KEY (object_id, policy_id, rule, beforehand)
) {BY_KEY};
CREATE INDEX lifecycle_told_by_policy ON lifecycle_told (policy_id);
CREATE TABLE lifecycle_stopped (
    policy_id {TEXT} NOT NULL,
    leaf BIGINT NOT NULL,
    stopped_at BIGINT NOT NULL,
    PRIMARY KEY (policy_id, leaf)
) {BY_KEY};
CREATE INDEX lifecycle_stopped_by_time ON lifecycle_stopped (stopped_at);
CREATE TABLE alert_feed (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    next_leaf BIGINT NOT NULL
);
INSERT INTO alert_feed (id, next_leaf) VALUES (1, 0);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Lifecycle {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}
