//! A question and its filter as conditions on rows.
//!
//! Conditions are never NULL, so that `NOT` means what it says: what is not set is no match, and its negation is one.

use legate_filter::{EventField, Field, Node, Order, Term, Test};
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, Func, Query, SimpleExpr};
use sea_orm::{ColumnTrait as _, Condition};

use super::event::{Column, key};
use super::link;
use crate::domain::entry::Link;
use crate::domain::posting;
use crate::personal::Vault;

/// Where a field of a filter is kept.
pub(super) enum Kept {
    /// In a column of the event's row.
    In(Column),
    /// As links.
    As(Link),
}

pub(super) fn kept(field: EventField) -> Kept {
    Kept::In(match field {
        EventField::Type => Column::Type,
        EventField::Namespace => Column::Namespace,
        EventField::Actor => Column::Actor,
        EventField::AgentId => Column::AgentId,
        EventField::InstanceId => Column::InstanceId,
        EventField::Subject => Column::Subject,
        EventField::Action => Column::Action,
        EventField::ResourceType => Column::ResourceType,
        EventField::ResourceId => Column::ResourceId,
        EventField::Outcome => Column::Outcome,
        EventField::ReasonCode => Column::ReasonCode,
        EventField::DecisionId => Column::DecisionId,
        EventField::TraceId => Column::TraceId,
        EventField::Emitter => Column::Emitter,
        EventField::Time => Column::Time,
        EventField::Chain => return Kept::As(Link::Chain),
        EventField::Grant => return Kept::As(Link::Grant),
        EventField::Credential => return Kept::As(Link::Credential),
    })
}

/// The field by which events are found, where they are.
pub(super) fn posted(field: EventField) -> Option<posting::Field> {
    use posting::Field;
    Some(match field {
        EventField::Type => Field::Type,
        EventField::Namespace => Field::Namespace,
        EventField::Actor => Field::Actor,
        EventField::AgentId => Field::Agent,
        EventField::InstanceId => Field::Instance,
        EventField::Subject => Field::Subject,
        EventField::Action => Field::Action,
        EventField::ResourceType => Field::ResourceType,
        EventField::ResourceId => Field::ResourceId,
        EventField::TraceId => Field::Trace,
        EventField::Emitter => Field::Emitter,
        EventField::Chain => Field::Chain,
        EventField::Grant => Field::Grant,
        EventField::Credential => Field::Credential,
        EventField::Outcome | EventField::ReasonCode | EventField::DecisionId | EventField::Time => return None,
    })
}

/// The text of a field as the index has it.
pub(super) fn indexed(field: EventField, text: &str, vault: &Vault) -> Vec<String> {
    match field {
        EventField::Subject | EventField::Chain => keys(&crate::domain::question::plain(text), vault),
        _ => keys(text, vault),
    }
}

/// A text as the index may have it: as it is, and, where it names persons, by what stands for these.
pub(crate) fn keys(text: &str, vault: &Vault) -> Vec<String> {
    std::iter::once(key(text)).chain(vault.indexed(text).map(|other| key(&other))).collect()
}

/// That a column has this text.
pub(super) fn is(column: Column, text: &str) -> Condition {
    Condition::all().add(column.is_not_null()).add(column.eq(text))
}

/// That a column has one of these.
pub(super) fn is_one_of(column: Column, texts: &[String]) -> Condition {
    Condition::all().add(column.is_not_null()).add(column.is_in(texts.iter().map(String::as_str)))
}

/// That the event is found by one of these links.
pub(super) fn has(of: Link, test: SimpleExpr) -> Condition {
    let mut select = Query::select();
    select.expr(Expr::val(1)).from(link::Entity);
    select.and_where((link::Entity, link::Column::Link).into_column().eq(of.number()));
    select.and_where((link::Entity, link::Column::Leaf).into_column().equals(Column::Leaf.as_column_ref()));
    select.and_where(test);
    Condition::all().add(Expr::exists(select))
}

/// A column of links.
trait IntoColumn {
    fn into_column(self) -> Expr;
}

impl IntoColumn for (link::Entity, link::Column) {
    fn into_column(self) -> Expr {
        Expr::col(self)
    }
}

/// The value of a link.
pub(super) fn value() -> Expr {
    Expr::col((link::Entity, link::Column::Value))
}

/// That a text begins so. Both databases count characters.
fn begins(column: Expr, start: &str) -> SimpleExpr {
    let length = i32::try_from(start.chars().count()).unwrap_or(i32::MAX);
    let cut = Func::cust(Alias::new("substr")).args([column, Expr::val(1), Expr::val(length)]);
    Expr::expr(cut).eq(start)
}

/// The condition that holds of a row exactly when the node holds of its event.
pub(super) fn holds(node: &Node, vault: &Vault) -> Condition {
    match node {
        Node::All(all) => all.iter().fold(Condition::all(), |sum, node| sum.add(holds(node, vault))),
        Node::Any(any) => any.iter().fold(Condition::any(), |sum, node| sum.add(holds(node, vault))),
        Node::Not(node) => Condition::all().add(holds(node, vault)).not(),
        Node::Term(term) => of_term(term, vault),
    }
}

fn of_term(term: &Term, vault: &Vault) -> Condition {
    let Field::Event(field) = term.field else {
        // No other field is let into a filter of events.
        return Condition::all().add(Expr::val(1).eq(0));
    };
    let column = match kept(field) {
        Kept::In(column) => column,
        Kept::As(of) => {
            return match &term.test {
                Test::Is(text) => has(of, value().is_in(indexed(field, text, vault))),
                Test::Begins(start) => has(of, begins(value(), start)),
                _ => has(of, Expr::val(1).eq(1)),
            };
        }
    };
    let is_set = || Condition::all().add(column.is_not_null());
    match &term.test {
        Test::Present if field == EventField::Outcome => is_set().add(column.ne(0)),
        Test::Present if field == EventField::Type => is_set().add(column.ne("")),
        Test::Present => is_set(),
        Test::Is(text) => is_one_of(column, &indexed(field, text, vault)),
        Test::Begins(start) => is_set().add(begins(column.into_expr(), start)),
        Test::Word(_, number) => is_set().add(column.eq(*number)),
        Test::Moment(order, at) => is_set().add(match order {
            Order::Equal => column.eq(*at),
            Order::Less => column.lt(*at),
            Order::LessOrEqual => column.lte(*at),
            Order::Greater => column.gt(*at),
            Order::GreaterOrEqual => column.gte(*at),
        }),
    }
}
