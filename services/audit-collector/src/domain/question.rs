//! A question over the log: which events, each filter checked, and where in the log an answer begins.

use legate_clock::Timestamp;
use legate_filter::Filter;
use legate_ids::{Principal, SpiffeId};

/// The longest text that is asked for; a SPIFFE ID has no more.
pub(crate) const LONGEST: usize = 2_048;

/// Which events. Empty texts do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) agent_id: String,
    /// Acts, or stands in the chain.
    pub(crate) via_agent_id: String,
    /// With those that these made.
    pub(crate) descendants: bool,
    pub(crate) actor: String,
    pub(crate) kind: TypeFilter,
    pub(crate) namespace: String,
    pub(crate) action: String,
    pub(crate) resource_type: String,
    pub(crate) resource_id: String,
    /// The number of an outcome; 0 does not matter.
    pub(crate) outcome: i32,
    pub(crate) trace_id: String,
    pub(crate) credential_id: String,
    pub(crate) decision_id: String,
    pub(crate) emitter: String,
    pub(crate) instance_id: String,
    pub(crate) subject: String,
    pub(crate) chain: String,
    pub(crate) grant_id: String,
    pub(crate) filter: Option<Filter>,
    /// Held by one of the texts of an event.
    pub(crate) text: String,
    /// The number of a class of trust; 0 does not matter.
    pub(crate) trust: i32,
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
}

/// Which types of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum TypeFilter {
    /// All.
    #[default]
    Any,
    /// This one.
    Exactly(String),
    /// Those that begin with this and a dot.
    Under(String),
}

impl TypeFilter {
    /// Reads a type, or `noun.*`; `None` when it is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        match text.strip_suffix(".*") {
            _ if text.is_empty() => Some(Self::Any),
            Some(noun) if word(noun) => Some(Self::Under(noun.to_owned())),
            None if word(text) => Some(Self::Exactly(text.to_owned())),
            _ => None,
        }
    }
}

/// Which end of the log comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

impl Order {
    /// What is left of a stretch of leaves behind one of them.
    pub(crate) fn behind(self, leaf: u64, stretch: std::ops::Range<u64>) -> std::ops::Range<u64> {
        match self {
            Self::NewestFirst => stretch.start..stretch.end.min(leaf),
            Self::OldestFirst => stretch.start.max(leaf.saturating_add(1))..stretch.end,
        }
    }
}

/// Somebody as the index has him: an agent by its id, whether an event names it so or by its SPIFFE ID.
pub(crate) fn plain(text: &str) -> String {
    match SpiffeId::parse(text).as_ref().map(Principal::of) {
        Ok(Ok(Principal::Agent { id, .. })) => id.to_string(),
        _ => text.to_owned(),
    }
}

impl Question {
    /// Everything that was asked, by name, for a page token to be bound to and the record to tell.
    pub(crate) fn parts(&self) -> Vec<(&'static str, String)> {
        let kind = match &self.kind {
            TypeFilter::Any => String::new(),
            TypeFilter::Exactly(kind) => kind.clone(),
            TypeFilter::Under(noun) => format!("{noun}.*"),
        };
        let time = |t: Option<Timestamp>| t.map_or_else(String::new, |t| t.to_string());
        let number = |n: i32| if n == 0 { String::new() } else { n.to_string() };
        vec![
            ("agent_id", self.agent_id.clone()),
            ("via_agent_id", self.via_agent_id.clone()),
            ("include_descendants", if self.descendants { "true".to_owned() } else { String::new() }),
            ("actor", self.actor.clone()),
            ("type", kind),
            ("namespace", self.namespace.clone()),
            ("action", self.action.clone()),
            ("resource_type", self.resource_type.clone()),
            ("resource_id", self.resource_id.clone()),
            ("outcome", number(self.outcome)),
            ("trace_id", self.trace_id.clone()),
            ("credential_id", self.credential_id.clone()),
            ("decision_id", self.decision_id.clone()),
            ("emitter", self.emitter.clone()),
            ("instance_id", self.instance_id.clone()),
            ("subject", self.subject.clone()),
            ("chain", self.chain.clone()),
            ("grant_id", self.grant_id.clone()),
            ("filter", self.filter.as_ref().map(ToString::to_string).unwrap_or_default()),
            ("text", self.text.clone()),
            ("trust", number(self.trust)),
            ("from_time", time(self.from)),
            ("to_time", time(self.to)),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_type_is_exact_or_a_noun_and_a_star() {
        assert_eq!(TypeFilter::parse(""), Some(TypeFilter::Any));
        assert_eq!(TypeFilter::parse("agent.suspended"), Some(TypeFilter::Exactly("agent.suspended".into())));
        assert_eq!(TypeFilter::parse("agent.*"), Some(TypeFilter::Under("agent".into())));
        for bad in ["*", ".*", "agent*", "a.*.b", "a%", "agent .*", "a\0"] {
            assert_eq!(TypeFilter::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_agent_has_one_name_in_the_index() {
        let id = legate_ids::AgentId::from_parts(1, [1; 10]).to_string();
        for text in [id.clone(), format!("spiffe://example.org/ns/payments/agent/{id}")] {
            assert_eq!(plain(&text), id);
        }
        for text in ["user:ada@example.com", "spiffe://example.org/legate/operator/ada", "", "\0"] {
            assert_eq!(plain(text), text);
        }
    }

    #[test]
    fn what_is_behind_a_leaf_is_not_that_leaf() {
        assert_eq!(Order::NewestFirst.behind(7, 2..10), 2..7);
        assert_eq!(Order::OldestFirst.behind(7, 2..10), 8..10);
        assert!(Order::NewestFirst.behind(1, 2..10).is_empty());
        assert!(Order::OldestFirst.behind(u64::MAX, 2..10).is_empty());
    }
}
