//! The index's tables: which events there are, by what is asked for, and how far the index has come; and the commit log's, where that
//! is in PostgreSQL.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

/// The migrations of the index.
#[derive(Debug)]
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(Tables),
            Box::new(Questions),
            Box::new(Alerts),
            Box::new(Holds),
            Box::new(Told),
            Box::new(Attested),
            Box::new(Rows),
            Box::new(Numbered),
            Box::new(Found),
        ]
    }
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &str {
        "audit_0001_index"
    }
}

// The events themselves are in the log and nowhere else. Times are Unix microseconds; what an event does not say is NULL,
// so that it takes no place in the indexes. Texts are compared byte for byte.
const TABLES: &str = "
CREATE TABLE indexed_event (
    leaf BIGINT PRIMARY KEY,
    time BIGINT NOT NULL,
    type {TEXT} NOT NULL,
    outcome INTEGER NOT NULL,
    emitter {TEXT} NOT NULL,
    namespace {TEXT},
    actor {TEXT},
    agent_id {TEXT},
    action {TEXT},
    resource_type {TEXT},
    resource_id {TEXT},
    trace_id {TEXT},
    credential_id {TEXT},
    decision_id {TEXT}
);
CREATE INDEX indexed_event_time ON indexed_event (time);
CREATE INDEX indexed_event_type ON indexed_event (type, leaf);
CREATE INDEX indexed_event_agent ON indexed_event (agent_id, leaf) WHERE agent_id IS NOT NULL;
CREATE INDEX indexed_event_trace ON indexed_event (trace_id, leaf) WHERE trace_id IS NOT NULL;
CREATE INDEX indexed_event_credential ON indexed_event (credential_id, leaf) WHERE credential_id IS NOT NULL;
CREATE INDEX indexed_event_decision ON indexed_event (decision_id) WHERE decision_id IS NOT NULL;
CREATE INDEX indexed_event_actor ON indexed_event (actor, leaf) WHERE actor IS NOT NULL;
CREATE INDEX indexed_event_resource ON indexed_event (resource_type, resource_id, leaf) WHERE resource_type IS NOT NULL;
CREATE TABLE index_head (
    id INTEGER PRIMARY KEY,
    origin {TEXT} NOT NULL,
    size BIGINT NOT NULL,
    root {BYTES} NOT NULL
);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}

struct Questions;

impl MigrationName for Questions {
    fn name(&self) -> &str {
        "audit_0002_questions"
    }
}

// The index is made again from the log, since every row gets more to it. Each index ends in the leaf, so that a page comes
// out of it in the log's order. `leaf_block` says of each 1,024 leaves between which times they are: a time is a stretch
// of the log. `usage_hour` has a row for whatever was decided in an hour. Who may read is what the registry's events said last.
const QUESTIONS: &str = "
DROP TABLE indexed_event;
DELETE FROM index_head;
CREATE TABLE indexed_event (
    leaf BIGINT PRIMARY KEY,
    time BIGINT NOT NULL,
    type {TEXT} NOT NULL,
    outcome INTEGER NOT NULL,
    emitter {TEXT} NOT NULL,
    namespace {TEXT},
    actor {TEXT},
    agent_id {TEXT},
    instance_id {TEXT},
    subject {TEXT},
    action {TEXT},
    resource_type {TEXT},
    resource_id {TEXT},
    reason_code {TEXT},
    trace_id {TEXT},
    decision_id {TEXT}
) {BY_KEY};
CREATE INDEX indexed_event_type ON indexed_event (type, leaf);
CREATE INDEX indexed_event_namespace ON indexed_event (namespace, leaf) WHERE namespace IS NOT NULL;
CREATE INDEX indexed_event_agent ON indexed_event (agent_id, leaf) WHERE agent_id IS NOT NULL;
CREATE INDEX indexed_event_instance ON indexed_event (instance_id, leaf) WHERE instance_id IS NOT NULL;
CREATE INDEX indexed_event_subject ON indexed_event (subject, leaf) WHERE subject IS NOT NULL;
CREATE INDEX indexed_event_action ON indexed_event (action, leaf) WHERE action IS NOT NULL;
CREATE INDEX indexed_event_trace ON indexed_event (trace_id, leaf) WHERE trace_id IS NOT NULL;
CREATE INDEX indexed_event_decision ON indexed_event (decision_id, leaf) WHERE decision_id IS NOT NULL;
CREATE INDEX indexed_event_actor ON indexed_event (actor, leaf) WHERE actor IS NOT NULL;
CREATE INDEX indexed_event_resource ON indexed_event (resource_id, resource_type, leaf) WHERE resource_id IS NOT NULL;
CREATE TABLE event_link (
    link SMALLINT NOT NULL,
    value {TEXT} NOT NULL,
    leaf BIGINT NOT NULL,
    PRIMARY KEY (link, value, leaf)
) {BY_KEY};
CREATE TABLE leaf_block (
    block BIGINT PRIMARY KEY,
    first_time BIGINT NOT NULL,
    last_time BIGINT NOT NULL
) {BY_KEY};
CREATE TABLE made_by (
    agent_id {TEXT} PRIMARY KEY,
    maker {TEXT} NOT NULL
) {BY_KEY};
CREATE INDEX made_by_maker ON made_by (maker);
CREATE TABLE usage_hour (
    hour BIGINT NOT NULL,
    agent_id {TEXT} NOT NULL,
    namespace {TEXT} NOT NULL,
    action {TEXT} NOT NULL,
    resource_type {TEXT} NOT NULL,
    outcome INTEGER NOT NULL,
    subject {TEXT} NOT NULL,
    count BIGINT NOT NULL,
    first_time BIGINT NOT NULL,
    last_time BIGINT NOT NULL,
    PRIMARY KEY (hour, agent_id, namespace, action, resource_type, outcome, subject)
) {BY_KEY};
CREATE INDEX usage_hour_agent ON usage_hour (agent_id, hour);
CREATE TABLE operator_role (
    namespace {TEXT} NOT NULL,
    binding {TEXT} NOT NULL,
    operator {TEXT} NOT NULL,
    role {TEXT} NOT NULL,
    not_before BIGINT,
    not_after BIGINT,
    PRIMARY KEY (namespace, binding, operator)
) {BY_KEY};
CREATE INDEX operator_role_operator ON operator_role (operator);
ALTER TABLE index_head ADD COLUMN roles_stated BOOLEAN NOT NULL DEFAULT FALSE;
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Questions {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, QUESTIONS).await
    }
}

