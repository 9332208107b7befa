//! Requests that were carried out, so that a repetition gets the same answer and does nothing.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

/// How long a request is remembered.
const KEPT: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "request")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) caller: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) request_id: String,
    /// SHA-256 of the method and the body.
    #[sea_orm(column_type = "Blob")]
    pub(crate) digest: Vec<u8>,
    #[sea_orm(column_type = "Blob")]
    pub(crate) answer: Vec<u8>,
    pub(crate) created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The request of this id, while it is remembered.
pub(crate) async fn find(tx: &Tx, caller: &str, request_id: &str, now: Timestamp) -> TxResult<Option<Model>, Fault> {
    let key = (caller.to_owned(), request_id.to_owned());
    let found = Entity::find_by_id(key).one(tx).await?;
    Ok(found.filter(|row| row.created_at > now.minus(KEPT).micros()))
}

/// Remembers a request, in the place of a forgotten one.
pub(crate) async fn put(tx: &Tx, row: Model) -> TxResult<(), Fault> {
    let key = OnConflict::columns([Column::Caller, Column::RequestId])
        .update_columns([Column::Digest, Column::Answer, Column::CreatedAt])
        .to_owned();
    Entity::insert(ActiveModel::from(row).reset_all()).on_conflict(key).exec_without_returning(tx).await?;
    Ok(())
}

/// Forgets what is older than a repetition is likely to be.
pub(crate) async fn forget(tx: &Tx, now: Timestamp) -> TxResult<u64, Fault> {
    let old = Entity::delete_many().filter(Column::CreatedAt.lte(now.minus(KEPT).micros())).exec(tx).await?;
    Ok(old.rows_affected)
}
