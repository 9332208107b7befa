//! Where the events are that answer a question: out of the index that fewest are found by, and a bounded number of rows a page.

use std::collections::BTreeSet;
use std::ops::Range;

use legate_authority::Reach;
use legate_db::{Tx, TxResult};
use legate_filter::{Field, Node, Test};
use sea_orm::sea_query::{Asterisk, Expr, ExprTrait as _, Func, Query, SelectStatement};
use sea_orm::{ColumnTrait as _, Condition, ConnectionTrait as _, DbBackend, Order as Direction};

use super::condition::{Kept, has, holds, indexed, is, is_one_of, kept, keys, value};
use super::event::{Column, Entity, key, signed, unsigned};
use super::link;
use crate::domain::entry::Link;
use crate::domain::question::{Order, Question, TypeFilter, plain};
use crate::personal::Vault;

/// Rows of the index that one page looks at.
const WORK: u64 = 20_000;

/// Each way looks at so many at least.
const LEAST_WORK: u64 = 200;

/// Namespaces that are looked through one by one; of more, the log is.
const MOST_NAMESPACES: usize = 64;

/// What rows come out of.
#[derive(Clone, Debug)]
enum Way {
    /// Those with this text.
    By(Column, String),
    /// Those of this resource.
    Of(String, String),
    /// Those with this link.
    With(Link, String),
    /// All.
    Log,
}

/// A question, planned.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    ways: Vec<Way>,
    conditions: Condition,
    /// Whether every row of the way answers.
    is_whole: bool,
    /// Rows that one page looks at.
    work: u64,
}

