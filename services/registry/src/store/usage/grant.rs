//! How often allowed decisions rested on a delegation grant.

use legate_db::{Tx, TxResult, rows};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

use crate::store::pieces;

/// One grant.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "used_grant")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) grant_id: String,
    pub(crate) count: i64,
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Those of these grants that were used.
pub(crate) async fn of(tx: &Tx, ids: Vec<String>) -> TxResult<Vec<Model>, Fault> {
    let mut found = Vec::new();
    for some in pieces(ids) {
        found.extend(Entity::find().filter(rows::among(tx, Column::GrantId, some)).all(tx).await?);
    }
    Ok(found)
}

/// Writes them.
pub(crate) async fn put(tx: &Tx, grants: Vec<Model>) -> TxResult<(), Fault> {
    let changing = [Column::Count, Column::FirstTime, Column::LastTime];
    let known = OnConflict::column(Column::GrantId).update_columns(changing).to_owned();
    Ok(rows::insert::<Entity>(tx, grants, Some(&known)).await?)
}

/// Forgets a grant that is forgotten itself.
pub(crate) async fn forget(tx: &Tx, id: &str) -> TxResult<(), Fault> {
    Entity::delete_by_id(id.to_owned()).exec(tx).await?;
    Ok(())
}
