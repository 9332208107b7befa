//! What agents used, as the audit log told it, and how far the log was heard.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(super) struct Usage;

impl MigrationName for Usage {
    fn name(&self) -> &str {
        "registry_0014_usage"
    }
}

// Of `usage_head` there is one row: where the log was heard up to, whose root stands for what was heard. Days are those on which
// something was used, of the 448 up to the newest. A subject is told by its kind only (`way`): no person is named here.
const TABLES: &str = "
CREATE TABLE usage_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    origin {TEXT} NOT NULL,
    through BIGINT NOT NULL,
    root {BYTES},
    from_time BIGINT,
    to_time BIGINT
);
INSERT INTO usage_head (id, origin, through) VALUES (1, '', 0);
CREATE TABLE usage_gap (
    emitter {TEXT} NOT NULL,
    to_time BIGINT NOT NULL,
    from_time BIGINT NOT NULL,
    cause {TEXT} NOT NULL,
    PRIMARY KEY (emitter, to_time)
) {BY_KEY};
CREATE TABLE usage_emitter (
    spiffe_id {TEXT} PRIMARY KEY,
    last_time BIGINT NOT NULL
) {BY_KEY};
CREATE TABLE used_agent (
    agent_id {TEXT} PRIMARY KEY,
    used_at BIGINT,
    obtained_at BIGINT,
    denied BIGINT NOT NULL
) {BY_KEY};
CREATE TABLE used_permission (
    agent_id {TEXT} NOT NULL,
    action {TEXT} NOT NULL,
    resource_type {TEXT} NOT NULL,
    way INTEGER NOT NULL,
    count BIGINT NOT NULL,
    first_time BIGINT NOT NULL,
    last_time BIGINT NOT NULL,
    newest_day BIGINT NOT NULL,
    days {BYTES} NOT NULL,
    PRIMARY KEY (agent_id, action, resource_type, way)
) {BY_KEY};
CREATE TABLE used_grant (
    grant_id {TEXT} PRIMARY KEY,
    count BIGINT NOT NULL,
    first_time BIGINT NOT NULL,
    last_time BIGINT NOT NULL
) {BY_KEY};
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Usage {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}
