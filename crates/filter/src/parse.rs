//! Texts become filters: by the grammar, within the bounds, against the fields there are.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::scan::{Scan, Value};
use crate::{BadFilter, DEEPEST, Field, Form, LONGEST, MOST_TERMS, Micros, Node, Order, Scope, Term, Test};

struct Parser<'t> {
    scan: Scan<'t>,
    scope: Scope,
    depth: usize,
    terms: usize,
}

pub(crate) fn parse(text: &str, scope: Scope) -> Result<Node, BadFilter> {
    if text.len() > LONGEST {
        return Err(BadFilter::new(
            LONGEST,
            format!("the filter is {} bytes long; give at most {LONGEST}", text.len()),
        ));
    }
    let mut parser = Parser { scan: Scan::new(text), scope, depth: 0, terms: 0 };
    let root = parser.filter()?;
    let at = parser.scan.place();
    if parser.scan.is_done() {
        return Ok(root);
    }
    let found = parser.scan.found();
    Err(BadFilter::new(at, format!("expected AND, OR (in capitals) or the end, found {found}")))
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        last => many(nodes.into_iter().chain(last).collect()),
    }
}

impl Parser<'_> {
    fn filter(&mut self) -> Result<Node, BadFilter> {
        let mut all = vec![self.factor()?];
        while self.scan.take_word("AND") {
            all.push(self.factor()?);
        }
        Ok(one_or(all, Node::All))
    }

    /// google.aip.dev/160: "OR operators have higher precedence than AND operators".
    fn factor(&mut self) -> Result<Node, BadFilter> {
        let mut any = vec![self.term()?];
        while self.scan.take_word("OR") {
            any.push(self.term()?);
        }
        Ok(one_or(any, Node::Any))
    }

    fn term(&mut self) -> Result<Node, BadFilter> {
        if self.scan.take_word("NOT") || self.scan.take("-") {
            return Ok(Node::Not(Box::new(self.simple()?)));
        }
        self.simple()
    }

    fn simple(&mut self) -> Result<Node, BadFilter> {
        let at = self.scan.place();
        if !self.scan.take("(") {
            return self.comparison();
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(BadFilter::new(at, format!("parentheses are more than {DEEPEST} deep; write it flatter")));
        }
        let inner = self.filter()?;
        let at = self.scan.place();
        if !self.scan.take(")") {
            return Err(BadFilter::new(at, format!("expected AND, OR or ), found {}", self.scan.found())));
        }
        self.depth -= 1;
        Ok(inner)
    }

    fn comparison(&mut self) -> Result<Node, BadFilter> {
        let at = self.scan.place();
        let found = self.scan.found();
        let name = self.scan.take_name();
        if name.is_empty() || matches!(name, "AND" | "OR" | "NOT") {
            return Err(BadFilter::new(
                at,
                format!("expected a comparison such as {}, found {found}", self.scope.example()),
            ));
        }
        self.terms += 1;
        if self.terms > MOST_TERMS {
            return Err(BadFilter::new(at, format!("there are more than {MOST_TERMS} comparisons; ask in parts")));
        }
        let sign_at = self.scan.place();
        let Some(sign) = self.scan.take_sign() else {
            let found = self.scan.found();
            let why = format!("expected =, !=, <, <=, >, >= or : after {name}, found {found}");
            return Err(BadFilter::new(sign_at, why));
        };
        let value_at = self.scan.place();
        if name == "labels" {
            return self.label_key(sign, sign_at, value_at);
        }
        let field = self.field(name, at)?;
        let value = self.scan.take_value()?;
        let test = test(&field, sign, sign_at, value, value_at)?;
        let term = Node::Term(Term { field, test });
        Ok(if sign == "!=" { Node::Not(Box::new(term)) } else { term })
    }

    /// `labels:team`: whether there is a label of this key.
    fn label_key(&mut self, sign: &str, sign_at: usize, at: usize) -> Result<Node, BadFilter> {
        if sign != ":" {
            let why = "labels are asked by key: labels.KEY = VALUE, or labels:KEY for whether there is one";
            return Err(BadFilter::new(sign_at, why));
        }
        match self.scan.take_value()? {
            Value::Text { text, begins: false } => {
                let field = label(&text, at)?;
                Ok(Node::Term(Term { field, test: Test::Present }))
            }
            _ => Err(BadFilter::new(at, "expected the key of a label, such as labels:team")),
        }
    }

    fn field(&self, name: &str, at: usize) -> Result<Field, BadFilter> {
        let field = match name.strip_prefix("labels.") {
            Some(key) => Some(label(key, at + "labels.".len())?),
            None => Field::named(name, self.scope),
        };
        let cut: String = name.chars().take(64).collect();
        match field {
            Some(field) if self.scope.allows(&field) => Ok(field),
            Some(_) => {
                let why = format!("{cut} cannot be asked about here; there are: {}", self.scope.fields());
                Err(BadFilter::new(at, why))
            }
            None => Err(BadFilter::new(at, format!("there is no field {cut:?}; there are: {}", self.scope.fields()))),
        }
    }
}

