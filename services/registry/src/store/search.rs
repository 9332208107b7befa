//! Lists of objects as they are: a filter becomes a statement whose every value is bound, driven by the narrowest index.
//!
//! Of the comparisons that all have to hold, the one that fewest objects fit drives the search: its objects are looked up
//! and sorted. Where even that one has many, they come in the order of the list out of the index itself, a page at a time.
//! What the database cannot tell (see [`super::condition`]) is left to the caller, who asks the filter of each object.

use legate_authority::Reach;
use legate_db::{Tx, TxResult};
use legate_filter::{Field, Filter, Node};
use legate_rpc::Fault;
use legate_wire::registry::{AgentState, Kind};
use sea_orm::sea_query::{Expr, ExprTrait as _, Order as Sort, Query, SelectStatement, SimpleExpr};
use sea_orm::{ColumnTrait as _, Condition, ConnectionTrait as _, FromQueryResult as _, Iterable as _, QueryResult};

use super::condition::{self, Conditions};
use super::object::{self, Column, Model};
use super::{broken, term, unsigned};

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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    drive: Drive,
    conditions: Conditions,
    /// How many there are, where choosing the drive has told it.
    known: Option<u64>,
}

/// Where candidates come from.
enum Drive {
    /// All objects of the kind, in order.
    Scan,
    /// The objects of one fact, in the order of the index, which is that of names.
    Fact(Condition),
    /// A few objects, by their ids.
    Few(Box<SelectStatement>),
}

impl<'w> Search<'w> {
    /// Chooses what drives the search.
    pub(crate) async fn plan(tx: &Tx, which: &'w Which) -> TxResult<Self, Fault> {
        let in_force = which.is_in_force();
        let root = which.filter.as_ref().map(Filter::root);
        let conditions = Conditions::of(root, in_force);
        let mut search = Self { which, drive: Drive::Scan, conditions, known: None };
        let parts: &[Node] = match root {
            None => &[],
            Some(Node::All(all)) => all,
            Some(one) => std::slice::from_ref(one),
        };
        let mut fewest = COUNTED + 1;
        for part in parts {
            let Some(select) = condition::drive(part, which, in_force) else { continue };
            let count = count(tx, select.clone()).await?;
            if parts.len() == 1 && which.states.is_empty() {
                search.known = Some(count);
            }
            if count < fewest {
                (fewest, search.drive) = (count, Drive::Few(Box::new(select)));
            } else if matches!(search.drive, Drive::Scan)
                && which.by == OrderedBy::Name
                && let Some(fact) = condition::one_fact(part, which, in_force)
            {
                search.drive = Drive::Fact(fact);
            }
        }
        if matches!(search.drive, Drive::Scan | Drive::Fact(_))
            && let Some(select) = condition::states(which, in_force)
        {
            let count = count(tx, select.clone()).await?;
            if count <= COUNTED {
                search.drive = Drive::Few(Box::new(select));
            }
        }
        Ok(search)
    }

    /// Whether the database tells everything that the filter asks.
    pub(crate) fn is_whole(&self) -> bool {
        self.conditions.is_whole()
    }

