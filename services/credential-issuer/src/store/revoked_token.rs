//! Access tokens that were taken back one by one, until they would have ended by themselves.

use std::collections::HashSet;

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "revoked_token")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) token_id: String,
    pub(crate) until: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Marks it; `false` when it was marked before.
pub(crate) async fn mark(tx: &Tx, token_id: &str, until: Timestamp) -> TxResult<bool, Fault> {
    let row = ActiveModel { token_id: Set(token_id.to_owned()), until: Set(until.micros()) };
    let inserted = Entity::insert(row)
        .on_conflict(OnConflict::column(Column::TokenId).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(inserted == 1)
}

/// Whether any of them was taken back.
pub(crate) async fn any(db: &impl ConnectionTrait, token_ids: Vec<String>) -> TxResult<bool, Fault> {
    Ok(Entity::find().filter(Column::TokenId.is_in(token_ids)).one(db).await?.is_some())
}

/// Those of them that were taken back.
pub(crate) async fn those(
    tx: &Tx,
    token_ids: impl IntoIterator<Item = String> + Send,
) -> TxResult<HashSet<String>, Fault> {
    let token_ids: Vec<String> = token_ids.into_iter().collect();
    if token_ids.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = Entity::find().filter(Column::TokenId.is_in(token_ids)).all(tx).await?;
    Ok(rows.into_iter().map(|row| row.token_id).collect())
}

/// Forgets those that would have ended by now.
pub(crate) async fn forget(tx: &Tx, now: Timestamp) -> TxResult<(), Fault> {
    Entity::delete_many().filter(Column::Until.lt(now.micros())).exec(tx).await?;
    Ok(())
}