/// A label's key has 1 to 63 of `A-Z a-z 0-9 . _ / -` (metadata.proto).
fn label(key: &str, at: usize) -> Result<Field, BadFilter> {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
    if !(1..=63).contains(&key.len()) || !key.bytes().all(is_good) {
        return Err(BadFilter::new(at, "the key of a label has 1 to 63 of A-Z a-z 0-9 . _ / -"));
    }
    Ok(Field::Label(key.into()))
}

fn test(field: &Field, sign: &str, sign_at: usize, value: Value, at: usize) -> Result<Test, BadFilter> {
    let (text, begins) = match value {
        Value::Star if sign == ":" => return Ok(Test::Present),
        Value::Star => {
            let why = format!("expected a value, found *; {field}:* asks whether it is set");
            return Err(BadFilter::new(at, why));
        }
        Value::Text { text, begins } => (text, begins),
    };
    if begins && text.is_empty() {
        return Err(BadFilter::new(at, format!("every text begins with nothing; {field}:* asks whether it is set")));
    }
    match (field.form(), sign) {
        (Form::Text, "=" | "!=") | (Form::List, ":") if begins => Ok(Test::Begins(text)),
        (Form::Text, "=" | "!=") | (Form::List, ":") if !field.is_set(&text) => {
            Err(BadFilter::new(at, format!("an empty text is not set; NOT {field}:* asks for that")))
        }
        (Form::Text, "=" | "!=") | (Form::List, ":") => Ok(Test::Is(text)),
        (Form::Text, _) => {
            let why = format!("{field} is one text: use =, != or :* (whether it is set), not {sign}");
            Err(BadFilter::new(sign_at, why))
        }
        (Form::List, _) => {
            Err(BadFilter::new(sign_at, format!("{field} is a list: use : (whether it holds one), not {sign}")))
        }
        (Form::Choice { words, ordered }, sign) => match order(sign) {
            Some(Order::Equal) => Ok(Test::Word(Order::Equal, word(field, words, &text, begins, at)?)),
            Some(order) if ordered => Ok(Test::Word(order, word(field, words, &text, begins, at)?)),
            _ => Err(BadFilter::new(sign_at, format!("{field} is one of several words: use = or !=, not {sign}"))),
        },
        (Form::Time, sign) => match order(sign) {
            Some(order) => Ok(Test::Moment(order, moment(field, &text, begins, at)?)),
            None => Err(BadFilter::new(sign_at, format!("{field} is a time: use =, !=, <, <=, >, >= or :*"))),
        },
    }
}

fn order(sign: &str) -> Option<Order> {
    Some(match sign {
        "=" | "!=" => Order::Equal,
        "<" => Order::Less,
        "<=" => Order::LessOrEqual,
        ">" => Order::Greater,
        ">=" => Order::GreaterOrEqual,
        _ => return None,
    })
}