/// What was found, in the order that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) leaves: Vec<u64>,
    /// There may be more behind this leaf, which need not answer itself.
    pub(crate) more_behind: Option<u64>,
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
        let mut ways: Vec<(u8, Vec<Way>)> = vec![(u8::MAX, vec![Way::Log])];
        // A way that a filter allows is all of it only where the filter says nothing else.
        let mut in_part = None;
        let mut all = Condition::all();
        let mut parts = 0;
        let mut part = |condition: Condition, sum: Condition| {
            parts += 1;
            sum.add(condition)
        };
        for (rank, column, text) in [
            (0, Column::DecisionId, &question.decision_id),
            (1, Column::TraceId, &question.trace_id),
            (3, Column::InstanceId, &question.instance_id),
            (7, Column::Subject, &plain(&question.subject)),
            (9, Column::Actor, &question.actor),
            (10, Column::Action, &question.action),
            (12, Column::Namespace, &question.namespace),
        ] {
            if !text.is_empty() {
                let texts = keys(text, vault);
                all = part(is_one_of(column, &texts), all);
                ways.push((rank, texts.into_iter().map(|text| Way::By(column, text)).collect()));
            }
        }
        for (rank, of, text) in [
            (2, Link::Credential, &question.credential_id),
            (4, Link::Grant, &question.grant_id),
            (5, Link::Chain, &plain(&question.chain)),
        ] {
            if !text.is_empty() {
                let texts = keys(text, vault);
                all = part(has(of, value().is_in(texts.iter().map(String::as_str))), all);
                ways.push((rank, texts.into_iter().map(|text| Way::With(of, text)).collect()));
            }
        }
        if !families.of_agent.is_empty() {
            all = part(is_one_of(Column::AgentId, &families.of_agent), all);
            ways.push((8, families.of_agent.iter().map(|one| Way::By(Column::AgentId, one.clone())).collect()));
        }
        if !families.of_via.is_empty() {
            let in_chain = value().is_in(families.of_via.iter().map(String::as_str));
            let either = Condition::any().add(is_one_of(Column::AgentId, &families.of_via));
            all = part(either.add(has(Link::Chain, in_chain)), all);
            let both = |one: &String| [Way::By(Column::AgentId, one.clone()), Way::With(Link::Chain, one.clone())];
            ways.push((8, families.of_via.iter().flat_map(both).collect()));
        }
        let (kind, ids) = (key(&question.resource_type), keys(&question.resource_id, vault));
        let is_asked = !question.resource_id.is_empty();
        if is_asked && !kind.is_empty() {
            ways.push((6, ids.iter().map(|id| Way::Of(kind.clone(), id.clone())).collect()));
            all = part(is(Column::ResourceType, &kind).add(is_one_of(Column::ResourceId, &ids)), all);
        } else if is_asked {
            all = part(is_one_of(Column::ResourceId, &ids), all);
        } else if !kind.is_empty() {
            all = part(is(Column::ResourceType, &kind), all);
        }
        all = match &question.kind {
            TypeFilter::Any => all,
            TypeFilter::Exactly(kind) => {
                ways.push((11, vec![Way::By(Column::Type, key(kind))]));
                part(is(Column::Type, &key(kind)), all)
            }
            // `/` is the character after `.`: this is the range of everything that begins so.
            TypeFilter::Under(noun) => {
                let under = Condition::all().add(Column::Type.gte(format!("{noun}.")));
                part(under.add(Column::Type.lt(format!("{noun}/"))), all)
            }
        };
        if !question.emitter.is_empty() {
            all = part(is(Column::Emitter, &key(&question.emitter)), all);
        }
        if question.outcome != 0 {
            all = part(Condition::all().add(Column::Outcome.eq(question.outcome)), all);
        }
        if question.trust != 0 {
            all = part(Condition::all().add(Column::Trust.eq(question.trust)), all);
        }
        if let Some(from) = question.from {
            all = part(Condition::all().add(Column::Time.gte(from.micros())), all);
        }
        if let Some(to) = question.to {
            all = part(Condition::all().add(Column::Time.lt(to.micros())), all);
        }
        if let Some(filter) = &question.filter {
            all = part(holds(filter.root(), vault), all);
            let narrowing = narrowing(filter.root(), vault);
            if !matches!(filter.root(), Node::Term(_)) {
                in_part = narrowing.iter().map(|(rank, _)| *rank).min();
            }
            ways.extend(narrowing);
        }
        if let Reach::In(names) = sees {
            let names: Vec<String> = names.iter().map(|name| key(name.as_str())).collect();
            all = part(is_one_of(Column::Namespace, &names), all);
            if names.len() <= MOST_NAMESPACES {
                ways.push((13, names.into_iter().map(|name| Way::By(Column::Namespace, name)).collect()));
            }
        }
        let best = ways.into_iter().min_by_key(|(rank, _)| *rank);
        let (rank, ways) = best.unwrap_or((u8::MAX, vec![Way::Log]));
        let is_whole = parts == usize::from(rank < u8::MAX) && in_part != Some(rank);
        Self { ways, conditions: all, is_whole, work: WORK }
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
        let least = Ord::min(LEAST_WORK, self.work);
        let work = Ord::max(self.work / Ord::max(self.ways.len() as u64, 1), least);
        // One leaf comes out of several ways where its event has several links.
        let mut found: BTreeSet<(i64, u64)> = BTreeSet::new();
        // Every way is looked through up to here.
        let mut frontier: Option<u64> = None;
        for way in &self.ways {
            let (leaves, end) = self.along(tx, way, &stretch, order, (limit, work)).await?;
            found.extend(leaves.into_iter().map(|leaf| (order.rank(leaf), leaf)));
            frontier = [frontier, end].into_iter().flatten().min_by_key(|leaf| order.rank(*leaf));
        }
        let good = |rank: i64| frontier.is_none_or(|frontier| rank <= order.rank(frontier));
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let leaves: Vec<u64> = found.iter().filter(|(rank, _)| good(*rank)).map(|(_, leaf)| *leaf).take(most).collect();
        let more_behind = if leaves.len() >= most { leaves.last().copied() } else { frontier };
        Ok(Found { leaves, more_behind })
    }

    /// What one way has, and how far it was looked through, where that is not to its end.
    async fn along<E>(
        &self,
        tx: &Tx,
        way: &Way,
        stretch: &Range<u64>,
        order: Order,
        (limit, work): (u64, u64),
    ) -> TxResult<(Vec<u64>, Option<u64>), E> {
        let backend = tx.get_database_backend();
        let select = if self.is_whole {
            way.rows(stretch, order, limit)
        } else {
            let mut select = Query::select();
            select.column((Entity, Column::Leaf)).from_subquery(way.rows(stretch, order, work), Entity);
            select.cond_where(self.conditions.clone()).order_by((Entity, Column::Leaf), direction(order)).limit(limit);
            select
        };
        let rows = tx.query_all_raw(backend.build(&select)).await?;
        let leaves: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get("", "leaf")).collect();
        let leaves: Vec<u64> = leaves?.into_iter().map(unsigned).collect();
        if leaves.len() as u64 >= limit {
            let end = leaves.last().copied();
            return Ok((leaves, end));
        }
        if self.is_whole {
            return Ok((leaves, None));
        }
        let mut width = Query::select();
        width.expr(Func::count(Expr::col(Asterisk))).expr(match order {
            Order::NewestFirst => Func::min(Expr::col((Entity, Column::Leaf))),
            Order::OldestFirst => Func::max(Expr::col((Entity, Column::Leaf))),
        });
        width.from_subquery(way.rows(stretch, order, work), Entity);
        let Some(row) = tx.query_one_raw(backend.build(&width)).await? else { return Ok((leaves, None)) };
        let (count, last): (i64, Option<i64>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let is_cut = unsigned(count) >= work;
        Ok((leaves, last.filter(|_| is_cut).map(unsigned)))
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

impl Way {
    /// The rows of a stretch that it has, in order.
    fn rows(&self, stretch: &Range<u64>, order: Order, limit: u64) -> SelectStatement {
        let mut select = Query::select();
        select.column((Entity, Asterisk)).from(Entity).limit(limit);
        let leaf = match self {
            Self::With(of, text) => {
                let own = |column| Expr::col((link::Entity, column));
                let same = own(link::Column::Leaf).equals((Entity, Column::Leaf));
                select.inner_join(link::Entity, same);
                select.and_where(own(link::Column::Link).eq(of.number()));
                select.and_where(own(link::Column::Value).eq(text.as_str()));
                select.order_by((link::Entity, link::Column::Leaf), direction(order));
                own(link::Column::Leaf)
            }
            _ => {
                select.order_by((Entity, Column::Leaf), direction(order));
                Expr::col((Entity, Column::Leaf))
            }
        };
        match self {
            Self::By(column, text) => {
                select.and_where(column.is_not_null()).and_where(column.eq(text.as_str()));
            }
            Self::Of(kind, id) => {
                select.and_where(Column::ResourceId.is_not_null()).and_where(Column::ResourceId.eq(id.as_str()));
                select.and_where(Column::ResourceType.eq(kind.as_str()));
            }
            Self::With(..) | Self::Log => {}
        }
        select.and_where(leaf.clone().gte(signed(stretch.start))).and_where(leaf.lt(signed(stretch.end)));
        select
    }
}

/// The ways that a filter alone allows: what all of it has to be.
fn narrowing(root: &Node, vault: &Vault) -> Vec<(u8, Vec<Way>)> {
    let parts = match root {
        Node::All(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    let way = |node: &Node| {
        let Node::Term(term) = node else { return None };
        let (Field::Event(field), Test::Is(text)) = (&term.field, &term.test) else { return None };
        let texts = indexed(*field, text, vault);
        match kept(*field) {
            Kept::In(column) => {
                let rank = match column {
                    Column::DecisionId => 0,
                    Column::TraceId => 1,
                    Column::InstanceId => 3,
                    Column::Subject => 7,
                    Column::AgentId => 8,
                    Column::Actor => 9,
                    Column::Action => 10,
                    Column::Type => 11,
                    Column::Namespace => 12,
                    _ => return None,
                };
                Some((rank, texts.into_iter().map(|text| Way::By(column, text)).collect()))
            }
            Kept::As(of) => {
                let rank = match of {
                    Link::Credential => 2,
                    Link::Grant => 4,
                    Link::Chain => 5,
                    // No field of a filter is kept so.
                    Link::Person => return None,
                };
                Some((rank, texts.into_iter().map(|text| Way::With(of, text)).collect()))
            }
        }
    };
    parts.iter().filter_map(way).collect()
}
