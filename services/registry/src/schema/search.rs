//! What lists are ordered by, and when each revision was made; of what is there already, too.
//!
//! The facts that lists were searched by rest elsewhere now, see [`super::facts`], so that none are entered here.

use legate_wire::registry::Declaration;
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement, Value};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, SchemaManagerConnection};

use crate::store::object::Times;

pub(super) struct Search;

impl MigrationName for Search {
    fn name(&self) -> &str {
        "registry_0004_search"
    }
}

// The rows of `term` are their own index: first what is asked for, then the order of lists.
const COLUMNS: &str = "
ALTER TABLE head ADD COLUMN written_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE revision ADD COLUMN written_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE object ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE object ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE object ADD COLUMN expires_at BIGINT;
ALTER TABLE object ADD COLUMN used_at BIGINT;
CREATE TABLE term (
    kind INTEGER NOT NULL,
    field SMALLINT NOT NULL,
    value {TEXT} NOT NULL,
    namespace {TEXT} NOT NULL,
    name {TEXT} NOT NULL,
    object_id {TEXT} NOT NULL,
    PRIMARY KEY (kind, field, value, namespace, name, object_id)
) {BY_KEY};
";

const INDEXES: &str = "
CREATE INDEX revision_by_time ON revision (written_at, revision);
CREATE INDEX object_by_creation ON object (kind, created_at, id);
CREATE INDEX object_by_update ON object (kind, updated_at, id);
CREATE INDEX object_by_expiry ON object (kind, expires_at) WHERE expires_at IS NOT NULL;
";

/// Rows that are read at once.
const ROWS: usize = 500;

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Search {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, COLUMNS).await?;
        let db = manager.get_connection();
        objects(db).await?;
        revisions(db).await?;
        legate_db::create_tables(manager, INDEXES).await
    }
}

/// A statement with its values, in each database's own spelling of `?`.
pub(super) fn statement(db: &SchemaManagerConnection<'_>, sql: &str, values: Vec<Value>) -> Statement {
    let backend = db.get_database_backend();
    if backend != DbBackend::Postgres {
        return Statement::from_sql_and_values(backend, sql, values);
    }
    let mut parts = sql.split('?');
    let mut numbered = parts.next().unwrap_or_default().to_owned();
    for (n, part) in parts.enumerate() {
        numbered += &format!("${}{part}", n + 1);
    }
    Statement::from_sql_and_values(backend, numbered, values)
}

/// Tells of every object when it was made, changed and ends.
async fn objects(db: &SchemaManagerConnection<'_>) -> Result<(), DbErr> {
    let mut after = String::new();
    loop {
        let ask = "SELECT id, body FROM object WHERE id > ? ORDER BY id LIMIT 500";
        let rows = db.query_all_raw(statement(db, ask, vec![after.clone().into()])).await?;
        for row in &rows {
            let id: String = row.try_get("", "id")?;
            let declaration = decode(&row.try_get::<Vec<u8>>("", "body")?)?;
            let times = Times::of(&declaration);
            let set = "UPDATE object SET created_at = ?, updated_at = ?, expires_at = ?, used_at = ? WHERE id = ?";
            let values = vec![
                times.created.into(),
                times.updated.into(),
                times.expires.into(),
                times.used.into(),
                id.clone().into(),
            ];
            db.execute_raw(statement(db, set, values)).await?;
            after = id;
        }
        if rows.len() < ROWS {
            return Ok(());
        }
    }
}

/// Tells of every revision when it was made: when its first object was. A clock that went back does not turn their order.
async fn revisions(db: &SchemaManagerConnection<'_>) -> Result<(), DbErr> {
    let (mut after, mut last) = (0i64, 0i64);
    loop {
        let ask = "SELECT revision, body FROM change WHERE place = 0 AND revision > ? ORDER BY revision LIMIT 500";
        let rows = db.query_all_raw(statement(db, ask, vec![after.into()])).await?;
        for row in &rows {
            after = row.try_get("", "revision")?;
            last = last.max(Times::of(&decode(&row.try_get::<Vec<u8>>("", "body")?)?).updated);
            let set = "UPDATE revision SET written_at = ? WHERE revision = ?";
            db.execute_raw(statement(db, set, vec![last.into(), after.into()])).await?;
        }
        if rows.len() < ROWS {
            break;
        }
    }
    db.execute_raw(statement(db, "UPDATE head SET written_at = ?", vec![last.into()])).await?;
    Ok(())
}

pub(super) fn decode(body: &[u8]) -> Result<Declaration, DbErr> {
    Declaration::decode(body).map_err(|e| DbErr::Custom(format!("an object cannot be read: {e}")))
}
