//! Where the events are that answer a question: by everything that they are found by, and a bounded number of rows a page.

use std::ops::Range;

use legate_authority::Reach;
use legate_db::{Tx, TxResult};
use legate_filter::{EventField, Node, Test};
use sea_orm::sea_query::{Asterisk, Expr, ExprTrait as _, Func, Query, SelectStatement};
use sea_orm::{ColumnTrait as _, Condition, ConnectionTrait as _, DbBackend, Order as Direction};

use super::condition::{has, holds, indexed, is, is_one_of, keys, posted, value};
use super::event::{Column, Entity, key, signed, unsigned};
pub(crate) use super::walk::Found;
use super::walk::{Part, WORK, Walk};
use crate::domain::entry::Link;
use crate::domain::posting::Field;
use crate::domain::question::{Order, Question, TypeFilter, plain};
use crate::personal::Vault;

/// Namespaces that events are found by; of more, each row is looked at.
const MOST_NAMESPACES: usize = 64;

/// A question, planned.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// What an answer is found by; empty: nothing, so that every row is looked at.
    parts: Vec<Part>,
    /// What has to hold of a row.
    conditions: Condition,
    /// Whether everything that is found answers.
    is_whole: bool,
    /// Of these decisions; an index of the table finds what is told of one.
    decisions: Option<Vec<String>>,
    /// Rows that one page looks at.
    work: u64,
}

/// A plan that grows by what is asked.
struct Plan {
    parts: Vec<Part>,
    conditions: Condition,
    is_whole: bool,
    decisions: Option<Vec<String>>,
}

impl Plan {
    /// Takes in a condition, and by which texts what it holds of is found, where it is.
    fn ask(&mut self, condition: Condition, part: Option<Part>) {
        self.conditions = std::mem::replace(&mut self.conditions, Condition::all()).add(condition);
        match part {
            Some(part) => self.parts.push(part),
            None => self.is_whole = false,
        }
    }
}

/// The set of agents that a question is about, once it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Families {
    pub(crate) of_agent: Vec<String>,
    pub(crate) of_via: Vec<String>,
}

