//! What may be shown only once: the names (`jti`) of client assertions and DPoP proofs, until nobody could show them again.

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "shown_once")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub(crate) what: Vec<u8>,
    pub(crate) until: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Notes that it was shown: of all who show it, on whatever replica, one gets `true`, since the row is its own lock.
pub(crate) async fn show(tx: &Tx, what: &[u8; 32], until: Timestamp) -> TxResult<bool, Fault> {
    let row = ActiveModel { what: Set(what.to_vec()), until: Set(until.micros()) };
    let inserted = Entity::insert(row)
        .on_conflict(OnConflict::column(Column::What).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(inserted == 1)
}

/// Forgets what nobody could show any more.
pub(crate) async fn forget(tx: &Tx, now: Timestamp) -> TxResult<(), Fault> {
    Entity::delete_many().filter(Column::Until.lt(now.micros())).exec(tx).await?;
    Ok(())
}
