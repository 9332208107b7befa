//! Lists of objects as they are: a filter becomes a statement whose every value is bound.
//!
//! Of the comparisons that all have to hold, the one that fewest objects fit drives the search where those are few: its
//! objects are looked up and sorted. Else the list is walked in its own order, past what does not fit. What the database
//! cannot tell (see [`super::condition`]) is left to the caller, who asks the filter of each object.

use legate_authority::Reach;
use legate_db::{Tx, TxResult};
use legate_filter::{Field, Filter};
use legate_rpc::Fault;
use legate_wire::registry::{AgentState, Kind};
use sea_orm::sea_query::{Expr, ExprTrait as _, IntoCondition as _, Order as Sort, Query, SelectStatement, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, DbBackend, FromQueryResult as _, Iterable as _, QueryResult,
};

use super::condition::{self, Conditions, Ground};
use super::object::{self, Column, Model};
use super::{broken, listed, unsigned, way};
use crate::domain::terms::{Fact, Proof};

/// Objects are counted so far, and no further.
pub(crate) const COUNTED: u64 = 10_000;

/// What a list shows.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    pub(crate) kind: Kind,
    /// Empty: all.
    pub(crate) namespace: String,
    /// Only of the namespaces that the caller may see.
    pub(crate) sees: Reach,
    /// Agents in one of these states; none: all but the retired, or all that the filter means.
    pub(crate) states: Vec<AgentState>,
    pub(crate) filter: Option<Filter>,
    pub(crate) by: OrderedBy,
    pub(crate) descending: bool,
    /// So many objects have a number; see [`super::term`].
    pub(crate) numbered: u64,
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderedBy {
    /// Namespace, name and id.
    Name,
    /// Time of creation and id.
    Created,
    /// Time of the last write and id.
    Updated,
}

/// A place in a list: everything that it is ordered by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Name { namespace: String, name: String, id: String },
    Time { at: i64, id: String },
}

impl Which {
    /// Where a row stands.
    pub(crate) fn place(&self, row: &Model) -> Place {
        let id = row.id.clone();
        match self.by {
            OrderedBy::Name => Place::Name { namespace: row.namespace.clone(), name: row.name.clone(), id },
            OrderedBy::Created => Place::Time { at: row.created_at, id },
            OrderedBy::Updated => Place::Time { at: row.updated_at, id },
        }
    }

    /// Whether nothing that is retired or taken back can be among what is listed: all of it holds its name.
    pub(crate) fn is_in_force(&self) -> bool {
        let asks = self.filter.as_ref().filter(|filter| filter.asks_about(&Field::State));
        match (self.states.is_empty(), asks) {
            (false, _) => !self.states.contains(&AgentState::Retired),
            (true, Some(filter)) => !condition::may_be_retired(filter.root()),
            (true, None) => true,
        }
    }
}

/// How a list is read: made once for a page, since it counts.
pub(crate) struct Search<'w> {
    which: &'w Which,
    ground: Ground,
    drive: Drive,
    conditions: Conditions,
    /// How many there are, where choosing the drive has told it.
    known: Option<u64>,
}

/// Where candidates come from.
enum Drive {
    /// All objects of the kind, in order.
    Walk,
    /// A few objects, by their numbers.
    Few(Box<SelectStatement>),
}

/// A table that candidates come out of, in the order of the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// What is in force, in the order of names.
    Listed,
    /// What holds no name any more, in the order of names.
    Unlisted,
    /// Objects, in the order of a time; or the few.
    Objects,
}

impl Source {
    /// Namespace, name and id.
    fn names(self) -> [SimpleExpr; 3] {
        match self {
            Self::Listed => {
                [listed::Column::Namespace, listed::Column::Name, listed::Column::ObjectId].map(|c| c.into_expr())
            }
            _ => [Column::Namespace, Column::Name, Column::Id].map(|c| c.into_expr()),
        }
    }
}

/// Whether so few of all objects are rather looked up, and sorted, for every page. To look one up takes some sixteen times
/// as long as to walk past one (measured on SQLite), and a page of a hundred walks past `100 * all / few` of them.
fn are_few(few: u64, all: u64) -> bool {
    few <= COUNTED && few * few <= all * 100 / 16
}

