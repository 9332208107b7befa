//! Values in the order in which they are to be read, and YAML of them that no text can break out of.

use legate_ids::is_deceptive;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// A text.
    Text(String),
    /// Something that is written as it is: a number, `true`.
    Plain(String),
    /// A list.
    List(Vec<Node>),
    /// Names and values, in order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// As a YAML document, without `---`.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        block(self, 0, &mut out);
        out
    }

    /// A JSON value.
    #[must_use]
    pub fn of(json: &serde_json::Value) -> Self {
        use serde_json::Value;
        match json {
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Object(fields) => {
                Self::Map(fields.iter().map(|(name, value)| (name.clone(), Self::of(value))).collect())
            }
            plain => Self::Plain(plain.to_string()),
        }
    }

    /// The same value as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Self::Text(text) => Value::String(text.clone()),
            Self::Plain(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
            Self::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(entries) => {
                Value::Object(entries.iter().map(|(name, value)| (name.clone(), value.to_json())).collect())
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::List(items) => items.is_empty(),
            Self::Map(entries) => entries.is_empty(),
            Self::Text(_) | Self::Plain(_) => false,
        }
    }
}

fn block(node: &Node, indent: usize, out: &mut String) {
    let pad = "  ".repeat(indent);
    match node {
        Node::Map(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                out.push_str(&format!("{pad}{}:", scalar(key)));
                below(value, indent + 1, out);
            }
        }
        Node::List(items) if !items.is_empty() => {
            for item in items {
                match item {
                    Node::Map(entries) if !entries.is_empty() => {
                        let mut inner = String::new();
                        block(item, indent + 1, &mut inner);
                        out.push_str(&format!("{pad}- {}", inner.trim_start()));
                    }
                    _ => {
                        out.push_str(&format!("{pad}-"));
                        below(item, indent + 1, out);
                    }
                }
            }
        }
        _ => {
            out.push_str(&pad);
            out.push_str(&inline(node));
            out.push('\n');
        }
    }
}

/// What stands behind `key:` or `-`.
fn below(node: &Node, indent: usize, out: &mut String) {
    match node {
        Node::Map(_) | Node::List(_) if !node.is_empty() => {
            out.push('\n');
            block(node, indent, out);
        }
        Node::Text(text) if is_literal(text) => {
            // The chomping says how the text ends: `|` with one line break, `|-` with none.
            out.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
            for line in text.lines() {
                if !line.is_empty() {
                    out.push_str(&"  ".repeat(indent));
                    out.push_str(line);
                }
                out.push('\n');
            }
        }
        _ => {
            out.push(' ');
            out.push_str(&inline(node));
            out.push('\n');
        }
    }
}

fn inline(node: &Node) -> String {
    match node {
        Node::Text(text) => scalar(text),
        Node::Plain(text) => text.clone(),
        Node::List(_) => "[]".into(),
        Node::Map(_) => "{}".into(),
    }
}

/// Whether a text of several lines can be written as it is.
fn is_literal(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && !text.chars().any(|c| c != '\n' && is_deceptive(c))
        && !body.starts_with([' ', '\n'])
        && !body.ends_with('\n')
}

/// A text in quotes, unless it can only be read as the text that it is.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./@".contains(c);
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| plain(c) || c == ' ' || c == ':' || c == '*')
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains("  ")
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_deceptive(c) => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[ -~\n]{0,40}",
            prop::sample::select(vec![
                "true",
                "~",
                "1",
                "1.5",
                "",
                " a",
                "a: b",
                "- x",
                "0x1f",
                "2026-01-01",
                "a #b",
                "\u{feff}x",
                "<<"
            ])
            .prop_map(str::to_owned),
        ]
    }

    fn node() -> impl Strategy<Value = Node> {
        text().prop_map(Node::Text).prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Node::List),
                prop::collection::btree_map(text(), inner, 0..5).prop_map(|m| Node::Map(m.into_iter().collect())),
            ]
        })
    }

    fn same(node: &Node, read: &serde_norway::Value) -> bool {
        match (node, read) {
            (Node::Text(a), serde_norway::Value::String(b)) => a == b,
            (Node::List(a), serde_norway::Value::Sequence(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Node::Map(a), serde_norway::Value::Mapping(b)) => {
                a.len() == b.len() && a.iter().all(|(k, v)| b.get(k.as_str()).is_some_and(|b| same(v, b)))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_and_shows_nothing_deceptive(node in node()) {
            let text = node.to_yaml();
            prop_assert!(!text.chars().any(|c| c != '\n' && is_deceptive(c)), "{text}");
            let read: serde_norway::Value = serde_norway::from_str(&text).unwrap();
            prop_assert!(same(&node, &read), "{text}\n{read:?}");
        }
    }
}
