//! The outbox's two tables: the head with the counters, and the events that wait.
//!
//! A *place* counts every event of the store; `seq` counts those of one epoch from 1.

use sea_orm::entity::prelude::*;
use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

pub(crate) mod head {
    //! One row: the epoch, and how far the store is.
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "outbox_head")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) id: i32,
        pub(crate) epoch: String,
        /// The last place before the epoch.
        pub(crate) base: i64,
        pub(crate) last_place: i64,
        pub(crate) acked_place: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod event {
    //! One event; it becomes a leaf of the log with the epoch and `seq` that stand beside it.
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "outbox")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) place: i64,
        pub(crate) epoch: String,
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

/// A name that no epoch had before.
pub(crate) fn new_epoch() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Makes the tables and the first epoch; add it to the service's migrations.
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
        let epoch = new_epoch();
        db.execute_unprepared(
            "CREATE TABLE outbox_head (id INTEGER PRIMARY KEY CHECK (id = 1), epoch TEXT NOT NULL, \
             base BIGINT NOT NULL, last_place BIGINT NOT NULL, acked_place BIGINT NOT NULL, \
             CHECK (base <= last_place AND acked_place <= last_place))",
        )
        .await?;
        db.execute_unprepared(&format!("INSERT INTO outbox_head VALUES (1, '{epoch}', 0, 0, 0)")).await?;
        db.execute_unprepared(&format!(
            "CREATE TABLE outbox (place BIGINT PRIMARY KEY, epoch TEXT NOT NULL, seq BIGINT NOT NULL, \
             event {bytes} NOT NULL, recorded_at BIGINT NOT NULL, UNIQUE (epoch, seq))"
        ))
        .await?;
        Ok(())
    }
}
