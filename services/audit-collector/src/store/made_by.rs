//! Which agents were made by which, by the registry's own events.

use std::collections::BTreeSet;

use legate_db::{Tx, TxResult};
use sea_orm::ActiveValue::Set;
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

use super::event::{AT_ONCE, key};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "made_by")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) agent_id: String,
    pub(crate) maker: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Adds what is not known yet. Who made an agent never changes, whoever answers for it later.
pub(crate) async fn add<E>(tx: &Tx, made: &[(String, String)]) -> TxResult<(), E> {
    for rows in made.chunks(AT_ONCE) {
        let row = |(agent, maker): &(String, String)| ActiveModel { agent_id: Set(key(agent)), maker: Set(key(maker)) };
        let known = OnConflict::column(Column::AgentId).do_nothing().to_owned();
        Entity::insert_many(rows.iter().map(row)).on_conflict(known).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// An agent, with those that it made and those that they made; `None` when there are more than `most`.
pub(crate) async fn family<E>(tx: &Tx, agent: &str, most: usize) -> TxResult<Option<Vec<String>>, E> {
    let mut all = BTreeSet::from([key(agent)]);
    let mut makers: Vec<String> = all.iter().cloned().collect();
    while !makers.is_empty() {
        let next = Entity::find().select_only().column(Column::AgentId).filter(Column::Maker.is_in(makers));
        let next: Vec<String> = next.limit(most as u64 + 1).into_tuple().all(tx).await?;
        makers = next.into_iter().filter(|one| all.insert(one.clone())).collect();
        if all.len() > most {
            return Ok(None);
        }
    }
    Ok(Some(all.into_iter().collect()))
}
