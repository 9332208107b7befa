//! Filters as text: one spelling for each, which parses to the same filter.

use alloc::string::String;
use core::fmt::{self, Write as _};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{Field, Filter, Form, Micros, Node, Order, Term, Test};

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Within AND an OR needs no parentheses: it binds more tightly.
            Self::All(nodes) => join(f, nodes, " AND ", |node| matches!(node, Self::All(_))),
            Self::Any(nodes) => join(f, nodes, " OR ", |node| matches!(node, Self::All(_) | Self::Any(_))),
            Self::Not(node) => match &**node {
                Self::Term(term) if matches!(term.test, Test::Is(_) | Test::Begins(_)) && !is_list(&term.field) => {
                    term.show(f, "!=")
                }
                Self::Term(term)
                    if matches!(term.test, Test::Word(Order::Equal, _) | Test::Moment(Order::Equal, _)) =>
                {
                    term.show(f, "!=")
                }
                Self::Term(term) => write!(f, "NOT {term}"),
                many => write!(f, "NOT ({many})"),
            },
            Self::Term(term) => term.fmt(f),
        }
    }
}

fn is_list(field: &Field) -> bool {
    field.form() == Form::List
}

fn join(f: &mut fmt::Formatter<'_>, nodes: &[Node], word: &str, inside: fn(&Node) -> bool) -> fmt::Result {
    for (n, node) in nodes.iter().enumerate() {
        if n > 0 {
            f.write_str(word)?;
        }
        if inside(node) { write!(f, "({node})")? } else { write!(f, "{node}")? }
    }
    Ok(())
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, "=")
    }
}

impl Term {
    /// `equal` is the sign of equality.
    fn show(&self, f: &mut fmt::Formatter<'_>, equal: &str) -> fmt::Result {
        let field = &self.field;
        let sign = |order: Order| match order {
            Order::Equal => equal,
            Order::Less => "<",
            Order::LessOrEqual => "<=",
            Order::Greater => ">",
            Order::GreaterOrEqual => ">=",
        };
        match &self.test {
            Test::Present => write!(f, "{field}:*"),
            Test::Is(text) | Test::Begins(text) => {
                if is_list(field) {
                    write!(f, "{field}:\"")?
                } else {
                    write!(f, "{field} {equal} \"")?
                }
                for c in text.chars() {
                    if matches!(c, '"' | '\\' | '*') {
                        f.write_char('\\')?;
                    }
                    f.write_char(c)?;
                }
                f.write_str(if matches!(self.test, Test::Begins(_)) { "*\"" } else { "\"" })
            }
            Test::Word(order, number) => {
                let words = match field.form() {
                    Form::Choice { words, .. } => words,
                    _ => &[],
                };
                let word = words.iter().find(|(_, known)| known == number).map_or("", |(word, _)| word);
                write!(f, "{field} {} {word}", sign(*order))
            }
            Test::Moment(order, at) => write!(f, "{field} {} \"{}\"", sign(*order), time(*at).unwrap_or_default()),
        }
    }
}

/// RFC 3339 in UTC; `None` outside years 0 to 9999.
pub(crate) fn time(micros: Micros) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()?;
    at.format(&Rfc3339).ok()
}
