//! When an agent last used or obtained anything, and how often it was denied.

use legate_db::{Tx, TxResult, rows};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, OnConflict};

use crate::store::{object, pieces};

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "used_agent")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) agent_id: String,
    /// When it last used or obtained anything, in Unix microseconds.
    pub(crate) used_at: Option<i64>,
    pub(crate) obtained_at: Option<i64>,
    pub(crate) denied: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Those of these agents of which something is known.
pub(crate) async fn of(tx: &Tx, ids: Vec<String>) -> TxResult<Vec<Model>, Fault> {
    let mut found = Vec::new();
    for some in pieces(ids) {
        found.extend(Entity::find().filter(rows::among(tx, Column::AgentId, some)).all(tx).await?);
    }
    Ok(found)
}

/// Writes them, and their times beside the agents themselves, where lists are searched by them.
pub(crate) async fn put(tx: &Tx, agents: Vec<Model>) -> TxResult<(), Fault> {
    let ids: Vec<String> = agents.iter().map(|row| row.agent_id.clone()).collect();
    let changing = [Column::UsedAt, Column::ObtainedAt, Column::Denied];
    let known = OnConflict::column(Column::AgentId).update_columns(changing).to_owned();
    rows::insert::<Entity>(tx, agents, Some(&known)).await?;
    let used = "(SELECT used_agent.used_at FROM used_agent WHERE used_agent.agent_id = object.id)";
    for some in pieces(ids) {
        object::Entity::update_many()
            .col_expr(object::Column::UsedAt, Expr::cust(used))
            .filter(rows::among(tx, object::Column::Id, some))
            .exec(tx)
            .await?;
    }
    Ok(())
}
