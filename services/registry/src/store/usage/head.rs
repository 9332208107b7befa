//! How far the audit log was heard: one row, locked by whoever adds to what was heard.

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::{IntoActiveModel as _, QuerySelect as _};

use crate::store::broken;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_head")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: i32,
    /// The log's name; empty: nothing was heard.
    pub(crate) origin: String,
    /// The leaves before this one were heard.
    pub(crate) through: i64,
    /// The root over them.
    #[sea_orm(column_type = "Blob", nullable)]
    pub(crate) root: Option<Vec<u8>>,
    /// When the log's first leaf was told, in Unix microseconds.
    pub(crate) from_time: Option<i64>,
    /// Up to when all that the log held was heard.
    pub(crate) to_time: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Where it is; nobody else adds to it until the transaction ends.
pub(crate) async fn lock(tx: &Tx) -> TxResult<Model, Fault> {
    Entity::find().lock_exclusive().one(tx).await?.ok_or_else(|| broken("the place in the audit log is gone"))
}

/// Where it is.
pub(crate) async fn read(tx: &Tx) -> TxResult<Model, Fault> {
    Entity::find().one(tx).await?.ok_or_else(|| broken("the place in the audit log is gone"))
}

/// It is here now.
pub(crate) async fn put(tx: &Tx, row: Model) -> TxResult<(), Fault> {
    Entity::update(row.into_active_model().reset_all()).exec(tx).await?;
    Ok(())
}
