//! What lets agents act for people is found by these: what was there before is entered once.

use legate_wire::registry::{Declaration, Kind};
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement, Value};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::domain::lineage;

pub(super) struct OfPeople;

impl MigrationName for OfPeople {
    fn name(&self) -> &str {
        "registry_0012_of_people"
    }
}

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for OfPeople {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let backend = db.get_database_backend();
        let (grants, bindings) = (Kind::DelegationGrant as i32, Kind::RoleBinding as i32);
        let find = format!("SELECT id, body FROM object WHERE kind IN ({grants}, {bindings}) AND holds_name");
        let places = if backend == DbBackend::Postgres { "$1, $2, $3, $4" } else { "?, ?, ?, ?" };
        let insert = format!("INSERT INTO reference (object_id, to_kind, to_namespace, to_name) VALUES ({places})");
        for row in db.query_all_raw(Statement::from_string(backend, find)).await? {
            let (id, body): (String, Vec<u8>) = (row.try_get("", "id")?, row.try_get("", "body")?);
            let declaration = Declaration::decode(body.as_slice()).map_err(|e| DbErr::Custom(e.to_string()))?;
            for key in lineage::found_under(&declaration) {
                let values = [id.clone().into(), Value::from(key.kind as i32), key.namespace.into(), key.name.into()];
                db.execute_raw(Statement::from_sql_and_values(backend, &insert, values)).await?;
            }
        }
        Ok(())
    }
}
