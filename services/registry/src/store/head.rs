//! The head: one row that holds the newest revision, and the lock that every write takes first.

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;

use super::{broken, signed, unsigned};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "head")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: i32,
    pub(crate) revision: i64,
    #[sea_orm(column_type = "Blob")]
    pub(crate) pages_key: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The newest revision, and no other write until the transaction ends: revisions are given in the order of commits.
pub(crate) async fn lock(tx: &Tx) -> TxResult<u64, Fault> {
    let row = Entity::find().lock_exclusive().one(tx).await?;
    Ok(unsigned(row.ok_or_else(|| broken("the registry's head is gone"))?.revision))
}

/// The newest revision.
pub(crate) async fn read(tx: &Tx) -> TxResult<u64, Fault> {
    let row = Entity::find().one(tx).await?;
    Ok(unsigned(row.ok_or_else(|| broken("the registry's head is gone"))?.revision))
}

/// The key of page tokens.
pub(crate) async fn pages_key(tx: &Tx) -> TxResult<[u8; 32], Fault> {
    let row = Entity::find().one(tx).await?.ok_or_else(|| broken("the registry's head is gone"))?;
    <[u8; 32]>::try_from(row.pages_key.as_slice()).map_err(broken)
}

/// Makes `revision` the newest.
pub(crate) async fn advance(tx: &Tx, revision: u64) -> TxResult<(), Fault> {
    Entity::update_many().col_expr(Column::Revision, Expr::value(signed(revision))).exec(tx).await?;
    Ok(())
}
