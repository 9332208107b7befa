//! What lists are searched by, a second time: the rows of facts in blocks of objects that were made together, and beside them
//! what is in force in the order of lists; of what is there already, too.

use sea_orm::{ConnectionTrait as _, DbErr, Value};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, SchemaManagerConnection};

use super::search::{decode, statement};
use crate::domain::kind;
use crate::domain::terms;
use crate::store::{listed, term};

pub(super) struct Facts;

impl MigrationName for Facts {
    fn name(&self) -> &str {
        "registry_0008_facts"
    }
}

// Objects get the numbers in the order of their ids, which is that of their times.
const TABLES: &str = "
ALTER TABLE head ADD COLUMN numbered BIGINT NOT NULL DEFAULT 0;
ALTER TABLE object ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
UPDATE object SET number = numbers.number
    FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS number FROM object) AS numbers WHERE numbers.id = object.id;
UPDATE head SET numbered = (SELECT COUNT(*) FROM object);
CREATE UNIQUE INDEX object_by_number ON object (number);
DROP TABLE term;
CREATE TABLE term (
    block BIGINT NOT NULL,
    kind INTEGER NOT NULL,
    field SMALLINT NOT NULL,
    value {TEXT} NOT NULL,
    namespace {TEXT} NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (block, kind, field, value, namespace, number)
) {BY_KEY};
CREATE TABLE listed (
    kind INTEGER NOT NULL,
    namespace {TEXT} NOT NULL,
    name {TEXT} NOT NULL,
    object_id {TEXT} NOT NULL,
    number BIGINT NOT NULL,
    facts {BYTES} NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) {BY_KEY};
";

// Names are held by the rows of `listed`; those that were given up are found beside them.
const INDEXES: &str = "
DROP INDEX object_by_name;
DROP INDEX object_in_order;
CREATE INDEX object_unlisted ON object (kind, namespace, name, id) WHERE NOT holds_name;
";

/// Rows that are read at once.
const ROWS: usize = 500;

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Facts {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        legate_db::create_tables(manager, TABLES).await?;
        let db = manager.get_connection();
        terms_of_all(db).await?;
        list_all(db).await?;
        legate_db::create_tables(manager, INDEXES).await
    }
}

/// Enters the facts of what is in force, in the order in which they rest.
async fn terms_of_all(db: &SchemaManagerConnection<'_>) -> Result<(), DbErr> {
    let mut after = 0i64;
    loop {
        let ask = "SELECT number, holds_name, body FROM object WHERE number > ? ORDER BY number LIMIT 500";
        let rows = db.query_all_raw(statement(db, ask, vec![after.into()])).await?;
        let mut facts = Vec::new();
        for row in &rows {
            after = row.try_get("", "number")?;
            if row.try_get("", "holds_name")? {
                let declaration = decode(&row.try_get::<Vec<u8>>("", "body")?)?;
                let Some(key) = kind::key_of(&declaration) else { continue };
                facts.extend(terms::facts(&declaration).into_iter().map(|fact| term::Model::of(&key, after, fact)));
            }
        }
        term::insert(db, facts).await?;
        if rows.len() < ROWS {
            return Ok(());
        }
    }
}

/// Lists what is in force, in the order in which it rests: by name.
async fn list_all(db: &SchemaManagerConnection<'_>) -> Result<(), DbErr> {
    let mut after: [Value; 3] = [0i32.into(), String::new().into(), String::new().into()];
    loop {
        let ask = "SELECT id, kind, namespace, name, number, body FROM object WHERE holds_name \
                   AND (kind, namespace, name) > (?, ?, ?) ORDER BY kind, namespace, name LIMIT 500";
        let rows = db.query_all_raw(statement(db, ask, after.to_vec())).await?;
        let mut list = Vec::new();
        for row in &rows {
            let declaration = decode(&row.try_get::<Vec<u8>>("", "body")?)?;
            let one = listed::Model {
                kind: row.try_get("", "kind")?,
                namespace: row.try_get("", "namespace")?,
                name: row.try_get("", "name")?,
                object_id: row.try_get("", "id")?,
                number: row.try_get("", "number")?,
                facts: terms::packed(&terms::facts(&declaration)),
            };
            after = [one.kind.into(), one.namespace.clone().into(), one.name.clone().into()];
            list.push(one);
        }
        listed::insert(db, list).await?;
        if rows.len() < ROWS {
            return Ok(());
        }
    }
}