impl<'w> Search<'w> {
    /// Chooses what drives the search.
    pub(crate) async fn plan(tx: &Tx, which: &'w Which) -> TxResult<Self, Fault> {
        way::by_index(tx).await?;
        let ground = Ground { backend: tx.get_database_backend(), in_force: which.is_in_force() };
        let root = which.filter.as_ref().map(Filter::root);
        let mut search = Self::walk(which, ground);
        let parts = condition::parts(root);
        let mut fewest: Option<(u64, SelectStatement)> = None;
        for part in parts {
            let Some(select) = condition::drive(part, which, ground.in_force) else { continue };
            let count = count(tx, select.clone()).await?;
            if parts.len() == 1 && which.states.is_empty() && condition::are_seen(which) {
                search.known = Some(count);
            }
            if fewest.as_ref().is_none_or(|(few, _)| count < *few) {
                fewest = Some((count, select));
            }
        }
        if fewest.as_ref().is_none_or(|(few, _)| *few > COUNTED)
            && let Some(select) = condition::states(which, ground.in_force)
        {
            fewest = Some((count(tx, select.clone()).await?, select));
        }
        // A walk in the order of names that asks of facts and names alone looks nothing up that does not fit.
        let walks_fast = search.is_listed() && !search.asks_object();
        if let Some((few, select)) = fewest
            && few <= COUNTED
            && (!walks_fast || are_few(few, which.numbered))
        {
            search.drive = Drive::Few(Box::new(select));
        }
        if search.known.is_none()
            && let Some(beside) = search.beside_each_other()
        {
            // Nothing but the rows themselves tells how many fit; a walk past all of them for a few is the longest way.
            let fit = count(tx, beside.clone()).await?;
            search.known = Some(fit);
            if are_few(fit, which.numbered) {
                search.drive = Drive::Few(Box::new(beside));
            }
        }
        Ok(search)
    }

    /// The numbers of those that a walk over all namespaces would stop at, read as they lie: PostgreSQL keeps rows in no order,
    /// so that a walk by the index fetches each from somewhere else. `None` where the walk is the way.
    fn beside_each_other(&self) -> Option<SelectStatement> {
        let is_long = self.ground.backend == DbBackend::Postgres && self.ground.in_force && self.which.filter.is_some();
        if !is_long || !matches!(self.drive, Drive::Walk) || !self.which.namespace.is_empty() {
            return None;
        }
        if !self.is_whole() || self.asks_object() {
            return None;
        }
        // By no index: what is reckoned from a column is in none.
        let kind = listed::Column::Kind.into_expr().add(0).eq(self.which.kind as i32);
        let mut numbers = Query::select();
        numbers.column((listed::Entity, listed::Column::Number)).from(listed::Entity).and_where(kind);
        numbers.cond_where(condition::seen(self.which, listed::Column::Namespace, listed::Column::Name));
        numbers.cond_where(self.conditions.all().clone());
        Some(numbers)
    }

    fn walk(which: &'w Which, ground: Ground) -> Self {
        let conditions = Conditions::of(which.filter.as_ref().map(Filter::root), ground);
        Self { which, ground, drive: Drive::Walk, conditions, known: None }
    }

    /// Whether a walk would be one over what is in force, by name.
    fn is_listed(&self) -> bool {
        self.ground.in_force && self.which.by == OrderedBy::Name
    }

    /// Whether an object has to be looked up to tell whether it fits.
    fn asks_object(&self) -> bool {
        self.conditions.touched().object || !self.which.states.is_empty()
    }

    /// Whether the database tells everything that the filter asks.
    pub(crate) fn is_whole(&self) -> bool {
        self.conditions.is_whole()
    }