struct Holds;

impl MigrationName for Holds {
    fn name(&self) -> &str {
        "audit_0004_holds"
    }
}

// What is held, by the collector's own events. Persons are found as links of events, by what stands for them.
const HOLDS: &str = "
CREATE TABLE legal_hold (
    id {TEXT} PRIMARY KEY,
    leaf BIGINT NOT NULL,
    subject {TEXT},
    agent_id {TEXT},
    namespace {TEXT},
    from_time BIGINT,
    to_time BIGINT
) {BY_KEY};
CREATE INDEX usage_hour_subject ON usage_hour (subject, hour);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Holds {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, HOLDS).await
    }
}

struct Told;

impl MigrationName for Told {
    fn name(&self) -> &str {
        "audit_0005_told"
    }
}

// What came by OTLP, so that it is known when it comes again. No log of an earlier version has any.
const TOLD: &str = "
CREATE TABLE told_by_otlp (
    event_id {TEXT} PRIMARY KEY,
    leaf BIGINT NOT NULL
) {BY_KEY};
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Told {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TOLD).await
    }
}

struct Attested;

impl MigrationName for Attested {
    fn name(&self) -> &str {
        "audit_0006_attested"
    }
}

// The index is made again from the log, so that every row says how far its origin is proved. What is signed names the leaf that holds
// the signature.
const ATTESTED: &str = "
DELETE FROM index_head;
ALTER TABLE indexed_event ADD COLUMN trust INTEGER NOT NULL DEFAULT 0;
ALTER TABLE indexed_event ADD COLUMN attested_by BIGINT;
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Attested {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, ATTESTED).await
    }
}

struct Rows;

impl MigrationName for Rows {
    fn name(&self) -> &str {
        "audit_0008_rows"
    }
}

// The commit log of collectors that share it, by the log's name. Unlike the index it cannot be made again. On SQLite, which one
// process has, the tables stay empty.
const ROWS: &str = "
CREATE TABLE log_lease (
    shard {TEXT} PRIMARY KEY,
    verifier_key {TEXT} NOT NULL,
    epoch BIGINT NOT NULL,
    holder {TEXT} NOT NULL,
    address {TEXT} NOT NULL,
    lease_until BIGINT NOT NULL,
    size BIGINT NOT NULL,
    root {BYTES} NOT NULL
) {BY_KEY};
CREATE TABLE log_batch (
    shard {TEXT} NOT NULL,
    first_index BIGINT NOT NULL,
    count BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    previous_root {BYTES} NOT NULL,
    root {BYTES} NOT NULL,
    leaves {BYTES} NOT NULL,
    names {BYTES} NOT NULL,
    PRIMARY KEY (shard, first_index)
);
CREATE TABLE log_name_key (
    shard {TEXT} NOT NULL,
    slot BIGINT NOT NULL,
    wrapped {BYTES} NOT NULL,
    PRIMARY KEY (shard, slot)
);
CREATE TABLE log_note (
    shard {TEXT} NOT NULL,
    name {TEXT} NOT NULL,
    value {BYTES} NOT NULL,
    PRIMARY KEY (shard, name)
) {BY_KEY};
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Rows {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, ROWS).await
    }
}

struct Numbered;

impl MigrationName for Numbered {
    fn name(&self) -> &str {
        "audit_0010_numbered"
    }
}

