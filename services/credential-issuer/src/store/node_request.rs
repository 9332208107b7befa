//! Requests of nodes for certificates, by the node and the name that it chose, for as long as they may be repeated.

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "node_request")]
pub(crate) struct Model {
    /// As `NAMESPACE/NAME`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) node: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) request_id: String,
    #[sea_orm(column_type = "Blob")]
    pub(crate) request_sha256: Vec<u8>,
    /// What was issued for it.
    pub(crate) credential_id: String,
    pub(crate) made_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Takes the name for this request; the one that has it already, where there is one. Of two at once, on whatever replica, the second
/// waits for the first, since the row is its own lock.
pub(crate) async fn begin(tx: &Tx, row: Model) -> TxResult<Option<Model>, Fault> {
    let key = (row.node.clone(), row.request_id.clone());
    let taken = Entity::insert(ActiveModel::from(row).reset_all())
        .on_conflict(OnConflict::columns([Column::Node, Column::RequestId]).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    if taken == 1 {
        return Ok(None);
    }
    Ok(Entity::find_by_id(key).one(tx).await?)
}

/// Forgets what was asked before that moment.
pub(crate) async fn forget(tx: &Tx, before: Timestamp) -> TxResult<(), Fault> {
    Entity::delete_many().filter(Column::MadeAt.lt(before.micros())).exec(tx).await?;
    Ok(())
}