/// A word in any case, or as the protobufs spell it: `prod`, `PROD`, `ENVIRONMENT_PROD`.
fn word(field: &Field, words: &[(&str, i32)], text: &str, begins: bool, at: usize) -> Result<i32, BadFilter> {
    let lower = text.to_ascii_lowercase().replace('-', "_");
    let prefix = match field {
        Field::State => "agent_state_".into(),
        field => format!("{field}_"),
    };
    let short = lower.strip_prefix(&prefix).unwrap_or(&lower);
    let known = words.iter().find(|(word, _)| *word == short);
    match known {
        Some((_, number)) if !begins => Ok(*number),
        _ => {
            let words = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            Err(BadFilter::new(at, format!("{field} is one of: {words}")))
        }
    }
}

fn moment(field: &Field, text: &str, begins: bool, at: usize) -> Result<Micros, BadFilter> {
    let read = OffsetDateTime::parse(text, &Rfc3339).ok().filter(|_| !begins);
    let micros = read.and_then(|t| i64::try_from(t.unix_timestamp_nanos().div_euclid(1_000)).ok());
    // What can be shown again: years 0 to 9999 in UTC.
    let shown = micros.filter(|micros| crate::show::time(*micros).is_some());
    shown.ok_or_else(|| BadFilter::new(at, format!("{field} is a time of RFC 3339, such as 2026-11-24T08:00:00Z")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{Filter, samples};
    use alloc::string::ToString as _;
    use proptest::prelude::*;

    fn refused(text: &str) -> BadFilter {
        Filter::parse(text, Scope::Agents).map_err(|e| (e, text)).unwrap_err().0
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        for (text, at, why) in [
            ("", 0, "expected a comparison such as environment = prod, found the end"),
            ("   ", 3, "expected a comparison"),
            ("colour = red", 0, r#"there is no field "colour"; there are: name, display_name"#),
            ("state = blue", 8, "state is one of: pending_approval, staged, active"),
            ("state = act*", 8, "state is one of"),
            ("state > active", 6, "state is one of several words: use = or !=, not >"),
            ("name > a", 5, "name is one text"),
            ("name:a", 4, "name is one text"),
            ("owners = user:a", 7, "owners is a list: use : (whether it holds one), not ="),
            ("owners:\"\"", 7, "an empty text is not set; NOT owners:* asks for that"),
            ("name = \"*\"", 7, "every text begins with nothing; name:* asks"),
            ("name = *", 7, "expected a value, found *; name:* asks"),
            ("name = \"a*b\"", 10, r"a * stands only at the end of a text; write \* for"),
            ("name = a*b", 9, "is not part of a word"),
            ("name = 'a'", 7, "is not part of a word; put the value in quotes"),
            ("name = \"a", 7, "the quotes are not closed"),
            ("name = \"a\\", 7, "the quotes are not closed"),
            (r#"name = "\n""#, 9, "only"),
            ("name = a and state = active", 9, r#"expected AND, OR (in capitals) or the end, found "and state"#),
            ("name = AND", 7, "expected a value, found AND"),
            ("name =", 6, "expected a value, found the end"),
            ("name", 4, "expected =, !="),
            ("AND name = a", 0, "expected a comparison"),
            ("NOT NOT name = a", 4, "expected a comparison"),
            ("(name = a", 9, "expected AND, OR or ), found the end"),
            ("name = a)", 8, "expected AND, OR (in capitals) or the end"),
            ("labels = a", 7, "labels are asked by key"),
            ("labels:*", 7, "expected the key of a label"),
            ("labels. = a", 7, "the key of a label has 1 to 63"),
            ("create_time > yesterday", 14, "create_time is a time of RFC 3339"),
            ("create_time > 2026-11-24", 14, "create_time is a time of RFC 3339"),
            ("create_time > 9999-12-31T23:59:59-01:00", 14, "create_time is a time of RFC 3339"),
            ("create_time:2026-11-24T00:00:00Z", 11, "create_time is a time: use"),
            ("name = \"a\u{202e}b\"", 9, "U+202E is invisible"),
            ("name = \"a\0b\"", 9, "U+0000 is invisible"),
            ("name = a\0", 8, r#""\0" is not part of a word"#),
            ("\u{200b}name = a", 0, r#"found "\u{200b}name"#),
            ("name = a; DROP TABLE object", 8, "is not part of a word"),
            ("name = a' OR '1'='1", 8, "is not part of a word"),
        ] {
            let bad = refused(text);
            assert!(bad.at == at && bad.why.contains(why), "{text:?}: {bad}");
            assert!(bad.to_string().starts_with("at byte "));
        }
    }

    #[test]
    fn events_have_fields_of_their_own() {
        let parse = |text: &str| Filter::parse(text, Scope::Events);
        for good in [
            "outcome = denied",
            "outcome = OUTCOME_DENIED AND NOT type = \"agent.*\"",
            "chain:agt_1 OR grant:grant_2 OR credential:\"0a*\"",
            "time >= 2026-11-24T08:00:00Z AND subject:*",
        ] {
            let filter = parse(good).map_err(|e| (good, e)).unwrap();
            assert_eq!(parse(&filter.to_string()), Ok(filter));
        }
        for (text, why) in [
            ("state = active", "there is no field \"state\"; there are: type, namespace, actor"),
            ("labels.team = pay", "labels.team cannot be asked about here"),
            ("outcome = blue", "outcome is one of: success, denied, failure"),
            ("chain = agt_1", "chain is a list"),
            ("", "expected a comparison such as outcome = denied"),
        ] {
            assert!(parse(text).unwrap_err().why.contains(why), "{text}: {:?}", parse(text));
        }
        assert!(refused("outcome = denied").why.contains("there is no field"));
    }

    #[test]
    fn bounds_hold() {
        let good = "x".repeat(LONGEST - 7);
        assert!(Filter::parse(&format!("name = {good}"), Scope::Agents).is_ok());
        assert!(refused(&format!("name = {good}x")).why.contains("give at most 2048"));
        let deep = |n: usize| format!("{}name = a{}", "(".repeat(n), ")".repeat(n));
        assert!(Filter::parse(&deep(16), Scope::Agents).is_ok());
        assert_eq!(refused(&deep(17)).at, 16);
        let deep_not = format!("{}name = a{}", "NOT (".repeat(17), ")".repeat(17));
        assert!(refused(&deep_not).why.contains("more than 16 deep"));
        let wide = |n: usize| vec!["name = a"; n].join(" OR ");
        assert!(Filter::parse(&wide(64), Scope::Agents).is_ok());
        assert!(refused(&wide(65)).why.contains("more than 64 comparisons"));
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_to_the_same(filter in samples::filter()) {
            let shown = filter.to_string();
            let again = Filter::parse(&shown, Scope::Agents);
            prop_assert_eq!(again.as_ref(), Ok(&filter), "{}", shown);
        }

        #[test]
        fn any_text_is_survived(text in ".{0,80}") {
            let _ = Filter::parse(&text, Scope::Agents);
        }

        #[test]
        fn nearly_a_filter_is_survived(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("name"), Just("labels"), Just("."), Just("state"), Just("owners"), Just("="), Just("!="), Just(":"),
                    Just("<"), Just("*"), Just("\""), Just("\\"), Just("("), Just(")"), Just(" "), Just("AND"), Just("OR"),
                    Just("NOT"), Just("-"), Just("a"), Just("é"), Just("create_time"), Just("2026-11-24T08:00:00Z"),
                ],
                0..40,
            ),
        ) {
            let text = parts.concat();
            if let Ok(filter) = Filter::parse(&text, Scope::Agents) {
                prop_assert_eq!(Filter::parse(&filter.to_string(), Scope::Agents), Ok(filter));
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Filter::parse(&String::from_utf8_lossy(&bytes), Scope::Agents);
        }
    }
}