// The index is made again from the log, so that every emitter's events are found by their numbers. A row is of events whose numbers
// and leaves follow one another.
const NUMBERED: &str = "
DELETE FROM index_head;
CREATE TABLE numbered (
    emitter {TEXT} NOT NULL,
    epoch {TEXT} NOT NULL,
    first_seq BIGINT NOT NULL,
    first_leaf BIGINT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (emitter, epoch, first_seq)
) {BY_KEY};
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Numbered {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, NUMBERED).await
    }
}

struct Found;

impl MigrationName for Found {
    fn name(&self) -> &str {
        "audit_0012_found"
    }
}

// The index is made again from the log. What events are found by is written behind what is there (`posting`), where each index of a table
// had to be changed in as many places as there were events. Decisions are looked up by their ids one by one, and these grow with time.
const FOUND: &str = "
DELETE FROM index_head;
DROP INDEX indexed_event_type;
DROP INDEX indexed_event_namespace;
DROP INDEX indexed_event_agent;
DROP INDEX indexed_event_instance;
DROP INDEX indexed_event_subject;
DROP INDEX indexed_event_action;
DROP INDEX indexed_event_trace;
DROP INDEX indexed_event_actor;
DROP INDEX indexed_event_resource;
DROP TABLE event_link;
CREATE TABLE event_link (
    leaf BIGINT NOT NULL,
    link SMALLINT NOT NULL,
    value {TEXT} NOT NULL,
    PRIMARY KEY (leaf, link, value)
) {BY_KEY};
CREATE INDEX event_link_person ON event_link (value, leaf) WHERE link = 4;
CREATE TABLE posting (
    segment BIGINT NOT NULL,
    field SMALLINT NOT NULL,
    value {TEXT} NOT NULL,
    leaves {BYTES} NOT NULL,
    PRIMARY KEY (segment, field, value)
) {BY_KEY};
CREATE TABLE posting_segment (
    field SMALLINT NOT NULL,
    segment BIGINT NOT NULL,
    until BIGINT NOT NULL,
    width BIGINT NOT NULL,
    level SMALLINT NOT NULL,
    PRIMARY KEY (field, segment)
) {BY_KEY};
CREATE INDEX posting_segment_level ON posting_segment (field, segment) WHERE level < 32767;
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Found {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, FOUND).await
    }
}

struct Alerts;

impl MigrationName for Alerts {
    fn name(&self) -> &str {
        "audit_0003_alerts"
    }
}

// The index is made again from the log, so that alerts are of all of it. `remembered` is what the rules know from leaf to leaf;
// what has a `due` waits for that moment of the log's time. An edge is 0 while it waits, 1 where it is there, 2 where it is missing,
// 3 where that cannot be said.
const ALERTS: &str = "
DELETE FROM index_head;
CREATE TABLE remembered (
    kind SMALLINT NOT NULL,
    name {TEXT} NOT NULL,
    due BIGINT,
    value {BYTES} NOT NULL,
    PRIMARY KEY (kind, name)
) {BY_KEY};
CREATE INDEX remembered_due ON remembered (due) WHERE due IS NOT NULL;
CREATE TABLE alert (
    id {TEXT} PRIMARY KEY,
    finding {TEXT} NOT NULL,
    ordinal BIGINT NOT NULL,
    type SMALLINT NOT NULL,
    severity SMALLINT NOT NULL,
    status SMALLINT NOT NULL,
    namespace {TEXT} NOT NULL,
    agent_id {TEXT} NOT NULL,
    summary {TEXT} NOT NULL,
    leaves {TEXT} NOT NULL,
    count BIGINT NOT NULL,
    found BIGINT NOT NULL,
    first_time BIGINT NOT NULL,
    last_time BIGINT NOT NULL,
    raised BIGINT,
    changed_by {TEXT} NOT NULL,
    change_reason {TEXT} NOT NULL,
    changed BIGINT,
    UNIQUE (finding, ordinal)
) {BY_KEY};
CREATE INDEX alert_found ON alert (found, id);
CREATE INDEX alert_agent ON alert (agent_id, found);
CREATE INDEX alert_untold ON alert (found) WHERE raised IS NULL;
CREATE TABLE executed_action (
    leaf BIGINT PRIMARY KEY,
    time BIGINT NOT NULL,
    namespace {TEXT} NOT NULL,
    agent_id {TEXT} NOT NULL,
    action {TEXT} NOT NULL,
    resource_type {TEXT} NOT NULL,
    resource_id {TEXT} NOT NULL,
    emitter {TEXT} NOT NULL,
    agent SMALLINT NOT NULL,
    credential SMALLINT NOT NULL,
    decision SMALLINT NOT NULL
) {BY_KEY};
CREATE INDEX executed_action_namespace ON executed_action (namespace, time);
CREATE INDEX executed_action_agent ON executed_action (agent_id, time);
CREATE INDEX executed_action_time ON executed_action (time);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Alerts {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, ALERTS).await
    }
}
