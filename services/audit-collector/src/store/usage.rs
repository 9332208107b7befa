//! How often what was decided, by the hour: kept with the index, and exactly what the log says.

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Alias, ExprTrait as _, Func, OnConflict, Query, SimpleExpr};
use sea_orm::{IntoActiveModel as _, Order as Direction, QueryResult};

use super::event::{AT_ONCE, key};
use crate::domain::entry::{Count, Use};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, DeriveEntityModel)]
#[sea_orm(table_name = "usage_hour")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) hour: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) agent_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) namespace: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) action: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) resource_type: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) outcome: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) subject: String,
    pub(crate) count: i64,
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// What is counted of one thing, as texts of the index.
pub(crate) fn keyed(of: Use) -> Use {
    Use {
        agent_id: key(&of.agent_id),
        namespace: key(&of.namespace),
        action: key(&of.action),
        resource_type: key(&of.resource_type),
        subject: key(&of.subject),
        ..of
    }
}

/// The row of a count.
pub(crate) fn row(of: &Use, count: &Count) -> Model {
    let of = of.clone();
    Model {
        hour: of.hour,
        agent_id: of.agent_id,
        namespace: of.namespace,
        action: of.action,
        resource_type: of.resource_type,
        outcome: of.outcome,
        subject: of.subject,
        count: count.count,
        first_time: count.first.micros(),
        last_time: count.last.micros(),
    }
}

/// Adds to the counts; each key once.
pub(crate) async fn add<E>(tx: &Tx, rows: &[Model]) -> TxResult<(), E> {
    use Column::{Action, AgentId, Count, FirstTime, Hour, LastTime, Namespace, Outcome, ResourceType, Subject};
    let sum = || {
        let mut sum = OnConflict::columns([Hour, AgentId, Namespace, Action, ResourceType, Outcome, Subject]);
        let first = "CASE WHEN excluded.first_time < usage_hour.first_time THEN excluded.first_time \
                     ELSE usage_hour.first_time END";
        let last = "CASE WHEN excluded.last_time > usage_hour.last_time THEN excluded.last_time \
                    ELSE usage_hour.last_time END";
        sum.value(Count, Expr::cust("usage_hour.count + excluded.count"));
        sum.value(FirstTime, Expr::cust(first)).value(LastTime, Expr::cust(last));
        sum
    };
    for rows in rows.chunks(AT_ONCE) {
        let rows = rows.iter().cloned().map(|row| row.into_active_model().reset_all());
        Entity::insert_many(rows).on_conflict(sum()).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// What rows of an answer differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Agent,
    Action,
    ResourceType,
    Outcome,
    Subject,
    Namespace,
}

impl By {
    fn column(self) -> Column {
        match self {
            Self::Agent => Column::AgentId,
            Self::Action => Column::Action,
            Self::ResourceType => Column::ResourceType,
            Self::Outcome => Column::Outcome,
            Self::Subject => Column::Subject,
            Self::Namespace => Column::Namespace,
        }
    }
}

/// Which counts, and how they are added up.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    /// By one of these; `None`: by anybody.
    pub(crate) agents: Option<Vec<String>>,
    /// In one of these; `None`: anywhere.
    pub(crate) namespaces: Option<Vec<String>>,
    /// On behalf of one of these; empty: of anybody.
    pub(crate) subjects: Vec<String>,
    pub(crate) action: String,
    pub(crate) resource_type: String,
    pub(crate) outcome: i32,
    /// From the first hour, to before the second.
    pub(crate) hours: (Option<i64>, Option<i64>),
    /// Hours of one row; 0: all of them.
    pub(crate) period: i64,
    pub(crate) by: Vec<By>,
}

/// One row of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// The first hour of its period.
    pub(crate) hour: Option<i64>,
    pub(crate) agent_id: String,
    pub(crate) namespace: String,
    pub(crate) action: String,
    pub(crate) resource_type: String,
    pub(crate) outcome: i32,
    pub(crate) subject: String,
    pub(crate) count: u64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

impl Sum {
    /// Whether both count the same thing.
    pub(crate) fn is_of_the_same(&self, other: &Self) -> bool {
        let plain =
            |sum: &Self| Self { count: 0, first: Timestamp::default(), last: Timestamp::default(), ..sum.clone() };
        plain(self) == plain(other)
    }

    /// Adds another count of the same.
    pub(crate) fn add(&mut self, other: &Self) {
        self.count += other.count;
        (self.first, self.last) = (self.first.min(other.first), self.last.max(other.last));
    }
}

