//! The outbox's two tables: the head with the counters, and the events that wait.

use sea_orm::entity::prelude::*;
use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(crate) mod head {
    //! One row: which life of the store this is, and how far it is.
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "outbox_head")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) id: i32,
        pub(crate) epoch: String,
        pub(crate) last_seq: i64,
        pub(crate) acked_seq: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod event {
    //! One event, as the bytes that become a leaf of the log.
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "outbox")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) seq: i64,
        #[sea_orm(column_type = "Blob")]
        pub(crate) event: Vec<u8>,
        /// Unix microseconds.
        pub(crate) recorded_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Makes the tables and this store's epoch; add it to the service's migrations.
#[must_use]
pub fn migration() -> Box<dyn MigrationTrait> {
    Box::new(Tables)
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &str {
        "outbox_0001_tables"
    }
}

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let bytes = match db.get_database_backend() {
            DbBackend::Postgres => "BYTEA",
            _ => "BLOB",
        };
        // A store restored from a copy keeps its epoch: the collector sees that its seq went back.
        let epoch = format!("{:032x}", rand::random::<u128>());
        db.execute_unprepared(
            "CREATE TABLE outbox_head (id INTEGER PRIMARY KEY CHECK (id = 1), epoch TEXT NOT NULL, \
             last_seq BIGINT NOT NULL, acked_seq BIGINT NOT NULL, CHECK (acked_seq <= last_seq))",
        )
        .await?;
        db.execute_unprepared(&format!("INSERT INTO outbox_head VALUES (1, '{epoch}', 0, 0)")).await?;
        db.execute_unprepared(&format!(
            "CREATE TABLE outbox (seq BIGINT PRIMARY KEY, event {bytes} NOT NULL, recorded_at BIGINT NOT NULL)"
        ))
        .await?;
        Ok(())
    }
}
