//! The tables: enrolment tokens, credentials, instances, whose keys are whose, revocations that the registry has not confirmed.

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

/// The migrations of this service's database.
#[derive(Debug)]
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![legate_outbox::migration(), Box::new(Tables), Box::new(Instances)]
    }
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &str {
        "issuer_0001_tables"
    }
}

// Times are Unix microseconds. Ids are compared byte for byte, as they sort by time.
const TABLES: &str = "
CREATE TABLE enrolment (
    id {TEXT} PRIMARY KEY,
    mac {BYTES} NOT NULL UNIQUE,
    pepper INTEGER NOT NULL,
    spiffe_id {TEXT} NOT NULL,
    namespace {TEXT} NOT NULL,
    agent_id {TEXT} NOT NULL,
    enforcer {TEXT} NOT NULL,
    created_by {TEXT} NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    spent_at BIGINT,
    csr_sha256 {BYTES},
    credential_id {TEXT}
);
CREATE TABLE credential (
    id {TEXT} PRIMARY KEY,
    spiffe_id {TEXT} NOT NULL,
    namespace {TEXT} NOT NULL,
    agent_id {TEXT} NOT NULL,
    serial {TEXT} NOT NULL UNIQUE,
    key_sha256 {BYTES} NOT NULL,
    to_be_signed {BYTES} NOT NULL,
    to_be_signed_sha256 {BYTES} NOT NULL,
    certificate {BYTES},
    x5t_s256 {BYTES} UNIQUE,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    lifecycle_version BIGINT NOT NULL,
    origin {TEXT} NOT NULL,
    state INTEGER NOT NULL,
    issued_at BIGINT NOT NULL,
    revoked_at BIGINT,
    revocation_reason INTEGER
);
CREATE INDEX credential_by_agent ON credential (agent_id, id);
CREATE INDEX credential_by_namespace ON credential (namespace, id);
CREATE INDEX credential_by_key ON credential (key_sha256);
CREATE TABLE certified_key (
    key_sha256 {BYTES} PRIMARY KEY,
    spiffe_id {TEXT} NOT NULL,
    compromised BOOLEAN NOT NULL
);
CREATE TABLE pending_revocation (
    credential_id {TEXT} PRIMARY KEY,
    request {BYTES} NOT NULL,
    created_at BIGINT NOT NULL
);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await
    }
}

/// The running copies of agents. A credential of before has none.
struct Instances;

impl MigrationName for Instances {
    fn name(&self) -> &str {
        "issuer_0002_instances"
    }
}

// The row of an agent in `copies` is the lock under which its live instances are counted.
const INSTANCES: &str = "
CREATE TABLE instance (
    id {TEXT} PRIMARY KEY,
    namespace {TEXT} NOT NULL,
    agent_id {TEXT} NOT NULL,
    spiffe_id {TEXT} NOT NULL,
    method INTEGER NOT NULL,
    proof {TEXT} NOT NULL,
    started_at BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    lifecycle_version BIGINT NOT NULL,
    revoked_at BIGINT,
    revocation_reason INTEGER
);
CREATE INDEX instance_by_agent ON instance (agent_id, id);
CREATE INDEX instance_by_namespace ON instance (namespace, id);
CREATE INDEX instance_by_end ON instance (ends_at);
CREATE INDEX instance_of_agent_by_end ON instance (agent_id, ends_at);
CREATE TABLE copies (
    agent_id {TEXT} PRIMARY KEY,
    started BIGINT NOT NULL
);
ALTER TABLE credential ADD COLUMN instance_id {TEXT} NOT NULL DEFAULT '';
CREATE INDEX credential_by_instance ON credential (instance_id, id) WHERE instance_id <> '';
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Instances {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, INSTANCES).await
    }
}