    /// Candidates after a place, in order, `limit` at most; all of them fit where the search is whole.
    pub(crate) async fn page(&self, tx: &Tx, after: Option<&Place>, limit: u64) -> TxResult<Vec<Model>, Fault> {
        let rows = tx.query_all(&self.select(after, limit)).await?;
        let read = |row: &QueryResult| -> Result<Model, sea_orm::DbErr> { Model::from_query_result(row, "") };
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// How many fit, [`COUNTED`] and one more at most; `None` where only the objects themselves can tell.
    pub(crate) async fn count(&self, tx: &Tx) -> TxResult<Option<u64>, Fault> {
        if self.known.is_some() || !self.is_whole() {
            return Ok(self.known);
        }
        let mut some = self.candidates();
        some.expr(Expr::val(1));
        count(tx, some).await.map(Some)
    }

    /// The statement of a page.
    pub(crate) fn select(&self, after: Option<&Place>, limit: u64) -> SelectStatement {
        let mut select = self.candidates();
        for column in Column::iter() {
            select.expr(column.into_expr());
        }
        let columns = self.order();
        if let Some(after) = after {
            let (columns, place) = (columns.iter().cloned(), self.values(after));
            let (columns, place) = (Expr::tuple(columns), Expr::tuple(place));
            select.and_where(if self.which.descending { columns.lt(place) } else { columns.gt(place) });
        }
        for column in columns {
            select.order_by_expr(column, if self.which.descending { Sort::Desc } else { Sort::Asc });
        }
        select.limit(limit);
        select
    }

    /// From where, and under which conditions.
    fn candidates(&self) -> SelectStatement {
        let mut select = Query::select();
        match &self.drive {
            Drive::Scan => {
                select.from(object::Entity);
            }
            // Joined across, the database keeps the order of the tables, and so that of the index.
            Drive::Fact(fact) => {
                select.from(term::Entity).cross_join(object::Entity).cond_where(fact.clone());
                select.and_where(Column::Id.into_expr().equals((term::Entity, term::Column::ObjectId)));
            }
            Drive::Few(few) => {
                select.from_subquery(SelectStatement::clone(few), "few").cross_join(object::Entity);
                select.and_where(Column::Id.into_expr().equals(("few", "id")));
            }
        }
        select.cond_where(condition::within(self.which, self.which.is_in_force()));
        if !self.which.states.is_empty() {
            select.and_where(Column::State.is_in(self.which.states.iter().map(|state| *state as i32)));
        }
        select.cond_where(self.conditions.all().clone());
        select
    }

    /// What the list is ordered by; what is the same for all of it is left out, so that the index serves.
    fn order(&self) -> Vec<SimpleExpr> {
        let (namespace, name, id) = match (&self.drive, self.which.by) {
            (_, OrderedBy::Created) => return vec![Column::CreatedAt.into_expr(), Column::Id.into_expr()],
            (_, OrderedBy::Updated) => return vec![Column::UpdatedAt.into_expr(), Column::Id.into_expr()],
            (Drive::Fact(_), OrderedBy::Name) => (
                term::Column::Namespace.into_expr(),
                term::Column::Name.into_expr(),
                term::Column::ObjectId.into_expr(),
            ),
            (_, OrderedBy::Name) => (Column::Namespace.into_expr(), Column::Name.into_expr(), Column::Id.into_expr()),
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

/// How many rows a statement finds, [`COUNTED`] and one more at most.
async fn count(tx: &Tx, mut some: SelectStatement) -> TxResult<u64, Fault> {
    some.limit(COUNTED + 1);
    let mut count = Query::select();
    count.expr(Expr::cust("COUNT(*)")).from_subquery(some, "some_of_them");
    let row = tx.query_one(&count).await?.ok_or_else(|| broken("nothing was counted"))?;
    Ok(unsigned(row.try_get_by_index(0)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::error::of_tx;
    use crate::schema::Migrator;
    use legate_db::testing::{Fixture, on_each};
    use legate_filter::Scope;
    use sea_orm::Statement;

    fn which(filter: &str, by: OrderedBy, namespace: &str) -> Which {
        Which {
            kind: Kind::Agent,
            namespace: namespace.to_owned(),
            sees: Reach::Everywhere,
            states: Vec::new(),
            filter: (!filter.is_empty()).then(|| Filter::parse(filter, Scope::Agents).unwrap()),
            by,
            descending: false,
        }
    }

    /// How the database would answer, where it does not look at how few rows there are.
    async fn plan(fixture: &Fixture, select: SelectStatement) -> String {
        let is_postgres = fixture.is_postgres();
        let read = fixture.db.read("test", move |tx| {
            Box::pin(async move {
                if is_postgres {
                    let off = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; \
                               SET LOCAL enable_incremental_sort = off; SET LOCAL enable_hashjoin = off; \
                               SET LOCAL enable_mergejoin = off";
                    tx.execute_unprepared(off).await?;
                }
                let built = tx.get_database_backend().build(&select);
                let explain = if is_postgres { "EXPLAIN" } else { "EXPLAIN QUERY PLAN" };
                let ask = Statement { sql: format!("{explain} {}", built.sql), ..built };
                let rows = tx.query_all_raw(ask).await?;
                let line = |row: &QueryResult| row.try_get_by_index::<String>(if is_postgres { 0 } else { 3 });
                Ok(rows.iter().map(line).collect::<Result<Vec<_>, _>>()?.join("\n"))
            })
        });
        read.await.map_err(of_tx).unwrap()
    }

    fn drive(which: &Which, fact: bool) -> Drive {
        let Some(filter) = &which.filter else { return Drive::Scan };
        match condition::one_fact(filter.root(), which, true) {
            Some(one) if fact => Drive::Fact(one),
            _ => Drive::Few(Box::new(condition::drive(filter.root(), which, true).unwrap())),
        }
    }

    #[tokio::test]
    async fn lists_come_out_of_an_index_in_their_order() {
        on_each::<Migrator>(async |fixture| {
            // Either of the two indexes on names.
            let names = ("INDEX object_", "Index Scan using object_");
            let facts = ("term USING PRIMARY KEY", "term_pkey");
            for (filter, by, fact, index) in [
                ("", OrderedBy::Name, false, names),
                ("", OrderedBy::Created, false, ("INDEX object_by_creation", "object_by_creation")),
                ("", OrderedBy::Updated, false, ("INDEX object_by_update", "object_by_update")),
                ("labels.team = pay", OrderedBy::Name, true, facts),
                ("owners:user:ada@example.com", OrderedBy::Name, true, facts),
                ("environment = prod", OrderedBy::Name, true, facts),
            ] {
                for namespace in ["", "payments"] {
                    let which = which(filter, by, namespace);
                    let conditions = Conditions::of(which.filter.as_ref().map(Filter::root), true);
                    let search = Search { which: &which, drive: drive(&which, fact), conditions, known: None };
                    let id = "agt_1".to_owned();
                    let place = match by {
                        OrderedBy::Name => Place::Name { namespace: "payments".into(), name: "a".into(), id },
                        _ => Place::Time { at: 7, id },
                    };
                    for after in [None, Some(&place)] {
                        let told = plan(&fixture, search.select(after, 101)).await;
                        let index = if fixture.is_postgres() { index.1 } else { index.0 };
                        let sorts = told.contains("TEMP B-TREE") || told.contains("Sort");
                        assert!(told.contains(index) && !sorts, "{filter} {by:?} {namespace} {after:?}:\n{told}");
                    }
                }
            }
        })
        .await;
    }

    #[tokio::test]
    async fn the_few_are_looked_up_by_an_index() {
        on_each::<Migrator>(async |fixture| {
            for (filter, index) in [
                ("labels.team = \"p*\"", "term USING PRIMARY KEY"),
                ("manager:*", "term USING PRIMARY KEY"),
                ("labels.team = pay OR owners:user:ada", "term USING PRIMARY KEY"),
                ("state = suspended", "INDEX object_by_state"),
                ("expire_time < 2026-01-01T00:00:00Z", "INDEX object_by_expiry"),
                ("orphaned_time:*", "INDEX object_orphaned"),
            ] {
                let which = which(filter, OrderedBy::Created, "");
                let conditions = Conditions::of(which.filter.as_ref().map(Filter::root), true);
                let search = Search { which: &which, drive: drive(&which, false), conditions, known: None };
                let told = plan(&fixture, search.select(None, 101)).await;
                // With no rows at all, PostgreSQL may take any of several indexes.
                let good = if fixture.is_postgres() { told.contains("Index") } else { told.contains(index) };
                assert!(good && !told.contains("SCAN object") && !told.contains("Seq Scan"), "{filter}:\n{told}");
            }
        })
        .await;
    }
}