    /// Candidates after a place, in order, `limit` at most; all of them fit where the search is whole.
    pub(crate) async fn page(&self, tx: &Tx, after: Option<&Place>, limit: u64) -> TxResult<Vec<Model>, Fault> {
        let mut all = Vec::new();
        if self.known == Some(0) {
            return Ok(all);
        }
        for source in self.sources() {
            let rows = tx.query_all(&self.select(*source, after, limit)).await?;
            let read = |row: &QueryResult| -> Result<Model, sea_orm::DbErr> { Model::from_query_result(row, "") };
            all.extend(rows.iter().map(read).collect::<Result<Vec<_>, _>>()?);
        }
        if self.sources().len() > 1 {
            all.sort_by_cached_key(|row| self.which.place(row));
            if self.which.descending {
                all.reverse();
            }
            all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        Ok(all)
    }

    /// How many fit, [`COUNTED`] and one more at most; `None` where only the objects themselves can tell.
    pub(crate) async fn count(&self, tx: &Tx) -> TxResult<Option<u64>, Fault> {
        if self.known.is_some() || !self.is_whole() {
            return Ok(self.known);
        }
        // To count takes no order, and what is in force lies in `listed` side by side.
        let is_walk = matches!(self.drive, Drive::Walk);
        let sources = if is_walk && self.ground.in_force { &[Source::Listed] } else { self.sources() };
        let mut all = 0;
        for source in sources {
            let mut some = self.candidates(*source, self.asks_object());
            some.expr(Expr::val(1));
            all += count(tx, some).await?;
        }
        Ok(Some(Ord::min(all, COUNTED + 1)))
    }

    /// All of them together are the list, and each is in its order.
    fn sources(&self) -> &'static [Source] {
        match (&self.drive, self.which.by) {
            (Drive::Walk, OrderedBy::Name) if self.ground.in_force => &[Source::Listed],
            (Drive::Walk, OrderedBy::Name) => &[Source::Listed, Source::Unlisted],
            _ => &[Source::Objects],
        }
    }

    /// The statement of a page.
    fn select(&self, source: Source, after: Option<&Place>, limit: u64) -> SelectStatement {
        let mut select = self.candidates(source, true);
        for column in Column::iter() {
            select.expr(column.into_expr());
        }
        self.cut(select, source, after, limit)
    }

    /// So many of what a statement finds, in order, after a place.
    fn cut(&self, mut select: SelectStatement, source: Source, after: Option<&Place>, limit: u64) -> SelectStatement {
        let columns = self.order(source);
        if let Some(after) = after {
            let (columns, place) = (columns.iter().cloned(), self.values(after));
            let (columns, place) = (Expr::tuple(columns), Expr::tuple(place));
            select.and_where(if self.which.descending { columns.lt(place) } else { columns.gt(place) });
        }
        // A name has one holder, so that the order of the index is whole without the id.
        let sorted = columns.len() - usize::from(source == Source::Listed);
        for column in columns.into_iter().take(sorted) {
            select.order_by_expr(column, if self.which.descending { Sort::Desc } else { Sort::Asc });
        }
        select.limit(limit);
        select
    }

    /// From where, and under which conditions: in the order of the index of the first table, to whose rows those of the
    /// others are looked up.
    fn candidates(&self, source: Source, with_object: bool) -> SelectStatement {
        let (mut select, backend) = (Query::select(), self.ground.backend);
        let number = Column::Number.into_expr();
        if source == Source::Listed {
            select.from(listed::Entity).cond_where(condition::listed_within(self.which));
            if with_object {
                let own = number.equals((listed::Entity, listed::Column::Number)).into_condition();
                way::look_up(&mut select, object::Entity, own, backend);
            }
        } else {
            if let Drive::Few(few) = &self.drive {
                select.from_subquery(SelectStatement::clone(few), "few");
                let own = number.equals(("few", "number")).into_condition();
                way::look_up(&mut select, object::Entity, own, backend);
            } else {
                select.from(object::Entity);
            }
            select.cond_where(condition::within(self.which, self.ground.in_force));
            if source == Source::Unlisted {
                select.and_where(Column::HoldsName.into_expr().not());
            }
            if self.conditions.touched().listed {
                let own = [
                    (Column::Kind, listed::Column::Kind),
                    (Column::Namespace, listed::Column::Namespace),
                    (Column::Name, listed::Column::Name),
                ]
                .map(|(one, other)| one.into_expr().equals((listed::Entity, other)));
                way::look_up(
                    &mut select,
                    listed::Entity,
                    own.into_iter().fold(Condition::all(), Condition::add),
                    backend,
                );
            }
        }
        if !self.which.states.is_empty() {
            select.and_where(Column::State.is_in(self.which.states.iter().map(|state| *state as i32)));
        }
        select.cond_where(self.conditions.all().clone());
        select
    }

