//! When each agent has to be looked at for the sake of lifecycle policies, in which namespaces that is reckoned anew, and what was told.

use std::collections::BTreeSet;

use legate_db::{Tx, TxResult, rows};
use legate_rpc::Fault;
use legate_wire::registry::Kind;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::object;
use super::pieces;
use crate::domain::lifecycle_policy::{Due, Plan};

/// What was told of an agent, so that it is told once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, DeriveEntityModel)]
#[sea_orm(table_name = "lifecycle_told")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) object_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) policy_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) rule: i16,
    /// That it would be done, before; else, that it would have been done now.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) beforehand: bool,
    /// What was told then: when it would be done.
    pub(crate) act_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// That this was told of an agent.
    pub(crate) fn of(object_id: &str, due: &Due, beforehand: bool) -> Self {
        Self {
            object_id: object_id.to_owned(),
            policy_id: due.policy_id.clone(),
            rule: i16::try_from(due.rule as i32).unwrap_or_default(),
            beforehand,
            act_at: due.act_at.micros(),
        }
    }
}

/// What was told of these agents.
pub(crate) async fn told(tx: &Tx, ids: BTreeSet<String>) -> TxResult<BTreeSet<Model>, Fault> {
    let mut found = BTreeSet::new();
    for some in pieces(ids.into_iter().collect()) {
        found.extend(Entity::find().filter(rows::among(tx, Column::ObjectId, some)).all(tx).await?);
    }
    Ok(found)
}

/// Remembers what was told, none of it twice.
pub(crate) async fn remember(tx: &Tx, told: Vec<Model>) -> TxResult<(), Fault> {
    let key = [Column::ObjectId, Column::PolicyId, Column::Rule, Column::Beforehand];
    let known = OnConflict::columns(key).update_column(Column::ActAt).to_owned();
    Ok(rows::insert::<Entity>(tx, told, Some(&known)).await?)
}

/// Nothing is told any more of agents that are retired, nor of policies that were taken back.
pub(crate) async fn forget(tx: &Tx, agents: Vec<String>, policies: Vec<String>) -> TxResult<(), Fault> {
    for (column, ids) in [(Column::ObjectId, agents), (Column::PolicyId, policies)] {
        for some in pieces(ids) {
            Entity::delete_many().filter(rows::among(tx, column, some)).exec(tx).await?;
        }
    }
    Ok(())
}

/// Namespaces whose agents are looked at anew, and behind which of them.
pub(crate) mod replan {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "lifecycle_replan")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) namespace: String,
        pub(crate) at_name: String,
        pub(crate) at_object: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Every agent of these namespaces is looked at anew, from the first one on.
pub(crate) async fn begin(tx: &Tx, namespaces: BTreeSet<String>) -> TxResult<(), Fault> {
    let row = |namespace| replan::Model { namespace, at_name: String::new(), at_object: String::new() };
    let again = OnConflict::column(replan::Column::Namespace)
        .update_columns([replan::Column::AtName, replan::Column::AtObject])
        .to_owned();
    Ok(rows::insert::<replan::Entity>(tx, namespaces.into_iter().map(row).collect(), Some(&again)).await?)
}

/// One of the namespaces whose agents are looked at anew.
pub(crate) async fn next(tx: &Tx) -> TxResult<Option<replan::Model>, Fault> {
    Ok(replan::Entity::find().order_by_asc(replan::Column::Namespace).one(tx).await?)
}

/// That goes on behind this agent, or (none) is done.
pub(crate) async fn went_on(tx: &Tx, namespace: &str, behind: Option<(String, String)>) -> TxResult<(), Fault> {
    match behind {
        Some((name, object)) => {
            replan::Entity::update_many()
                .col_expr(replan::Column::AtName, Expr::value(name))
                .col_expr(replan::Column::AtObject, Expr::value(object))
                .filter(replan::Column::Namespace.eq(namespace))
                .exec(tx)
                .await?;
        }
        None => {
            replan::Entity::delete_by_id(namespace.to_owned()).exec(tx).await?;
        }
    }
    Ok(())
}

/// Writes the plan for an agent. It is no part of what is declared, so no revision tells of it.
pub(crate) async fn set_plan(tx: &Tx, id: &str, plan: Plan) -> TxResult<(), Fault> {
    let at = |at: Option<legate_clock::Timestamp>| Expr::value(at.map(legate_clock::Timestamp::micros));
    object::Entity::update_many()
        .col_expr(object::Column::LookAt, at(plan.look_at))
        .col_expr(object::Column::DueAt, at(plan.due_at))
        .col_expr(object::Column::AttestAt, at(plan.attest_at))
        .filter(object::Column::Id.eq(id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Agents that have to be looked at, those that waited longest first.
pub(crate) async fn to_look_at(tx: &Tx, now: i64, limit: u64) -> TxResult<Vec<object::Model>, Fault> {
    let find = object::Entity::find().filter(object::Column::LookAt.lte(now));
    Ok(find.order_by_asc(object::Column::LookAt).limit(limit).all(tx).await?)
}

/// How many agents something is done to until then.
pub(crate) async fn due_until(tx: &Tx, until: i64) -> TxResult<u64, Fault> {
    let find = object::Entity::find().filter(object::Column::Kind.eq(Kind::Agent as i32));
    Ok(find.filter(object::Column::DueAt.lte(until)).count(tx).await?)
}
