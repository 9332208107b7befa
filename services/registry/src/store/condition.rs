//! A filter as conditions on rows: what the columns of `object` and the facts in `listed` tell, exactly.
//!
//! Conditions are never NULL, so that `NOT` means what it says: what is not set is no match, and its negation is one.

use legate_authority::Reach;
use legate_filter::{Field, Node, Order, Term, Test};
use legate_ids::Name;
use legate_wire::registry::{AgentState, Kind};
use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SelectStatement, SimpleExpr, UnionType};
use sea_orm::{ColumnTrait as _, Condition, DbBackend};

use super::object::{self, Column};
use super::search::Which;
use super::{listed, term};
use crate::domain::terms::{Fact, Proof, after_all, proof};

/// Over what a filter is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground {
    pub(crate) backend: DbBackend,
    /// Whether all of it is in force: facts are kept of nothing else.
    pub(crate) in_force: bool,
}

/// What the database checks of a filter.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    all: Condition,
    is_whole: bool,
    touched: Touched,
}

/// The tables that conditions ask.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Touched {
    pub(crate) object: bool,
    pub(crate) listed: bool,
}

impl Conditions {
    /// The conditions that a filter comes to.
    pub(crate) fn of(root: Option<&Node>, ground: Ground) -> Self {
        let mut found = Self { all: Condition::all(), is_whole: true, touched: Touched::default() };
        for part in parts(root) {
            match exact(part, ground, &mut found.touched) {
                Some(condition) => found.all = found.all.add(condition),
                None => found.is_whole = false,
            }
        }
        found
    }

    /// Whether they are the whole filter.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// All of them together.
    pub(crate) fn all(&self) -> &Condition {
        &self.all
    }

    /// Which tables they ask.
    pub(crate) fn touched(&self) -> Touched {
        self.touched
    }
}

/// What all has to hold.
pub(crate) fn parts(root: Option<&Node>) -> &[Node] {
    match root {
        None => &[],
        Some(Node::All(all)) => all,
        Some(one) => std::slice::from_ref(one),
    }
}

/// The condition that holds of a row exactly when the node holds of its object; `None` where the rows do not tell.
fn exact(node: &Node, ground: Ground, touched: &mut Touched) -> Option<Condition> {
    match node {
        Node::All(nodes) => {
            nodes.iter().try_fold(Condition::all(), |all, node| Some(all.add(exact(node, ground, touched)?)))
        }
        Node::Any(nodes) => {
            nodes.iter().try_fold(Condition::any(), |any, node| Some(any.add(exact(node, ground, touched)?)))
        }
        Node::Not(node) => exact(node, ground, touched).map(Condition::not),
        Node::Term(Term { field: Field::Name, test }) if ground.in_force => {
            touched.listed = true;
            Some(texts(listed::Column::Name.into_expr(), test))
        }
        Node::Term(term) => {
            if let Some(condition) = column(term) {
                touched.object = true;
                return Some(condition);
            }
            let proof = proof(&term.field, &term.test).filter(|_| ground.in_force)?;
            touched.listed = true;
            Some(proven(&proof, ground.backend))
        }
    }
}

/// A comparison that a column of the object tells.
fn column(term: &Term) -> Option<Condition> {
    let (column, nullable) = match term.field {
        Field::Name => return Some(texts(Column::Name.into_expr(), &term.test)),
        Field::State => {
            return Some(match term.test {
                Test::Word(_, number) => Condition::all().add(Column::State.eq(number)),
                _ => Condition::all().add(Column::State.ne(0)),
            });
        }
        Field::CreateTime => (Column::CreatedAt, false),
        Field::UpdateTime => (Column::UpdatedAt, false),
        Field::ExpireTime => (Column::ExpiresAt, true),
        Field::LastUsedTime => (Column::UsedAt, true),
        Field::OrphanedTime => (Column::OrphanedAt, true),
        Field::LifecycleDueTime => (Column::DueAt, true),
        _ => return None,
    };
    let mut all = Condition::all();
    if nullable {
        all = all.add(column.is_not_null());
    }
    if let Test::Moment(order, at) = term.test {
        all = all.add(match order {
            Order::Equal => column.eq(at),
            Order::Less => column.lt(at),
            Order::LessOrEqual => column.lte(at),
            Order::Greater => column.gt(at),
            Order::GreaterOrEqual => column.gte(at),
        });
    }
    Some(all)
}

