//! What somebody agrees to who lets an agent act for him, in words: one text for one grant, so that its hash stands for it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

/// What is agreed to.
#[derive(Clone, Copy, Debug)]
pub struct Consent<'a> {
    /// Who agrees, as `user:NAME`.
    pub person: &'a str,
    /// The namespace of the grant.
    pub namespace: &'a str,
    /// The grant's name.
    pub name: &'a str,
    /// The agent that acts, by name.
    pub delegate: &'a str,
    /// What it may do.
    pub permissions: &'a [Agreed<'a>],
    /// Towards whom; none: towards anybody.
    pub audiences: &'a [String],
    /// What for.
    pub purpose: &'a str,
    /// For how long, in seconds.
    pub seconds: u64,
    /// How many agents may follow.
    pub max_depth: u32,
}

/// One permission, as it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Agreed<'a> {
    /// The action, or a pattern of actions.
    pub action: &'a str,
    /// The type of the resources.
    pub resource_type: &'a str,
    /// Their ids; empty: every id.
    pub id: &'a str,
    /// The attributes that they have to have.
    pub attributes: &'a BTreeMap<String, String>,
}

impl Consent<'_> {
    /// The text. No two grants that are not the same have the same.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} lets the agent {} of the namespace {} act for him, by the grant {}:\n",
            quoted(self.person),
            quoted(self.delegate),
            quoted(self.namespace),
            quoted(self.name),
        );
        for one in self.permissions {
            let id = if one.id.is_empty() { "*" } else { one.id };
            text += &format!("- to do {} to {} {}", quoted(one.action), quoted(one.resource_type), quoted(id));
            for (name, value) in one.attributes {
                text += &format!(", where {} is {}", quoted(name), quoted(value));
            }
            text.push('\n');
        }
        for audience in self.audiences {
            text += &format!("- towards {}\n", quoted(audience));
        }
        if self.audiences.is_empty() {
            text += "- towards anybody\n";
        }
        text += &format!("- for {} seconds, from when the grant is made\n", self.seconds);
        text += &match self.max_depth {
            0 => String::from("- and passes nothing on\n"),
            most => format!("- and may pass a part of it on, to {most} more, one behind the other\n"),
        };
        text += &format!("What for: {}\n", quoted(self.purpose));
        text
    }
}

/// In quotation marks, with nothing in between that could end them or the line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use alloc::string::ToString as _;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    type Asked = (Vec<String>, Vec<(String, String, Vec<(String, String)>)>, Vec<String>, u64, u32);

    fn text_of((names, permissions, audiences, seconds, max_depth): &Asked) -> String {
        let attributes: Vec<BTreeMap<String, String>> =
            permissions.iter().map(|(_, _, all)| all.iter().cloned().collect()).collect();
        let permissions: Vec<Agreed<'_>> = permissions
            .iter()
            .zip(&attributes)
            .map(|((action, id, _), attributes)| Agreed { action, resource_type: "Invoice", id, attributes })
            .collect();
        let [person, namespace, name, delegate, purpose] = [0, 1, 2, 3, 4].map(|n| names[n].as_str());
        let (permissions, seconds, max_depth) = (&*permissions, *seconds, *max_depth);
        Consent { person, namespace, name, delegate, permissions, audiences, purpose, seconds, max_depth }.text()
    }

    /// As it counts: an empty id is every id, and attributes have no order.
    fn meant(asked: &Asked) -> Asked {
        let mut asked = asked.clone();
        for (_, id, attributes) in &mut asked.1 {
            if id.is_empty() {
                *id = "*".to_string();
            }
            let all: BTreeMap<String, String> = attributes.drain(..).collect();
            attributes.extend(all);
        }
        asked
    }

    fn asked() -> impl Strategy<Value = Asked> {
        let word = || "[a\"\\\\\n*,-]{0,3}";
        (
            prop::collection::vec(word(), 5),
            prop::collection::vec((word(), word(), prop::collection::vec((word(), word()), 0..2)), 0..3),
            prop::collection::vec(word(), 0..3),
            0..3u64,
            0..3u32,
        )
    }

    proptest! {
        /// Whatever stands in it, the same text means the same grant.
        #[test]
        fn one_text_stands_for_one_grant(one in asked(), other in asked()) {
            prop_assert_eq!(text_of(&one) == text_of(&other), meant(&one) == meant(&other));
        }
    }

    #[test]
    fn it_reads_as_it_is_meant() {
        let eu = BTreeMap::from([("region".to_string(), "eu".to_string())]);
        let permissions =
            [Agreed { action: "invoice:read", resource_type: "Invoice", id: "apollo/*", attributes: &eu }];
        let consent = Consent {
            person: "user:ada@example.com",
            namespace: "payments",
            name: "ada-lets-clerk",
            delegate: "clerk-bot",
            permissions: &permissions,
            audiences: &[],
            purpose: "Answers \"Ada\".\nQuickly.",
            seconds: 3_600,
            max_depth: 0,
        };
        assert_eq!(
            consent.text(),
            r#""user:ada@example.com" lets the agent "clerk-bot" of the namespace "payments" act for him, by the grant "ada-lets-clerk":
- to do "invoice:read" to "Invoice" "apollo/*", where "region" is "eu"
- towards anybody
- for 3600 seconds, from when the grant is made
- and passes nothing on
What for: "Answers \"Ada\".\nQuickly."
"#
        );
    }
}