    /// What the list is ordered by; what is the same for all of it is left out, so that the index serves.
    fn order(&self, source: Source) -> Vec<SimpleExpr> {
        let [namespace, name, id] = match self.which.by {
            OrderedBy::Created => return vec![Column::CreatedAt.into_expr(), Column::Id.into_expr()],
            OrderedBy::Updated => return vec![Column::UpdatedAt.into_expr(), Column::Id.into_expr()],
            OrderedBy::Name => source.names(),
        };
        if self.which.namespace.is_empty() { vec![namespace, name, id] } else { vec![name, id] }
    }

    fn values(&self, place: &Place) -> Vec<SimpleExpr> {
        match place {
            Place::Name { namespace, name, id } if self.which.namespace.is_empty() => {
                vec![Expr::val(namespace), Expr::val(name), Expr::val(id)]
            }
            Place::Name { name, id, .. } => vec![Expr::val(name), Expr::val(id)],
            Place::Time { at, id } => vec![Expr::val(*at), Expr::val(id)],
        }
    }
}

/// The agents in force of which a fact is true, after a place in the order of names, `limit` at most: where they are.
/// `namespace` is empty for all.
pub(crate) async fn agents_of(
    tx: &Tx,
    fact: &Fact,
    namespace: &str,
    [in_space, name, id]: [&str; 3],
    limit: u64,
) -> TxResult<Vec<[String; 3]>, Fault> {
    let which = Which {
        kind: Kind::Agent,
        namespace: namespace.to_owned(),
        sees: Reach::Everywhere,
        states: Vec::new(),
        filter: None,
        by: OrderedBy::Name,
        descending: false,
        numbered: super::head::numbered(tx).await?,
    };
    way::by_index(tx).await?;
    let proof = Proof::OneOf(vec![fact.clone()]);
    let mut few = Query::select();
    few.column((super::term::Entity, super::term::Column::Number)).from(super::term::Entity);
    few.cond_where(condition::rows(&proof, &which).ok_or_else(|| broken("a fact is proven by nothing"))?);
    let mut search = Search::walk(&which, Ground { backend: tx.get_database_backend(), in_force: true });
    let source = if are_few(count(tx, few.clone()).await?, which.numbered) {
        search.drive = Drive::Few(Box::new(few));
        Source::Objects
    } else {
        Source::Listed
    };
    let mut select = search.candidates(source, false);
    if source == Source::Listed {
        select.cond_where(condition::proven(&proof, tx.get_database_backend()));
    }
    for column in source.names() {
        select.expr(column);
    }
    let after = Place::Name { namespace: in_space.to_owned(), name: name.to_owned(), id: id.to_owned() };
    let rows = tx.query_all(&search.cut(select, source, Some(&after), limit)).await?;
    let read = |row: &QueryResult| -> Result<[String; 3], sea_orm::DbErr> {
        Ok([row.try_get_by_index(0)?, row.try_get_by_index(1)?, row.try_get_by_index(2)?])
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// How many rows a statement finds, [`COUNTED`] and one more at most.
async fn count(tx: &Tx, mut some: SelectStatement) -> TxResult<u64, Fault> {
    some.limit(COUNTED + 1);
    let mut count = Query::select();
    count.expr(Expr::cust("COUNT(*)")).from_subquery(some, "some_of_them");
    let row = tx.query_one(&count).await?.ok_or_else(|| broken("nothing was counted"))?;
    Ok(unsigned(row.try_get_by_index(0)?))
}

#[cfg(test)]
mod tests;