fn texts(column: SimpleExpr, test: &Test) -> Condition {
    match test {
        Test::Is(text) => Condition::all().add(column.eq(text)),
        Test::Begins(start) => begins(column, start),
        _ => Condition::all().add(column.ne("")),
    }
}

fn begins(column: SimpleExpr, start: &str) -> Condition {
    let from = Condition::all().add(column.clone().gte(start));
    match after_all(start) {
        Some(end) => from.add(column.lt(end)),
        None => from,
    }
}

/// That the facts of a row prove a comparison.
pub(crate) fn proven(proof: &Proof, backend: DbBackend) -> Condition {
    // Of no facts none is there: nothing is above the highest.
    let none = Condition::any().add(Expr::cust("1 = 0"));
    proof.bytes().into_iter().fold(none, |any, bytes| {
        // Each database marks the places of values in its own way.
        let place = match backend {
            DbBackend::Postgres => "pg_catalog.position($1, $2)",
            _ => "instr(?, ?)",
        };
        let place = Expr::cust_with_exprs(place, [listed::Column::Facts.into_expr(), Expr::val(bytes)]);
        any.add(place.gt(0))
    })
}

/// The numbers of all objects for which the node can hold, out of an index; `None` where there is no index for it.
pub(crate) fn drive(node: &Node, which: &Which, in_force: bool) -> Option<SelectStatement> {
    match node {
        // Any of several: all of theirs, each once.
        Node::Any(nodes) => {
            let mut parts = nodes.iter().map(|node| drive(node, which, in_force));
            let mut first = parts.next()??;
            for part in parts {
                first.union(UnionType::Distinct, part?);
            }
            // As a table of its own, so that a limit is one of the whole.
            let mut whole = Query::select();
            whole.column("number").from_subquery(first, "any_of_them");
            Some(whole)
        }
        Node::Term(term) if in_force && proof(&term.field, &term.test).is_some() => {
            let proof = proof(&term.field, &term.test)?;
            let mut numbers = Query::select();
            numbers.column((term::Entity, term::Column::Number)).from(term::Entity);
            numbers.cond_where(rows(&proof, which)?);
            if matches!(proof, Proof::Begins(_)) {
                // A beginning can be that of several values of one object.
                numbers.distinct();
            }
            Some(numbers)
        }
        Node::Term(Term { field: Field::CreateTime | Field::UpdateTime, test: Test::Present }) => None,
        Node::Term(
            term @ Term {
                field:
                    Field::ExpireTime
                    | Field::CreateTime
                    | Field::UpdateTime
                    | Field::OrphanedTime
                    | Field::LifecycleDueTime,
                ..
            },
        )
        | Node::Term(term @ Term { field: Field::State, test: Test::Word(..) }) => {
            Some(objects(which, column(term)?, in_force))
        }
        Node::All(_) | Node::Not(_) | Node::Term(_) => None,
    }
}

/// The numbers of the objects in the states that a list is limited to.
pub(crate) fn states(which: &Which, in_force: bool) -> Option<SelectStatement> {
    let numbers = which.states.iter().map(|state| *state as i32);
    (!which.states.is_empty()).then(|| objects(which, Condition::all().add(Column::State.is_in(numbers)), in_force))
}

fn objects(which: &Which, condition: Condition, in_force: bool) -> SelectStatement {
    let mut numbers = Query::select();
    numbers.column((object::Entity, Column::Number)).from(object::Entity);
    numbers.cond_where(within(which, in_force)).cond_where(condition);
    numbers
}

