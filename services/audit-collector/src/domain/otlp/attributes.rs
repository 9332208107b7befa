//! The attributes that are looked at, each bounded; everything else is dropped unread, prompts and answers first of all.

use std::collections::BTreeMap;

/// The longest text of an attribute, in bytes.
const LONGEST: usize = 256;

/// Every attribute that an event can hold something of. What is not here is not kept: contents (`gen_ai.input.messages`,
/// `gen_ai.tool.call.arguments`, `gen_ai.system_instructions` and whatever comes to be named) have no place by not being named.
const KNOWN: [&str; 30] = [
    "enduser.id",
    "error.type",
    "gen_ai.agent.id",
    "gen_ai.agent.name",
    "gen_ai.conversation.id",
    "gen_ai.data_source.id",
    "gen_ai.memory.store.id",
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    // What gen_ai.provider.name was called before.
    "gen_ai.system",
    "gen_ai.tool.call.id",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.workflow.name",
    "legate.action",
    "legate.agent.id",
    "legate.credential.id",
    "legate.decision.id",
    "legate.grant.id",
    "legate.resource.id",
    "legate.resource.type",
    "legate.subject",
    "legate.token.id",
    "mcp.method.name",
    "service.name",
    "user.id",
];

/// The value of an attribute that is one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Text(String),
    Whole(i64),
    Flag(bool),
}

/// What is known of a signal's attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    known: BTreeMap<&'static str, String>,
    dropped: u64,
}

impl Attributes {
    /// Takes one in, where it is of those that are looked at and a short text without control characters; a later one counts.
    /// `None`: a list, a map, bytes or a fraction.
    pub(crate) fn put(&mut self, key: &str, value: Option<Scalar>) {
        let place = KNOWN.binary_search(&key).ok().map(|at| KNOWN[at]);
        let text = value.and_then(|value| match value {
            Scalar::Text(text) => is_legible(&text).then_some(text),
            Scalar::Whole(number) => Some(number.to_string()),
            Scalar::Flag(flag) => Some(flag.to_string()),
        });
        match place.zip(text) {
            Some((place, text)) => drop(self.known.insert(place, text)),
            None => self.dropped += 1,
        }
    }

    /// One of them; empty where it is not there.
    pub(crate) fn get(&self, key: &'static str) -> &str {
        debug_assert!(KNOWN.contains(&key), "{key} is not looked at");
        self.known.get(key).map(String::as_str).unwrap_or_default()
    }

    /// The first of these that is there.
    pub(crate) fn first(&self, keys: &[&'static str]) -> &str {
        keys.iter().map(|key| self.get(key)).find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// How many were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Those of a signal, where these are its resource's. What was dropped of the resource is counted with it, once.
    pub(crate) fn inherited(&self) -> Self {
        Self { known: self.known.clone(), dropped: 0 }
    }
}

/// Whether a text can stand in an event: short, and nothing in it moves the cursor or turns the writing round.
fn is_legible(text: &str) -> bool {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    (1..=LONGEST).contains(&text.len()) && !text.chars().any(is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_named_or_not_legible_is_dropped() {
        assert!(KNOWN.is_sorted());
        let mut all = Attributes::default();
        let text = |text: &str| Some(Scalar::Text(text.to_owned()));
        all.put("gen_ai.tool.name", text("search"));
        all.put("gen_ai.usage.input_tokens", Some(Scalar::Whole(17)));
        assert_eq!((all.get("gen_ai.tool.name"), all.get("gen_ai.usage.input_tokens")), ("search", "17"));
        for (key, value) in [
            ("gen_ai.input.messages", text("tell me")),
            ("gen_ai.tool.call.arguments", text("{}")),
            ("gen_ai.prompt", text("tell me")),
            ("gen_ai.tool.type", None),
            ("gen_ai.tool.type", text("")),
            ("gen_ai.tool.type", text("a\u{1b}[2J")),
            ("gen_ai.tool.type", text("a\u{202e}b")),
            ("gen_ai.tool.type", text(&"x".repeat(LONGEST + 1))),
            ("GEN_AI.TOOL.TYPE", text("function")),
        ] {
            all.put(key, value);
        }
        assert_eq!((all.get("gen_ai.tool.type"), all.dropped(), all.known.len()), ("", 9, 2));
        assert_eq!(all.inherited().dropped(), 0);
    }

    proptest! {
        #[test]
        fn no_text_is_kept_that_is_long_or_hides_something(text in "\\PC{0,40}|[\\x00-\\u{ff}]{0,300}") {
            let mut all = Attributes::default();
            all.put("gen_ai.tool.name", Some(Scalar::Text(text.clone())));
            let kept = all.get("gen_ai.tool.name");
            prop_assert!(kept.is_empty() || kept == text);
            prop_assert!(kept.len() <= LONGEST && !kept.chars().any(char::is_control));
        }
    }
}
