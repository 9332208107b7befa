//! How often, and on which days, an agent was allowed an action on a type of resource.

use std::collections::BTreeMap;

use legate_db::{Tx, TxResult, rows};
use legate_rpc::Fault;
use legate_wire::audit::UsageWay;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{QueryOrder as _, QuerySelect as _};

use crate::domain::usage::Days;
use crate::store::pieces;

/// One action of one agent on one resource.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "used_permission")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) agent_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) action: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) resource_type: String,
    /// `*`: any of the type.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) resource_id: String,
    /// As `PermissionUsageWay` numbers it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) way: i32,
    pub(crate) count: i64,
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
    pub(crate) newest_day: i64,
    #[sea_orm(column_type = "Blob")]
    pub(crate) days: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The days on which it was used.
    pub(crate) fn days(&self) -> Days {
        Days::of_bytes(self.newest_day, &self.days)
    }

    /// Adds what another row says.
    pub(crate) fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        (self.first_time, self.last_time) =
            (self.first_time.min(other.first_time), self.last_time.max(other.last_time));
        let mut days = self.days();
        days.add_all(other.days());
        (self.newest_day, self.days) = days.to_bytes();
    }
}

/// Everything that these agents used, in the order of agents and actions.
pub(crate) async fn of(tx: &Tx, ids: Vec<String>) -> TxResult<Vec<Model>, Fault> {
    let mut found = Vec::new();
    for some in pieces(ids) {
        let find = Entity::find().filter(rows::among(tx, Column::AgentId, some));
        let find = find.order_by_asc(Column::AgentId).order_by_asc(Column::Action).order_by_asc(Column::ResourceType);
        found.extend(find.order_by_asc(Column::ResourceId).order_by_asc(Column::Way).all(tx).await?);
    }
    Ok(found)
}

/// When others last did something on behalf of these agents, by agent.
pub(crate) async fn last_through(tx: &Tx, ids: Vec<String>) -> TxResult<BTreeMap<String, i64>, Fault> {
    let mut found = BTreeMap::new();
    for some in pieces(ids) {
        let find = Entity::find()
            .select_only()
            .column(Column::AgentId)
            .column_as(Column::LastTime.max(), "last")
            .filter(rows::among(tx, Column::AgentId, some))
            .filter(Column::Way.eq(i32::from(UsageWay::Through)))
            .filter(Column::Count.gt(0))
            .group_by(Column::AgentId);
        found.extend(find.into_tuple::<(String, i64)>().all(tx).await?);
    }
    Ok(found)
}

/// Writes them.
pub(crate) async fn put(tx: &Tx, used: Vec<Model>) -> TxResult<(), Fault> {
    let key = [Column::AgentId, Column::Action, Column::ResourceType, Column::ResourceId, Column::Way];
    let changing = [Column::Count, Column::FirstTime, Column::LastTime, Column::NewestDay, Column::Days];
    let known = OnConflict::columns(key).update_columns(changing).to_owned();
    Ok(rows::insert::<Entity>(tx, used, Some(&known)).await?)
}