/// What the caller may see. A namespace is known by its own name; what belongs to none is seen by those who see everything.
pub(crate) fn seen<C: sea_orm::ColumnTrait>(which: &Which, namespace: C, name: C) -> Condition {
    let Reach::In(names) = &which.sees else { return Condition::all() };
    let column = if which.kind == Kind::Namespace { name } else { namespace };
    Condition::all().add(column.is_in(names.iter().map(Name::as_str)))
}

/// What every object of a list has to be.
pub(crate) fn within(which: &Which, in_force: bool) -> Condition {
    let all = placed(which, Column::Kind, Column::Namespace, Column::Name);
    // As bare columns, so that an index of those serves.
    if in_force { all.add(Column::HoldsName.into_expr()) } else { all.add(Column::Revoked.into_expr().not()) }
}

/// The same of the rows of `listed`.
pub(crate) fn listed_within(which: &Which) -> Condition {
    placed(which, listed::Column::Kind, listed::Column::Namespace, listed::Column::Name)
}

/// What an object has to be, whether or not it is in force.
pub(crate) fn placed<C: sea_orm::ColumnTrait>(which: &Which, kind: C, namespace: C, name: C) -> Condition {
    let mut all = Condition::all().add(kind.eq(which.kind as i32));
    if !which.namespace.is_empty() {
        all = all.add(namespace.eq(&which.namespace));
    }
    all.add(seen(which, namespace, name))
}

/// The rows of `term` that prove a comparison.
pub(crate) fn rows(proof: &Proof, which: &Which) -> Option<Condition> {
    let mut all = Condition::all().add(term::Column::Block.is_in(term::blocks(which.numbered)));
    all = all.add(term::Column::Kind.eq(which.kind as i32));
    let value = term::Column::Value.into_expr();
    match proof {
        Proof::OneOf(facts) => {
            all = all.add(term::Column::Field.eq(facts.first()?.field));
            all = match &facts[..] {
                [one] => all.add(value.eq(&one.value)),
                some => all.add(value.is_in(some.iter().map(|fact| fact.value.clone()))),
            };
        }
        Proof::Begins(Fact { field, value: start }) => {
            all = all.add(term::Column::Field.eq(*field)).add(begins(value, start));
        }
    }
    if !which.namespace.is_empty() {
        all = all.add(term::Column::Namespace.eq(&which.namespace));
    }
    Some(match &which.sees {
        // Of namespaces, whose own name counts, these may be too many; see [`are_seen`].
        Reach::In(names) if which.kind != Kind::Namespace => {
            all.add(term::Column::Namespace.is_in(names.iter().map(Name::as_str)))
        }
        _ => all,
    })
}

/// Whether the caller may see all that the rows of `term` name.
pub(crate) fn are_seen(which: &Which) -> bool {
    which.kind != Kind::Namespace || matches!(which.sees, Reach::Everywhere)
}

/// Whether a filter can hold of an agent that is retired.
pub(crate) fn may_be_retired(node: &Node) -> bool {
    retired(node) != Some(false)
}

/// Whether a node holds of what is retired; `None` where it depends on the rest.
fn retired(node: &Node) -> Option<bool> {
    match node {
        Node::All(nodes) => {
            let mut all = Some(true);
            for node in nodes {
                match retired(node) {
                    Some(false) => return Some(false),
                    Some(true) => {}
                    None => all = None,
                }
            }
            all
        }
        Node::Any(nodes) => {
            let mut any = Some(false);
            for node in nodes {
                match retired(node) {
                    Some(true) => return Some(true),
                    Some(false) => {}
                    None => any = None,
                }
            }
            any
        }
        Node::Not(node) => retired(node).map(|holds| !holds),
        Node::Term(Term { field: Field::State, test }) => match test {
            Test::Word(order, number) => Some(order.holds(&(AgentState::Retired as i32), number)),
            _ => Some(true),
        },
        Node::Term(_) => None,
    }
}
