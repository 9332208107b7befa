//! Filters of SCIM (RFC 7644 section 3.4.2.2), the part of them that our filters can answer, put into ours.

use legate_clock::Timestamp;
use legate_filter::{DEEPEST, Field, Filter, Form, LONGEST, MOST_TERMS, Node, Order, Scope, Term, Test};
use legate_rpc::Fault;
use serde_json::Value;

use super::attribute::{self, Attribute, Shape};
use crate::error::FILTER_INVALID;

/// The number of ACTIVE among the words of a state.
const ACTIVE: i32 = legate_wire::registry::AgentState::Active as i32;

/// Understands a filter.
pub(super) fn read(text: &str) -> Result<Filter, Fault> {
    let read = || {
        if text.len() > LONGEST {
            return Err(format!("is longer than {LONGEST} bytes"));
        }
        let mut reader = Reader { text, at: 0, depth: 0, terms: 0 };
        let root = reader.any()?;
        reader.space();
        if reader.at < text.len() {
            return Err(format!("at byte {}: expected and, or, or the end", reader.at));
        }
        Filter::of(root, Scope::Agents).map_err(|e| e.to_string())
    };
    read().map_err(|why| {
        Fault::refused(&FILTER_INVALID, format!("the filter cannot be used: {why}")).field("filter", why)
    })
}

/// The value that a selection such as `value eq "user:ada@example.com"` names.
pub(super) fn selection(text: &str) -> Result<String, String> {
    let mut reader = Reader { text, at: 0, depth: 0, terms: 0 };
    let (name, op) = (reader.word(), reader.word());
    let value = reader.value()?;
    reader.space();
    match value {
        Value::String(value)
            if name.eq_ignore_ascii_case("value") && op.eq_ignore_ascii_case("eq") && reader.at == text.len() =>
        {
            Ok(value)
        }
        _ => Err("selects in a way that is not served; write [value eq \"...\"]".to_owned()),
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    terms: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches(' ').len();
    }

    fn take(&mut self, sign: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(sign);
        self.at += if found { sign.len() } else { 0 };
        found
    }

    /// Letters, digits and what else stands in the path of an attribute.
    fn word(&mut self) -> &'t str {
        self.space();
        let is_part = |c: char| c.is_ascii_alphanumeric() || "._:-$".contains(c);
        let rest = self.rest();
        let word = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// A word of the language, in any case.
    fn take_word(&mut self, wanted: &str) -> bool {
        let before = self.at;
        let found = self.word().eq_ignore_ascii_case(wanted);
        self.at = if found { self.at } else { before };
        found
    }

    /// `and` binds more tightly than `or`.
    fn any(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.all()?];
        while self.take_word("or") {
            nodes.push(self.all()?);
        }
        Ok(one_or(nodes, Node::Any))
    }

    fn all(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.one()?];
        while self.take_word("and") {
            nodes.push(self.one()?);
        }
        Ok(one_or(nodes, Node::All))
    }

    fn one(&mut self) -> Result<Node, String> {
        let is_not = self.take_word("not");
        let begin = self.at;
        if !self.take("(") {
            return if is_not { Err(format!("at byte {begin}: expected ( after not")) } else { self.term() };
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("at byte {begin}: parentheses are more than {DEEPEST} deep; write it flatter"));
        }
        let inner = self.any()?;
        if !self.take(")") {
            return Err(format!("at byte {}: expected and, or, or )", self.at));
        }
        self.depth -= 1;
        Ok(if is_not { Node::Not(Box::new(inner)) } else { inner })
    }

    fn term(&mut self) -> Result<Node, String> {
        self.terms += 1;
        if self.terms > MOST_TERMS {
            return Err(format!("at byte {}: there are more than {MOST_TERMS} comparisons; ask in parts", self.at));
        }
        self.space();
        let begin = self.at;
        let name = self.word();
        let shown: String = name.chars().take(128).collect();
        let found = attribute::find(name).and_then(|a| a.field.map(|field| (a, field.clone())));
        let (a, field) =
            found.ok_or_else(|| format!("at byte {begin}: there is no attribute {shown:?} to filter by"))?;
        if self.take("[") {
            let inner = self.rest().split(']').next().unwrap_or_default();
            self.at += inner.len();
            let value = selection(inner).map_err(|why| format!("at byte {begin}: {why}"))?;
            if !self.take("]") || !a.is_many() {
                return Err(format!("at byte {begin}: expected ATTRIBUTE[value eq \"...\"] of an attribute of many"));
            }
            return Ok(Node::Term(Term { field, test: Test::Is(value) }));
        }
        let op = self.word().to_ascii_lowercase();
        if op == "pr" {
            return present(a, field).map_err(|why| format!("at byte {begin}: {why}"));
        }
        let value = self.value()?;
        test(a, field, &op, &value).map_err(|why| format!("at byte {begin}: {why}"))
    }

    /// A JSON text, number or word.
    fn value(&mut self) -> Result<Value, String> {
        self.space();
        let (begin, rest) = (self.at, self.rest());
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let value = match values.next() {
            Some(Ok(value)) if !value.is_array() && !value.is_object() => value,
            _ => return Err(format!("at byte {begin}: expected a value: a text in quotes, true or false")),
        };
        self.at += values.byte_offset();
        Ok(value)
    }
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        last => many(nodes.into_iter().chain(last).collect()),
    }
}