impl Which {
    fn condition(&self) -> sea_orm::Condition {
        let mut all = sea_orm::Condition::all();
        if let Some(agents) = &self.agents {
            all = all.add(Column::AgentId.is_in(agents.clone()));
        }
        if let Some(namespaces) = &self.namespaces {
            all = all.add(Column::Namespace.is_in(namespaces.clone()));
        }
        if !self.subjects.is_empty() {
            all = all.add(Column::Subject.is_in(self.subjects.clone()));
        }
        let texts = [(Column::Action, &self.action), (Column::ResourceType, &self.resource_type)];
        for (column, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            all = all.add(column.eq(key(text)));
        }
        if self.outcome != 0 {
            all = all.add(Column::Outcome.eq(self.outcome));
        }
        let (from, to) = self.hours;
        all = from.into_iter().fold(all, |all, from| all.add(Column::Hour.gte(from)));
        to.into_iter().fold(all, |all, to| all.add(Column::Hour.lt(to)))
    }
}

/// How many rows of the table answer, `most` at most.
pub(crate) async fn width<E>(tx: &Tx, which: &Which, most: u64) -> TxResult<u64, E> {
    let mut inner = Query::select();
    inner.column((Entity, Column::Hour)).from(Entity).cond_where(which.condition()).limit(most);
    let mut count = Query::select();
    count.expr(Func::count(Expr::cust("*"))).from_subquery(inner, Alias::new("found"));
    let found = tx.query_one_raw(tx.get_database_backend().build(&count)).await?;
    let count: Option<i64> = found.map(|row| row.try_get_by_index(0)).transpose()?;
    Ok(super::event::unsigned(count.unwrap_or(0)))
}

/// The sums, the largest first, `limit` at most.
pub(crate) async fn sums<E>(tx: &Tx, which: &Which, limit: u64) -> TxResult<Vec<Sum>, E> {
    let hour = Expr::col((Entity, Column::Hour));
    // Whole hours before 1970 would be rounded to the wrong side; events have none.
    let start: SimpleExpr = match which.period {
        0 => Expr::cust("0"),
        1 => hour,
        period => hour.clone().sub(hour.modulo(period)),
    };
    let (count, first, last) = (Alias::new("n"), Alias::new("first"), Alias::new("last"));
    let mut select = Query::select();
    select.expr_as(start, Alias::new("start"));
    // A sum of BIGINT is a NUMERIC in PostgreSQL.
    let sum = |of: SimpleExpr| of.cast_as(Alias::new("BIGINT"));
    select.expr_as(sum(Func::sum(Expr::col((Entity, Column::Count))).into()), count.clone());
    select.expr_as(Func::min(Expr::col((Entity, Column::FirstTime))), first);
    select.expr_as(Func::max(Expr::col((Entity, Column::LastTime))), last);
    select.from(Entity).cond_where(which.condition());
    if which.period != 0 {
        select.add_group_by([Expr::col(Alias::new("start"))]);
    }
    for by in &which.by {
        select.column((Entity, by.column())).add_group_by([Expr::col((Entity, by.column()))]);
    }
    select.cond_having(Expr::expr(Func::sum(Expr::col((Entity, Column::Count)))).gt(0));
    select.order_by(count, Direction::Desc).order_by(Alias::new("start"), Direction::Asc);
    for by in &which.by {
        select.order_by((Entity, by.column()), Direction::Asc);
    }
    select.limit(limit);
    let rows = tx.query_all_raw(tx.get_database_backend().build(&select)).await?;
    Ok(rows.iter().map(|row| read(row, which)).collect::<Result<_, _>>()?)
}

fn read(row: &QueryResult, which: &Which) -> Result<Sum, DbErr> {
    let number = |at: usize| row.try_get_by_index::<i64>(at);
    let mut sum = Sum {
        hour: if which.period == 0 { None } else { Some(number(0)?) },
        count: super::event::unsigned(number(1)?),
        first: Timestamp::from_micros(number(2)?),
        last: Timestamp::from_micros(number(3)?),
        ..Sum::default()
    };
    for (at, by) in (4..).zip(&which.by) {
        let text = || row.try_get_by_index::<String>(at);
        match by {
            By::Agent => sum.agent_id = text()?,
            By::Action => sum.action = text()?,
            By::ResourceType => sum.resource_type = text()?,
            By::Subject => sum.subject = text()?,
            By::Namespace => sum.namespace = text()?,
            By::Outcome => sum.outcome = row.try_get_by_index(at)?,
        }
    }
    Ok(sum)
}