impl Search {
    /// Plans how a question is answered to somebody who sees so much.
    pub(crate) fn plan(question: &Question, families: &Families, sees: &Reach, vault: &Vault) -> Self {
        let mut plan = Plan { parts: Vec::new(), conditions: Condition::all(), is_whole: true, decisions: None };
        let one = |field: Field, texts: &[String]| Some(Part::from([(field, texts.to_vec())]));
        for (column, field, text) in [
            (Column::TraceId, Field::Trace, &question.trace_id),
            (Column::InstanceId, Field::Instance, &question.instance_id),
            (Column::ResourceId, Field::ResourceId, &question.resource_id),
            (Column::Subject, Field::Subject, &plain(&question.subject)),
            (Column::Actor, Field::Actor, &question.actor),
            (Column::Action, Field::Action, &question.action),
            (Column::Namespace, Field::Namespace, &question.namespace),
        ] {
            if !text.is_empty() {
                let texts = keys(text, vault);
                plan.ask(is_one_of(column, &texts), one(field, &texts));
            }
        }
        if !question.decision_id.is_empty() {
            let texts = keys(&question.decision_id, vault);
            plan.ask(is_one_of(Column::DecisionId, &texts), None);
            plan.decisions = Some(texts);
        }
        for (of, field, text) in [
            (Link::Credential, Field::Credential, &question.credential_id),
            (Link::Grant, Field::Grant, &question.grant_id),
            (Link::Chain, Field::Chain, &plain(&question.chain)),
        ] {
            if !text.is_empty() {
                let texts = keys(text, vault);
                plan.ask(has(of, value().is_in(texts.iter().map(String::as_str))), one(field, &texts));
            }
        }
        if !families.of_agent.is_empty() {
            plan.ask(is_one_of(Column::AgentId, &families.of_agent), one(Field::Agent, &families.of_agent));
        }
        if !families.of_via.is_empty() {
            let in_chain = value().is_in(families.of_via.iter().map(String::as_str));
            let either = Condition::any().add(is_one_of(Column::AgentId, &families.of_via));
            let both = [Field::Agent, Field::Chain].map(|field| (field, families.of_via.clone()));
            plan.ask(either.add(has(Link::Chain, in_chain)), Some(both.into()));
        }
        let kind = key(&question.resource_type);
        if !kind.is_empty() {
            plan.ask(is(Column::ResourceType, &kind), one(Field::ResourceType, std::slice::from_ref(&kind)));
        }
        match &question.kind {
            TypeFilter::Any => {}
            TypeFilter::Exactly(kind) => plan.ask(is(Column::Type, &key(kind)), one(Field::Type, &[key(kind)])),
            // `/` is the character after `.`: this is the range of everything that begins so.
            TypeFilter::Under(noun) => {
                let under = Condition::all().add(Column::Type.gte(format!("{noun}.")));
                plan.ask(under.add(Column::Type.lt(format!("{noun}/"))), None);
            }
        }
        if !question.emitter.is_empty() {
            let emitter = key(&question.emitter);
            plan.ask(is(Column::Emitter, &emitter), one(Field::Emitter, std::slice::from_ref(&emitter)));
        }
        let also = [
            (question.outcome != 0).then(|| Column::Outcome.eq(question.outcome)),
            (question.trust != 0).then(|| Column::Trust.eq(question.trust)),
            question.from.map(|from| Column::Time.gte(from.micros())),
            question.to.map(|to| Column::Time.lt(to.micros())),
        ];
        also.into_iter().flatten().for_each(|test| plan.ask(Condition::all().add(test), None));
        if let Some(filter) = &question.filter {
            let narrowing = narrowing(filter.root(), vault);
            // What is found by the only thing that it says answers it.
            let is_all = matches!(filter.root(), Node::Term(_)) && !narrowing.is_empty();
            plan.is_whole &= is_all;
            plan.conditions =
                std::mem::replace(&mut plan.conditions, Condition::all()).add(holds(filter.root(), vault));
            for narrow in narrowing {
                match narrow {
                    Narrow::To(part) => plan.parts.push(part),
                    Narrow::Decisions(texts) => {
                        plan.decisions.get_or_insert(texts);
                        plan.is_whole = false;
                    }
                }
            }
        }
        if let Reach::In(names) = sees {
            let names: Vec<String> = names.iter().map(|name| key(name.as_str())).collect();
            let part = if names.len() <= MOST_NAMESPACES { one(Field::Namespace, &names) } else { None };
            plan.ask(is_one_of(Column::Namespace, &names), part);
        }
        let Plan { mut parts, conditions, is_whole, decisions } = plan;
        // What fewest have comes first: where nothing is left, nothing more is looked up.
        parts.sort_by_key(|part| part.keys().copied().map(rank).max());
        Self { parts, conditions, is_whole, decisions, work: WORK }
    }

    /// The same with another bound on what a page looks at.
    #[cfg(test)]
    pub(crate) fn looking_at(self, work: u64) -> Self {
        Self { work, ..self }
    }

    /// The first `limit` leaves of a stretch that answer, in order; fewer where the bound on work is reached.
    pub(crate) async fn page<E>(&self, tx: &Tx, stretch: Range<u64>, order: Order, limit: u64) -> TxResult<Found, E> {
        if stretch.is_empty() {
            return Ok(Found::default());
        }
        if tx.get_database_backend() == DbBackend::Postgres {
            tx.execute_unprepared(BY_INDEX).await?;
        }
        if self.parts.is_empty() || self.decisions.is_some() {
            return self.along(tx, &stretch, order, limit).await;
        }
        let rest = (!self.is_whole).then(|| self.conditions.clone());
        Walk { parts: self.parts.clone(), rest }.page(tx, stretch, order, (limit, self.work)).await
    }

