//! How far the alerts of audit-collector were dealt with, and whom each policy stopped because of them.

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, OnConflict};

use super::{broken, signed, unsigned};

/// From which leaf of the log on alerts were not dealt with; one row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "alert_feed")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: i32,
    pub(crate) next_leaf: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// An agent that a policy stopped because of the alert at a leaf.
mod stopped {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "lifecycle_stopped")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) policy_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) leaf: i64,
        pub(crate) stopped_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// From which leaf on alerts were not dealt with.
pub(crate) async fn next_leaf(tx: &Tx) -> TxResult<u64, Fault> {
    let row = Entity::find().one(tx).await?.ok_or_else(|| broken("the place in the feed of alerts is gone"))?;
    Ok(unsigned(row.next_leaf))
}

/// Everything before this leaf was dealt with; that never goes back.
pub(crate) async fn went_on(tx: &Tx, next_leaf: u64) -> TxResult<(), Fault> {
    let next = signed(next_leaf);
    let update = Entity::update_many().col_expr(Column::NextLeaf, Expr::value(next)).filter(Column::NextLeaf.lt(next));
    update.exec(tx).await?;
    Ok(())
}

/// The log was set back to this leaf.
pub(crate) async fn set_back(tx: &Tx, leaf: u64) -> TxResult<(), Fault> {
    Entity::update_many().col_expr(Column::NextLeaf, Expr::value(signed(leaf))).exec(tx).await?;
    Ok(())
}

/// The policy stopped an agent because of the alert at this leaf.
pub(crate) async fn stopped(tx: &Tx, policy_id: &str, leaf: u64, now: Timestamp) -> TxResult<(), Fault> {
    let row = stopped::Model { policy_id: policy_id.to_owned(), leaf: signed(leaf), stopped_at: now.micros() };
    // A log that was set back has another alert at the same leaf.
    let again = OnConflict::columns([stopped::Column::PolicyId, stopped::Column::Leaf])
        .update_column(stopped::Column::StoppedAt)
        .to_owned();
    let insert = stopped::Entity::insert(stopped::ActiveModel::from(row).reset_all()).on_conflict(again);
    insert.exec_without_returning(tx).await?;
    Ok(())
}

/// How many agents the policy stopped after a moment.
pub(crate) async fn stopped_after(tx: &Tx, policy_id: &str, after: Timestamp) -> TxResult<u64, Fault> {
    let find = stopped::Entity::find().filter(stopped::Column::PolicyId.eq(policy_id));
    Ok(find.filter(stopped::Column::StoppedAt.gt(after.micros())).count(tx).await?)
}

/// What no cap asks about any more is forgotten.
pub(crate) async fn forget(tx: &Tx, before: Timestamp) -> TxResult<(), Fault> {
    stopped::Entity::delete_many().filter(stopped::Column::StoppedAt.lt(before.micros())).exec(tx).await?;
    Ok(())
}
