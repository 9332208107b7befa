//! Revocations are found by certificate: those that were there before are entered once.

use legate_wire::registry::{Declaration, Kind};
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement, Value};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::domain::lineage;

pub(super) struct RevokedCertificates;

impl MigrationName for RevokedCertificates {
    fn name(&self) -> &str {
        "registry_0005_revoked_certificates"
    }
}

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for RevokedCertificates {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let backend = db.get_database_backend();
        let find = format!("SELECT id, body FROM object WHERE kind = {} AND holds_name", Kind::Revocation as i32);
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
