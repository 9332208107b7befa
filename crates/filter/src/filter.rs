//! A filter as it was understood: comparisons, and how they hang together.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use crate::{BadFilter, Field, Micros, Scope, Subject, parse};

/// A filter that makes sense: every field exists, and every value is one that the field can have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    pub(crate) root: Node,
}

/// A part of a filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// All of these hold; two at least.
    All(Vec<Node>),
    /// One of these holds; two at least.
    Any(Vec<Node>),
    /// This does not hold.
    Not(Box<Node>),
    /// One comparison.
    Term(Term),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// The field asked about.
    pub field: Field,
    /// What is asked of it; always one that fits the field's form.
    pub test: Test,
}

/// What is asked of a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// Whether it is set: a text that is not empty, a list that holds one, a label whatever its value, a choice that was
    /// made, a moment.
    Present,
    /// Whether it is, or a list holds, this text.
    Is(String),
    /// Whether it is, or a list holds, a text that begins so; never empty.
    Begins(String),
    /// How the number of its word stands to this one.
    Word(Order, i32),
    /// How its moment stands to this one.
    Moment(Order, Micros),
}

/// How a value stands to another. A value that is not set stands in no order to any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    /// Whether `value` stands so to `other`.
    #[must_use]
    pub fn holds<T: Ord>(self, value: &T, other: &T) -> bool {
        match self {
            Self::Equal => value == other,
            Self::Less => value < other,
            Self::LessOrEqual => value <= other,
            Self::Greater => value > other,
            Self::GreaterOrEqual => value >= other,
        }
    }
}

impl Filter {
    /// Reads a filter that is used at `scope`. The empty text is none: whoever takes a filter says what its absence means.
    ///
    /// # Errors
    /// [`BadFilter`] says where, what is wrong, and what to write instead.
    pub fn parse(text: &str, scope: Scope) -> Result<Self, BadFilter> {
        parse::parse(text, scope).map(|root| Self { root })
    }

    /// A filter that was put together rather than written. It is refused where it could not have been written, so that what
    /// holds of parsed filters (bounds, fields, values that a field can have) holds of it too.
    ///
    /// # Errors
    /// [`BadFilter`], about the filter as it would be written.
    pub fn of(root: Node, scope: Scope) -> Result<Self, BadFilter> {
        let made = Self { root };
        if Self::parse(&made.to_string(), scope)? == made {
            return Ok(made);
        }
        Err(BadFilter::new(0, "its parts hang together in a way that cannot be written; join each list of parts once"))
    }

    /// The whole of it.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Whether the subject is one of those meant.
    #[must_use]
    pub fn holds(&self, subject: &(impl Subject + ?Sized)) -> bool {
        self.root.holds(subject)
    }

    /// Every comparison, in the order they were written.
    pub fn terms(&self) -> impl Iterator<Item = &Term> {
        let mut all = Vec::new();
        self.root.collect(&mut all);
        all.into_iter()
    }

    /// Whether it asks about the field anywhere.
    #[must_use]
    pub fn asks_about(&self, field: &Field) -> bool {
        self.terms().any(|term| term.field == *field)
    }

    /// Whether a group can select by it: it asks only about what an operator declares.
    #[must_use]
    pub fn is_selector(&self) -> bool {
        self.terms().all(|term| Scope::Selector.allows(&term.field))
    }
}

impl Node {
    fn holds(&self, subject: &(impl Subject + ?Sized)) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.holds(subject)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(subject)),
            Self::Not(node) => !node.holds(subject),
            Self::Term(term) => term.holds(subject),
        }
    }

    fn collect<'n>(&'n self, into: &mut Vec<&'n Term>) {
        match self {
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().for_each(|node| node.collect(into)),
            Self::Not(node) => node.collect(into),
            Self::Term(term) => into.push(term),
        }
    }
}

