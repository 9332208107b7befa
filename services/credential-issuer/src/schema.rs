//! The tables: signing keys, enrolment tokens, credentials, running copies, whose keys are whose, what was shown once, revocations that
//! the registry has not confirmed, tokens of issuers outside that were used, what nodes asked for.

mod backchannel;
mod ended;
mod federated;
mod nodes;
mod retention;
mod status_list;

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

/// The migrations of this service's database.
#[derive(Debug)]
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            legate_outbox::migration(),
            Box::new(Tables),
            Box::new(Clients),
            Box::new(UsedIdentityTokens),
            Box::new(Instances),
            Box::new(SharesOfIdentityTokens),
            Box::new(Uses),
            Box::new(backchannel::Backchannel),
            Box::new(SigningKeys),
            Box::new(status_list::StatusLists),
            Box::new(nodes::Nodes),
            Box::new(federated::FederatedBundles),
            Box::new(retention::Retention),
            Box::new(ended::EndedByNodes),
        ]
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

struct Clients;

impl MigrationName for Clients {
    fn name(&self) -> &str {
        "issuer_0002_clients"
    }
}

// A credential is a certificate (1), a client secret (2) or a client key (3). Of a secret `key_sha256` is the HMAC, and
// `pepper` the version of the pepper; of a key `public_key` is the point (SEC 1, uncompressed). The row of a client is
// locked by whoever makes it a credential, since those that are live are counted. What may be shown only once
// (the `jti` of an assertion or a DPoP proof) is kept until nobody could show it again.
const CLIENTS: &str = "
ALTER TABLE credential ADD COLUMN kind INTEGER NOT NULL DEFAULT 1;
ALTER TABLE credential ADD COLUMN public_key {BYTES};
ALTER TABLE credential ADD COLUMN pepper INTEGER;
CREATE TABLE client (
    agent_id {TEXT} PRIMARY KEY
);
CREATE TABLE shown_once (
    what {BYTES} PRIMARY KEY,
    until BIGINT NOT NULL
);
CREATE INDEX shown_once_by_end ON shown_once (until);
CREATE TABLE revoked_token (
    token_id {TEXT} PRIMARY KEY,
    until BIGINT NOT NULL
);
CREATE INDEX revoked_token_by_end ON revoked_token (until);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Clients {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, CLIENTS).await
    }
}

struct UsedIdentityTokens;

impl MigrationName for UsedIdentityTokens {
    fn name(&self) -> &str {
        "issuer_0003_used_identity_tokens"
    }
}

const USED_IDENTITY_TOKENS: &str = "
CREATE TABLE used_identity_token (
    once {BYTES} PRIMARY KEY,
    used_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    request_sha256 {BYTES} NOT NULL,
    credential_id {TEXT} NOT NULL
);
CREATE INDEX used_identity_token_that_ends ON used_identity_token (expires_at);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for UsedIdentityTokens {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, USED_IDENTITY_TOKENS).await
    }
}

/// The running copies of agents. A credential of before has none.
struct Instances;

impl MigrationName for Instances {
    fn name(&self) -> &str {
        "issuer_0004_instances"
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

struct SharesOfIdentityTokens;

impl MigrationName for SharesOfIdentityTokens {
    fn name(&self) -> &str {
        "issuer_0008_shares_of_identity_tokens"
    }
}

// A token of before takes nobody's share.
const SHARES_OF_IDENTITY_TOKENS: &str = "
ALTER TABLE used_identity_token ADD COLUMN trusted {TEXT} NOT NULL DEFAULT '';
ALTER TABLE used_identity_token ADD COLUMN bucket SMALLINT NOT NULL DEFAULT 0;
CREATE TABLE used_identity_share (
    trusted {TEXT} NOT NULL,
    bucket SMALLINT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (trusted, bucket)
);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for SharesOfIdentityTokens {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, SHARES_OF_IDENTITY_TOKENS).await
    }
}

/// When credentials were last used, and last shown after their end.
struct Uses;

impl MigrationName for Uses {
    fn name(&self) -> &str {
        "issuer_0007_uses"
    }
}

const USES: &str = "
ALTER TABLE credential ADD COLUMN last_used_at BIGINT;
ALTER TABLE credential ADD COLUMN misused_at BIGINT;
CREATE INDEX credential_by_end ON credential (not_after, id);
CREATE INDEX credential_by_misuse ON credential (misused_at) WHERE misused_at IS NOT NULL;
CREATE INDEX credential_by_holder ON credential (spiffe_id, kind);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Uses {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, USES).await
    }
}

/// The keys that sign, and how they follow one another.
struct SigningKeys;

impl MigrationName for SigningKeys {
    fn name(&self) -> &str {
        "issuer_0006_signing_keys"
    }
}

// The row of a use in `key_turn` is the lock under which its keys change. Rows of keys stay for ever: no id is given twice.
const SIGNING_KEYS: &str = "
CREATE TABLE signing_key (
    kid {TEXT} PRIMARY KEY,
    purpose INTEGER NOT NULL,
    state INTEGER NOT NULL,
    public_key {BYTES} NOT NULL,
    certificate {BYTES},
    prepared_at BIGINT NOT NULL,
    known_at BIGINT,
    activated_at BIGINT,
    ends_at BIGINT,
    retired_at BIGINT,
    told INTEGER NOT NULL,
    destroyed BOOLEAN NOT NULL
);
CREATE INDEX signing_key_by_time ON signing_key (prepared_at, kid);
CREATE UNIQUE INDEX signing_key_that_signs ON signing_key (purpose) WHERE state = 2;
CREATE UNIQUE INDEX signing_key_that_waits ON signing_key (purpose) WHERE state = 1;
CREATE TABLE key_turn (
    purpose INTEGER PRIMARY KEY,
    taken BIGINT NOT NULL
);
";

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for SigningKeys {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, SIGNING_KEYS).await
    }
}
