//! What agents had when they were approved.

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult, rows};
use legate_rpc::Fault;
use legate_wire::registry::ApprovedThing;
use prost::Message as _;
use sea_orm::QueryOrder as _;
use sea_orm::entity::prelude::*;

use super::{broken, pieces};

/// One thing of one agent.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "approved_thing")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) agent_id: String,
    /// A [`legate_wire::registry::ReviewedThing`].
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) reviewed: i32,
    /// Empty: it had nothing of this kind.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) granted_id: String,
    pub(crate) approved_at: i64,
    #[sea_orm(column_type = "Blob")]
    pub(crate) body: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// What was approved.
    pub(crate) fn thing(&self) -> TxResult<ApprovedThing, Fault> {
        ApprovedThing::decode(self.body.as_slice()).map_err(broken)
    }
}

/// An agent is approved as it is now; what it had when it was approved before counts no more.
pub(crate) async fn replace(tx: &Tx, agent_id: &str, things: &[ApprovedThing], now: Timestamp) -> TxResult<(), Fault> {
    forget(tx, agent_id).await?;
    let row = |thing: &ApprovedThing| Model {
        agent_id: agent_id.to_owned(),
        reviewed: thing.reviewed,
        granted_id: thing.granted_id.clone(),
        approved_at: now.micros(),
        body: thing.encode_to_vec(),
    };
    Ok(rows::insert::<Entity>(tx, things.iter().map(row).collect(), None).await?)
}

/// What these agents had, in the order of agents.
pub(crate) async fn of(tx: &Tx, agents: Vec<String>) -> TxResult<Vec<Model>, Fault> {
    let mut found = Vec::new();
    for some in pieces(agents) {
        let find = Entity::find().filter(rows::among(tx, Column::AgentId, some));
        let find = find.order_by_asc(Column::AgentId).order_by_asc(Column::Reviewed);
        found.extend(find.order_by_asc(Column::GrantedId).all(tx).await?);
    }
    Ok(found)
}

/// Forgets an agent that is forgotten itself.
pub(crate) async fn forget(tx: &Tx, agent_id: &str) -> TxResult<(), Fault> {
    Entity::delete_many().filter(Column::AgentId.eq(agent_id)).exec(tx).await?;
    Ok(())
}