impl Term {
    fn holds(&self, subject: &(impl Subject + ?Sized)) -> bool {
        let field = &self.field;
        match &self.test {
            Test::Present => match field.form() {
                crate::Form::Text | crate::Form::List => subject.any_text(field, &mut |text| field.is_set(text)),
                crate::Form::Choice { .. } => subject.word(field).is_some_and(|number| number != 0),
                crate::Form::Time => subject.moment(field).is_some(),
            },
            Test::Is(wanted) => subject.any_text(field, &mut |text| text == wanted && field.is_set(text)),
            Test::Begins(start) => subject.any_text(field, &mut |text| text.starts_with(start.as_str())),
            Test::Word(order, wanted) => {
                subject.word(field).is_some_and(|number| number != 0 && order.holds(&number, wanted))
            }
            Test::Moment(order, wanted) => subject.moment(field).is_some_and(|at| order.holds(&at, wanted)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::samples::{self, Sample};
    use alloc::vec;
    use proptest::prelude::*;

    fn agent() -> Sample {
        let texts = [
            (Field::Name, vec!["invoice-bot"]),
            (Field::AgentClass, vec!["clerk"]),
            (Field::Owners, vec!["user:ada@example.com", "group:pay"]),
            (Field::Label("team".into()), vec!["pay"]),
            (Field::Label("empty".into()), vec![""]),
            (Field::DisplayName, vec![r#"100% "sure" \ *"#]),
        ];
        let texts = texts.into_iter().map(|(f, all)| (f, all.into_iter().map(Into::into).collect())).collect();
        Sample {
            texts,
            words: [(Field::Environment, 3), (Field::RiskTier, 3), (Field::State, 3), (Field::Origin, 0)].into(),
            moments: [(Field::CreateTime, 1_790_000_000_000_000)].into(),
        }
    }

    #[test]
    fn filters_mean_what_they_say() {
        let agent = agent();
        for holds in [
            r#"name = "invoice-bot""#,
            "name = invoice*",
            r#"name != "other""#,
            "agent_class = clerk AND environment = PROD",
            "environment = ENVIRONMENT_PROD",
            "state = active",
            "state != suspended AND state != retired",
            r#"owners:"user:ada@example.com""#,
            "owners:user:ada@example.com",
            "owners:group:*",
            "labels.team = pay",
            "labels:team",
            "labels.team:*",
            "NOT labels:region",
            "-labels:region",
            "labels:empty",
            r#"labels.empty = """#,
            r#"labels.team != """#,
            "labels.region != eu",
            "risk_tier >= high",
            "risk_tier > low AND NOT risk_tier = critical",
            r#"create_time > "2026-01-01T00:00:00Z""#,
            "create_time > 2026-01-01T02:00:00+02:00",
            "NOT last_used_time:*",
            "NOT last_used_time > 2026-01-01T00:00:00Z",
            "last_used_time != 2026-01-01T00:00:00Z",
            "NOT origin:*",
            r#"display_name = "100% \"sure\" \\ \*""#,
            r#"display_name = "100%*""#,
            // OR binds more tightly than AND: false if it were the other way round.
            "environment = prod OR environment = dev AND name = invoice-bot",
            "(environment = prod AND state = active) OR name = x",
            "name = x OR ( name = y OR\n\tname = invoice-bot )",
        ] {
            let filter = Filter::parse(holds, Scope::Agents).map_err(|e| alloc::format!("{holds}: {e}")).unwrap();
            assert!(filter.holds(&agent), "{holds} is {filter}");
            let again = Filter::parse(&alloc::format!("{filter}"), Scope::Agents);
            assert_eq!(again.as_ref(), Ok(&filter), "{holds}");
        }
        for not in [
            "name = invoice",
            "name = \"%\"",
            "name = \"invoice_bot\"",
            "owners:user:ada",
            "labels.team = \"\\*\"",
            "environment = dev",
            "risk_tier = critical",
            "expire_time < 2026-01-01T00:00:00Z",
            "expire_time >= 2026-01-01T00:00:00Z",
            "name = invoice-bot AND environment = dev OR state = suspended",
        ] {
            assert!(!Filter::parse(not, Scope::Agents).unwrap().holds(&agent), "{not}");
        }
    }

    #[test]
    fn groups_select_by_what_is_declared() {
        for good in ["labels.team = pay AND environment = prod", "agent_class = x", "NOT regions:eu", "parent:*"] {
            assert!(Filter::parse(good, Scope::Selector).unwrap().is_selector(), "{good}");
        }
        for bad in [
            "name = x",
            "labels:a AND state = active",
            "create_time > 2026-01-01T00:00:00Z",
            "NOT (environment = prod OR expire_time:*)",
            "origin = imported",
        ] {
            assert!(!Filter::parse(bad, Scope::Agents).unwrap().is_selector(), "{bad}");
            let refused = Filter::parse(bad, Scope::Selector).unwrap_err();
            assert!(refused.why.contains("cannot be asked about here"), "{refused}");
        }
        assert!(Filter::parse("environment = prod", Scope::Objects).is_err());
        assert!(Filter::parse("name = a* OR labels:a", Scope::Objects).is_ok());
    }

    #[test]
    fn what_is_asked_about_is_known() {
        let filter = Filter::parse("NOT (state = active OR labels:a) AND model:*", Scope::Agents).unwrap();
        assert!(filter.asks_about(&Field::State) && filter.asks_about(&Field::Label("a".into())));
        assert!(!filter.asks_about(&Field::Name));
        assert_eq!(filter.terms().count(), 3);
    }

    fn all(nodes: Vec<Node>) -> Filter {
        Filter { root: Node::All(nodes) }
    }

    fn any(nodes: Vec<Node>) -> Filter {
        Filter { root: Node::Any(nodes) }
    }

    fn not(node: Node) -> Node {
        Node::Not(Box::new(node))
    }

    #[test]
    fn what_cannot_be_written_cannot_be_put_together() {
        let term = |field, test| Node::Term(Term { field, test });
        let named = || term(Field::Name, Test::Is("a".into()));
        let deep = (0..20).fold(named(), |inner, _| Node::Not(Box::new(Node::All(vec![inner, named()]))));
        for bad in [
            Node::All(vec![]),
            Node::Any(vec![named()]),
            Node::Any(vec![named(); 65]),
            deep,
            term(Field::Name, Test::Is(String::new())),
            term(Field::Name, Test::Is("a\u{202e}".into())),
            term(Field::Name, Test::Begins(String::new())),
            term(Field::Name, Test::Word(Order::Equal, 1)),
            term(Field::Name, Test::Moment(Order::Equal, 0)),
            term(Field::State, Test::Word(Order::Less, 1)),
            term(Field::State, Test::Word(Order::Equal, 99)),
            term(Field::State, Test::Is("active".into())),
            term(Field::CreateTime, Test::Moment(Order::Less, Micros::MAX)),
            term(Field::Label("a b".into()), Test::Present),
            term(Field::Name, Test::Is("x".repeat(2_048))),
        ] {
            assert!(Filter::of(bad.clone(), Scope::Agents).is_err(), "{bad:?}");
        }
        assert!(Filter::of(named(), Scope::Agents).is_ok());
        assert!(Filter::of(named(), Scope::Selector).is_err());
    }

    proptest! {
        #[test]
        fn what_was_parsed_can_be_put_together_again(filter in samples::filter()) {
            prop_assert_eq!(Filter::of(filter.root().clone(), Scope::Agents), Ok(filter));
        }

        #[test]
        fn the_laws_of_logic_hold(a in samples::node(), b in samples::node(), subject in samples::subject()) {
            let holds = |filter: Filter| filter.holds(&subject);
            let one = |root: Node| Filter { root }.holds(&subject);
            prop_assert_eq!(one(not(not(a.clone()))), one(a.clone()));
            prop_assert_ne!(one(not(a.clone())), one(a.clone()));
            let both = vec![a.clone(), b.clone()];
            let neither = vec![not(a.clone()), not(b.clone())];
            prop_assert_eq!(!holds(all(both.clone())), holds(any(neither.clone())));
            prop_assert_eq!(!holds(any(both.clone())), holds(all(neither)));
            prop_assert_eq!(holds(all(both.clone())), holds(all(vec![b, a.clone()])));
            prop_assert_eq!(holds(any(vec![a.clone(), all(both).root])), one(a));
        }
    }
}
