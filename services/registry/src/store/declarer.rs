//! Who declared an object, changed what is declared of it, or made it, in versions that are no longer kept; and of what a review left of
//! another object, whose work that was.

use std::collections::BTreeSet;

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "declarer")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) object_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) actor: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Remembers these, with those that are remembered already.
pub(crate) async fn add(tx: &Tx, object_id: &str, actors: BTreeSet<String>) -> TxResult<(), Fault> {
    for actor in actors {
        let row = ActiveModel::from(Model { object_id: object_id.to_owned(), actor }).reset_all();
        let known = OnConflict::columns([Column::ObjectId, Column::Actor]).do_nothing().to_owned();
        Entity::insert(row).on_conflict(known).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// Those that are remembered.
pub(crate) async fn of(tx: &Tx, object_id: &str) -> TxResult<BTreeSet<String>, Fault> {
    let rows = Entity::find().filter(Column::ObjectId.eq(object_id)).all(tx).await?;
    Ok(rows.into_iter().map(|row| row.actor).collect())
}

/// Nobody asks any more whose work it was.
pub(crate) async fn forget(tx: &Tx, object_id: &str) -> TxResult<(), Fault> {
    Entity::delete_many().filter(Column::ObjectId.eq(object_id)).exec(tx).await?;
    Ok(())
}