fn present(a: &Attribute, field: Field) -> Result<Node, String> {
    if a.shape == Shape::Flag {
        return Err(format!("{} is always set; ask whether it is true", a.name));
    }
    Ok(Node::Term(Term { field, test: Test::Present }))
}

fn test(a: &Attribute, field: Field, op: &str, value: &Value) -> Result<Node, String> {
    let name = a.name;
    if a.shape == Shape::Flag {
        let Value::Bool(value) = value else { return Err(format!("{name} is true or false, without quotes")) };
        let active = Node::Term(Term { field, test: Test::Word(Order::Equal, ACTIVE) });
        return match (op, value) {
            ("eq", true) | ("ne", false) => Ok(active),
            ("eq", false) | ("ne", true) => Ok(Node::Not(Box::new(active))),
            _ => Err(format!("{name} is compared by eq or ne")),
        };
    }
    let Value::String(text) = value else { return Err(format!("{name} is compared with a text in quotes")) };
    let order = match op {
        "eq" | "ne" => Some(Order::Equal),
        "lt" => Some(Order::Less),
        "le" => Some(Order::LessOrEqual),
        "gt" => Some(Order::Greater),
        "ge" => Some(Order::GreaterOrEqual),
        _ => None,
    };
    let test = match (field.form(), op, order) {
        (Form::Text, "eq" | "ne", _) | (Form::List, "eq", _) => Test::Is(text.clone()),
        (Form::Text | Form::List, "sw", _) => Test::Begins(text.clone()),
        (Form::Text, ..) => return Err(format!("{name} is compared by eq, ne, sw or pr")),
        (Form::List, ..) => return Err(format!("{name} has any number of values, compared by eq, sw or pr")),
        (Form::Choice { words, ordered }, _, Some(order)) if ordered || order == Order::Equal => {
            let known = words.iter().find(|(word, _)| word == text);
            let words = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            Test::Word(order, known.ok_or_else(|| format!("{name} is one of: {}", words()))?.1)
        }
        (Form::Choice { .. }, ..) => return Err(format!("{name} is one of several words, compared by eq, ne or pr")),
        (Form::Time, _, Some(order)) => {
            let at = Timestamp::parse_rfc3339(text);
            Test::Moment(order, at.ok_or_else(|| format!("{name} is compared with a time of RFC 3339"))?.micros())
        }
        (Form::Time, ..) => return Err(format!("{name} is a time, compared by eq, ne, lt, le, gt, ge or pr")),
    };
    let term = Node::Term(Term { field, test });
    Ok(if op == "ne" { Node::Not(Box::new(term)) } else { term })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn ours(text: &str) -> String {
        read(text).unwrap_or_else(|e| panic!("{text}: {e}")).to_string()
    }

    #[test]
    fn a_filter_means_the_same_in_our_words() {
        for (scim, own) in [
            (r#"agentUserName eq "invoice-bot""#, r#"name = "invoice-bot""#),
            (r#"EXTERNALID EQ "x-1""#, r#"external_id = "x-1""#),
            (r#"displayName ne "a \" * \\ b""#, r#"display_name != "a \" \* \\ b""#),
            (r#"displayName sw "In""#, r#"display_name = "In*""#),
            ("displayName pr", "display_name:*"),
            ("active eq true", "state = active"),
            ("active eq false", "state != active"),
            ("active ne false", "state = active"),
            (r#"owners eq "user:ada""#, r#"owners:"user:ada""#),
            (r#"owners.value sw "group:""#, r#"owners:"group:*""#),
            (r#"owners[value eq "user:ada"]"#, r#"owners:"user:ada""#),
            (r#"urn:legate:scim:schemas:extension:1.0:Agent:riskTier ge "high""#, "risk_tier >= high"),
            (r#"urn:ietf:params:scim:schemas:core:2.0:Agent:displayName eq "x""#, r#"display_name = "x""#),
            (r#"meta.created gt "2026-11-24T08:00:00Z""#, r#"create_time > "2026-11-24T08:00:00Z""#),
            (
                r#"active eq true and displayName pr or externalId pr"#,
                "(state = active AND display_name:*) OR external_id:*",
            ),
            (
                r#"active eq true and (displayName pr or not (externalId pr))"#,
                "state = active AND display_name:* OR NOT external_id:*",
            ),
            (r#"not (displayName sw "a")"#, r#"display_name != "a*""#),
        ] {
            assert_eq!(ours(scim), own, "{scim}");
        }
    }

    #[test]
    fn what_cannot_be_answered_or_meant_is_refused() {
        let deep = "(".repeat(17) + "displayName pr" + &")".repeat(17);
        let wide = vec!["displayName pr"; 65].join(" or ");
        let long = format!("displayName eq \"{}\"", "x".repeat(2_048));
        for (bad, why) in [
            ("", "no attribute"),
            ("displayName", "expected a value"),
            ("displayName eq", "expected a value"),
            ("displayName eq x", "expected a value"),
            ("displayName eq \"x", "expected a value"),
            ("displayName eq {\"a\":1}", "expected a value"),
            ("displayName eq [1]", "expected a value"),
            ("displayName eq null", "a text in quotes"),
            ("displayName eq \"\"", "an empty text is not set"),
            ("displayName sw \"\"", "begins with nothing"),
            ("displayName co \"x\"", "eq, ne, sw or pr"),
            ("displayName ew \"x\"", "eq, ne, sw or pr"),
            ("displayName gt \"x\"", "eq, ne, sw or pr"),
            ("owners ne \"x\"", "any number of values"),
            ("active eq \"true\"", "without quotes"),
            ("active pr", "always set"),
            ("active gt true", "eq or ne"),
            ("nothing eq \"x\"", "no attribute \"nothing\""),
            ("agentClass eq \"x\"", "no attribute \"agentClass\""),
            ("id eq \"x\"", "no attribute \"id\""),
            ("urn:legate:scim:schemas:extension:1.0:Agent:environment eq \"moon\"", "is one of: dev, test, prod"),
            ("urn:legate:scim:schemas:extension:1.0:Agent:environment gt \"dev\"", "eq, ne or pr"),
            ("meta.created gt \"soon\"", "RFC 3339"),
            ("displayName pr and", "no attribute"),
            ("displayName pr displayName pr", "expected and, or, or the end"),
            ("not displayName pr", "expected ( after not"),
            ("(displayName pr", "expected and, or, or )"),
            ("displayName pr)", "expected and, or, or the end"),
            ("owners[value co \"x\"]", "selects in a way"),
            ("displayName[value eq \"x\"]", "an attribute of many"),
            ("displayName eq \"a\u{202e}b\"", "invisible"),
            ("displayName eq \"x\"; DROP TABLE object", "expected and, or, or the end"),
            (&deep, "more than 16 deep"),
            (&wide, "more than 64 comparisons"),
            (&long, "longer than 2048"),
        ] {
            let refused = read(bad).map(|f| f.to_string()).expect_err(bad).to_string();
            assert!(refused.contains(why), "{bad}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,80}") {
            let _ = read(&text);
        }

        #[test]
        fn nearly_a_filter_is_survived(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("displayName"), Just(" eq "), Just("\"x\""), Just(" and "), Just(" or "), Just("not "), Just("("),
                    Just(")"), Just("["), Just("]"), Just("owners"), Just("value"), Just("active"), Just("true"), Just(" pr"),
                    Just("\\"), Just("\""), Just("é"), Just("meta.created"), Just(" gt "),
                ],
                0..40,
            ),
        ) {
            let _ = read(&parts.concat());
        }
    }
}
