//! A question over the log: which events, each filter checked.

use legate_clock::Timestamp;

/// The longest text that is asked for; a SPIFFE ID has no more.
pub(crate) const LONGEST: usize = 2_048;

/// Which events. Empty texts do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) agent_id: String,
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

impl Question {
    /// Everything that was asked, for a page token to be bound to.
    pub(crate) fn parts(&self) -> Vec<String> {
        let kind = match &self.kind {
            TypeFilter::Any => String::new(),
            TypeFilter::Exactly(kind) => kind.clone(),
            TypeFilter::Under(noun) => format!("{noun}.*"),
        };
        let time = |t: Option<Timestamp>| t.map_or_else(String::new, |t| t.micros().to_string());
        vec![
            self.agent_id.clone(),
            self.actor.clone(),
            kind,
            self.namespace.clone(),
            self.action.clone(),
            self.resource_type.clone(),
            self.resource_id.clone(),
            self.outcome.to_string(),
            self.trace_id.clone(),
            self.credential_id.clone(),
            self.decision_id.clone(),
            self.emitter.clone(),
            time(self.from),
            time(self.to),
        ]
    }
}

#[cfg(test)]
mod tests {
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
}
