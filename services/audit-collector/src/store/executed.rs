//! Executed actions, and whether each has what it needs.

use legate_db::rows::insert;
use legate_db::{Tx, TxResult};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::SimpleExpr;
use sea_orm::{Condition, QueryOrder as _, QuerySelect as _};

use super::event::{signed, unsigned};
use crate::domain::detect::fact::Action;
use crate::domain::detect::{Edge, Verdict};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, DeriveEntityModel)]
#[sea_orm(table_name = "executed_action")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) leaf: i64,
    pub(crate) time: i64,
    pub(crate) namespace: String,
    pub(crate) agent_id: String,
    pub(crate) action: String,
    pub(crate) resource_type: String,
    pub(crate) resource_id: String,
    pub(crate) emitter: String,
    pub(crate) agent: i16,
    pub(crate) credential: i16,
    pub(crate) decision: i16,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

const WAITING: i16 = 0;
const PRESENT: i16 = 1;
const MISSING: i16 = 2;
const UNKNOWN: i16 = 3;

fn number(edge: Edge) -> i16 {
    match edge {
        Edge::Waiting => WAITING,
        Edge::Present => PRESENT,
        Edge::Missing => MISSING,
        Edge::Unknown => UNKNOWN,
    }
}

/// Adds those that were told, and what became of those that were judged.
pub(super) async fn add<E>(tx: &Tx, told: &[Action], judged: &[Verdict]) -> TxResult<(), E> {
    let row = |one: &Action| Model {
        leaf: signed(one.leaf),
        time: one.time,
        namespace: one.namespace.clone(),
        agent_id: one.agent.clone(),
        action: one.action.clone(),
        resource_type: one.resource_type.clone(),
        resource_id: one.resource_id.clone(),
        emitter: one.emitter.clone(),
        agent: WAITING,
        credential: WAITING,
        decision: WAITING,
    };
    insert::<Entity>(tx, told.iter().map(row).collect(), None).await?;
    for one in judged {
        Entity::update_many()
            .col_expr(Column::Namespace, Expr::value(one.namespace.clone()))
            .col_expr(Column::Agent, Expr::value(number(one.agent)))
            .col_expr(Column::Credential, Expr::value(number(one.credential)))
            .col_expr(Column::Decision, Expr::value(number(one.decision)))
            .filter(Column::Leaf.eq(signed(one.leaf)))
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// Which of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Which {
    /// In one of these; `None`: anywhere.
    pub(crate) namespaces: Option<Vec<String>>,
    pub(crate) agent: String,
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
}

impl Which {
    fn condition(&self) -> Condition {
        let agent = Some(&self.agent).filter(|agent| !agent.is_empty());
        Condition::all()
            .add_option(self.namespaces.clone().map(|names| Column::Namespace.is_in(names)))
            .add_option(agent.map(|agent| Column::AgentId.eq(super::event::key(agent))))
            .add_option(self.from.map(|from| Column::Time.gte(from)))
            .add_option(self.to.map(|to| Column::Time.lt(to)))
    }
}

/// How many there are of each kind of verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) actions: u64,
    pub(crate) complete: u64,
    pub(crate) incomplete: u64,
    pub(crate) waiting: u64,
    /// Of agent, credential and decision: there, missing, unknown.
    pub(crate) edges: [[u64; 3]; 3],
}

/// Adds them up.
pub(crate) async fn sums<E>(tx: &Tx, which: &Which) -> TxResult<Sums, E> {
    let rows: Vec<(i16, i16, i16, i64)> = Entity::find()
        .select_only()
        .column(Column::Agent)
        .column(Column::Credential)
        .column(Column::Decision)
        .column_as(Column::Leaf.count(), "many")
        .filter(which.condition())
        .group_by(Column::Agent)
        .group_by(Column::Credential)
        .group_by(Column::Decision)
        .into_tuple()
        .all(tx)
        .await?;
    let mut sums = Sums::default();
    for (agent, credential, decision, many) in rows {
        let (many, edges) = (unsigned(many), [agent, credential, decision]);
        sums.actions += many;
        if edges.contains(&WAITING) {
            sums.waiting += many;
            continue;
        }
        match edges.iter().all(|edge| *edge == PRESENT) {
            true => sums.complete += many,
            false => sums.incomplete += many,
        }
        for (sum, edge) in sums.edges.iter_mut().zip(edges) {
            let at = usize::try_from(edge - PRESENT).unwrap_or(2).min(2);
            sum[at] += many;
        }
    }
    Ok(sums)
}

/// Those for which something is missing or unknown, the newest first.
pub(crate) async fn incomplete<E>(tx: &Tx, which: &Which, most: u64) -> TxResult<Vec<Model>, E> {
    let lacks = |column: Column| -> SimpleExpr { column.is_in([MISSING, UNKNOWN]) };
    let any = Condition::any().add(lacks(Column::Agent)).add(lacks(Column::Credential)).add(lacks(Column::Decision));
    let rows = Entity::find().filter(which.condition()).filter(any).order_by_desc(Column::Leaf).limit(most);
    Ok(rows.all(tx).await?)
}

impl Model {
    /// What is missing, in words.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let edges = [("agent", self.agent), ("credential", self.credential), ("decision", self.decision)];
        edges.into_iter().filter(|(_, edge)| *edge >= MISSING).map(|(name, _)| name).collect()
    }
}
