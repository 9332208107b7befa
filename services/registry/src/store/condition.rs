//! A filter as conditions on rows: what the columns of `object` and the facts of `term` can tell, exactly.
//!
//! Conditions are never NULL, so that `NOT` means what it says: what is not set is no match, and its negation is one.

use legate_authority::Reach;
use legate_filter::{Field, Node, Order, Term, Test};
use legate_ids::Name;
use legate_wire::registry::{AgentState, Kind};
use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SelectStatement, SimpleExpr, UnionType};
use sea_orm::{ColumnTrait as _, Condition};

use super::object::{self, Column};
use super::search::Which;
use super::term;
use crate::domain::terms::{Fact, Proof, after_all, proof};

/// What the database checks of a filter.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    all: Condition,
    is_whole: bool,
}

impl Conditions {
    /// The conditions that a filter comes to. Facts are kept of what is in force only.
    pub(crate) fn of(root: Option<&Node>, in_force: bool) -> Self {
        let parts: &[Node] = match root {
            None => &[],
            Some(Node::All(all)) => all,
            Some(one) => std::slice::from_ref(one),
        };
        let mut found = Self { all: Condition::all(), is_whole: true };
        for part in parts {
            match exact(part, in_force) {
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
}

/// The condition that holds of a row exactly when the node holds of its object; `None` where the rows do not tell.
fn exact(node: &Node, in_force: bool) -> Option<Condition> {
    match node {
        Node::All(nodes) => nodes.iter().try_fold(Condition::all(), |all, node| Some(all.add(exact(node, in_force)?))),
        Node::Any(nodes) => nodes.iter().try_fold(Condition::any(), |any, node| Some(any.add(exact(node, in_force)?))),
        Node::Not(node) => exact(node, in_force).map(Condition::not),
        Node::Term(term) => column(term).or_else(|| in_force.then(|| fact(term)).flatten()),
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

/// A comparison that facts tell: a look at the very row, since all of its key is known.
fn fact(term: &Term) -> Option<Condition> {
    let Proof::OneOf(facts) = proof(&term.field, &term.test)? else { return None };
    let one = |fact: &Fact| {
        let mut row = Query::select();
        let same = |a: term::Column, b: Column| a.into_expr().eq(b.into_expr());
        row.expr(Expr::val(1))
            .from(term::Entity)
            .and_where(same(term::Column::Kind, Column::Kind))
            .and_where(term::Column::Field.eq(fact.field))
            .and_where(term::Column::Value.eq(&fact.value))
            .and_where(same(term::Column::Namespace, Column::Namespace))
            .and_where(same(term::Column::Name, Column::Name))
            .and_where(same(term::Column::ObjectId, Column::Id));
        Expr::exists(row)
    };
    // Of no facts none is there: nothing is above the highest.
    let none = Condition::any().add(Expr::cust("1 = 0"));
    Some(facts.iter().fold(none, |any, fact| any.add(one(fact))))
}

/// The ids of all objects for which the node can hold, out of an index; `None` where there is no index for it.
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
            whole.column("id").from_subquery(first, "any_of_them");
            Some(whole)
        }
        Node::Term(term) if in_force && proof(&term.field, &term.test).is_some() => {
            let mut ids = Query::select();
            ids.expr_as(term::Column::ObjectId.into_expr(), "id").from(term::Entity);
            ids.cond_where(facts(term, which)?);
            if matches!(proof(&term.field, &term.test), Some(Proof::Begins(_))) {
                // A beginning can be that of several values of one object.
                ids.distinct();
            }
            Some(ids)
        }
        Node::Term(Term { field: Field::CreateTime | Field::UpdateTime, test: Test::Present }) => None,
        Node::Term(
            term @ Term {
                field: Field::ExpireTime | Field::CreateTime | Field::UpdateTime | Field::OrphanedTime, ..
            },
        )
        | Node::Term(term @ Term { field: Field::State, test: Test::Word(..) }) => {
            Some(objects(which, column(term)?, in_force))
        }
        Node::All(_) | Node::Not(_) | Node::Term(_) => None,
    }
}

/// The ids of the objects in the states that a list is limited to.
pub(crate) fn states(which: &Which, in_force: bool) -> Option<SelectStatement> {
    let numbers = which.states.iter().map(|state| *state as i32);
    (!which.states.is_empty()).then(|| objects(which, Condition::all().add(Column::State.is_in(numbers)), in_force))
}

fn objects(which: &Which, condition: Condition, in_force: bool) -> SelectStatement {
    let mut ids = Query::select();
    ids.expr_as(Column::Id.into_expr(), "id").from(object::Entity);
    ids.cond_where(within(which, in_force)).cond_where(condition);
    ids
}

/// What the caller may see. A namespace is known by its own name; what belongs to none is seen by those who see everything.
pub(crate) fn seen<C: sea_orm::ColumnTrait>(which: &Which, namespace: C, name: C) -> Condition {
    let Reach::In(names) = &which.sees else { return Condition::all() };
    let column = if which.kind == Kind::Namespace { name } else { namespace };
    Condition::all().add(column.is_in(names.iter().map(Name::as_str)))
}

/// What every object of a list has to be.
pub(crate) fn within(which: &Which, in_force: bool) -> Condition {
    let mut all = Condition::all().add(Column::Kind.eq(which.kind as i32));
    if !which.namespace.is_empty() {
        all = all.add(Column::Namespace.eq(&which.namespace));
    }
    all = all.add(seen(which, Column::Namespace, Column::Name));
    // As bare columns, so that an index of those in force serves.
    if in_force { all.add(Column::HoldsName.into_expr()) } else { all.add(Column::Revoked.into_expr().not()) }
}

/// The rows of `term` that prove a comparison.
fn facts(term: &Term, which: &Which) -> Option<Condition> {
    let mut all = Condition::all().add(term::Column::Kind.eq(which.kind as i32));
    let value = term::Column::Value.into_expr();
    match proof(&term.field, &term.test)? {
        Proof::OneOf(facts) => {
            let field = facts.first()?.field;
            all = all.add(term::Column::Field.eq(field));
            all = match &facts[..] {
                [one] => all.add(value.eq(&one.value)),
                some => all.add(value.is_in(some.iter().map(|fact| fact.value.clone()))),
            };
        }
        Proof::Begins(start) => {
            all = all.add(term::Column::Field.eq(start.field)).add(begins(value, &start.value));
        }
    }
    if !which.namespace.is_empty() {
        all = all.add(term::Column::Namespace.eq(&which.namespace));
    }
    Some(all.add(seen(which, term::Column::Namespace, term::Column::Name)))
}

/// The rows of `term` that prove a comparison, where they are one fact, and so in the order of names.
pub(crate) fn one_fact(node: &Node, which: &Which, in_force: bool) -> Option<Condition> {
    let Node::Term(term) = node else { return None };
    match proof(&term.field, &term.test)? {
        Proof::OneOf(some) if in_force && some.len() == 1 => facts(term, which),
        _ => None,
    }
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