    /// Row by row, in the log's order.
    async fn along<E>(&self, tx: &Tx, stretch: &Range<u64>, order: Order, limit: u64) -> TxResult<Found, E> {
        let backend = tx.get_database_backend();
        let is_all = self.is_whole && self.decisions.is_none();
        let select = if is_all {
            self.rows(stretch, order, limit)
        } else {
            let mut select = Query::select();
            select.column((Entity, Column::Leaf)).from_subquery(self.rows(stretch, order, self.work), Entity);
            select.cond_where(self.conditions.clone()).order_by((Entity, Column::Leaf), direction(order)).limit(limit);
            select
        };
        let rows = tx.query_all_raw(backend.build(&select)).await?;
        let leaves: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get("", "leaf")).collect();
        let leaves: Vec<u64> = leaves?.into_iter().map(unsigned).collect();
        if leaves.len() as u64 >= limit {
            return Ok(Found { more_behind: leaves.last().copied(), leaves });
        }
        if is_all {
            return Ok(Found { leaves, more_behind: None });
        }
        let mut width = Query::select();
        width.expr(Func::count(Expr::col(Asterisk))).expr(match order {
            Order::NewestFirst => Func::min(Expr::col((Entity, Column::Leaf))),
            Order::OldestFirst => Func::max(Expr::col((Entity, Column::Leaf))),
        });
        width.from_subquery(self.rows(stretch, order, self.work), Entity);
        let Some(row) = tx.query_one_raw(backend.build(&width)).await? else {
            return Ok(Found { leaves, more_behind: None });
        };
        let (count, last): (i64, Option<i64>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let is_cut = unsigned(count) >= self.work;
        Ok(Found { leaves, more_behind: last.filter(|_| is_cut).map(unsigned) })
    }

    /// The rows of a stretch that are looked at, in order.
    fn rows(&self, stretch: &Range<u64>, order: Order, limit: u64) -> SelectStatement {
        let mut select = Query::select();
        select.column((Entity, Asterisk)).from(Entity).limit(limit);
        let leaf = Expr::col((Entity, Column::Leaf));
        select.and_where(leaf.clone().gte(signed(stretch.start))).and_where(leaf.lt(signed(stretch.end)));
        if let Some(decisions) = &self.decisions {
            select.and_where(Column::DecisionId.is_not_null());
            select.and_where(Column::DecisionId.is_in(decisions.iter().map(String::as_str)));
        }
        select.order_by((Entity, Column::Leaf), direction(order));
        select
    }
}

/// Until the transaction ends, rows come out of an index in its order, whatever the statistics say.
const BY_INDEX: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off; \
                        SET LOCAL enable_mergejoin = off; SET LOCAL jit = off";

fn direction(order: Order) -> Direction {
    match order {
        Order::NewestFirst => Direction::Desc,
        Order::OldestFirst => Direction::Asc,
    }
}

/// The more events have one text of a field, the more it is.
fn rank(field: Field) -> u8 {
    match field {
        Field::Trace => 1,
        Field::Credential => 2,
        Field::Instance => 3,
        Field::Grant => 4,
        Field::Chain => 5,
        Field::ResourceId => 6,
        Field::Subject => 7,
        Field::Agent => 8,
        Field::Actor => 9,
        Field::Action => 10,
        Field::Type => 11,
        Field::Namespace => 12,
        Field::ResourceType => 13,
        Field::Emitter => 14,
    }
}

/// What a filter alone narrows an answer to.
enum Narrow {
    To(Part),
    Decisions(Vec<String>),
}

/// What all of a filter has to be.
fn narrowing(root: &Node, vault: &Vault) -> Vec<Narrow> {
    let parts = match root {
        Node::All(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    let narrow = |node: &Node| {
        let Node::Term(term) = node else { return None };
        let (legate_filter::Field::Event(field), Test::Is(text)) = (&term.field, &term.test) else { return None };
        let texts = indexed(*field, text, vault);
        if *field == EventField::DecisionId {
            return Some(Narrow::Decisions(texts));
        }
        posted(*field).map(|field| Narrow::To(Part::from([(field, texts)])))
    };
    parts.iter().filter_map(narrow).collect()
}
