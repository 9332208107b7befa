//! Actions (`invoice:read`) and the patterns that roles and ceilings use (`invoice:*`).

use alloc::string::String;

/// What is done to a resource: 1 to 8 segments of `a-z 0-9 _ -` joined by `:`, 128 bytes at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Action(String);

/// An [`Action`], or a prefix of segments followed by `:*`, or `*` alone for every action.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionPattern(String);

/// A text is not an action or action pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an action is 1 to 8 segments of a-z, 0-9, '_' and '-' joined by ':' (128 bytes at most), such as invoice:read; only a pattern may end in '*'"
)]
pub struct BadAction;

fn is_action(text: &str) -> bool {
    let segment = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    };
    text.len() <= 128 && text.split(':').count() <= 8 && text.split(':').all(segment)
}

impl Action {
    /// Reads an action.
    ///
    /// # Errors
    /// [`BadAction`] when the text breaks the grammar.
    pub fn parse(text: &str) -> Result<Self, BadAction> {
        is_action(text).then(|| Self(text.into())).ok_or(BadAction)
    }
}

impl ActionPattern {
    /// Reads an action pattern.
    ///
    /// # Errors
    /// [`BadAction`] when the text breaks the grammar.
    pub fn parse(text: &str) -> Result<Self, BadAction> {
        let exact = text.strip_suffix(":*").unwrap_or(text);
        (text == "*" || is_action(exact)).then(|| Self(text.into())).ok_or(BadAction)
    }

    /// Every action there is, `*`.
    #[must_use]
    pub fn every() -> Self {
        Self("*".into())
    }

    /// Whether it stands for more than one action.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.ends_with('*')
    }

    /// Whether `action` is one of those it stands for. `a:*` covers `a:b` and `a:b:c`, not `a` nor `ab:c`.
    #[must_use]
    pub fn covers(&self, action: &Action) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => action.0.starts_with(prefix),
            None => self.0 == action.0,
        }
    }

    /// Whether every action that `other` stands for is one of those it stands for.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => other.0.starts_with(prefix),
            None => self.0 == other.0,
        }
    }

    /// The actions that both stand for: one of the two, since of patterns that share an action one includes the other.
    #[must_use]
    pub fn meet<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        if self.includes(other) {
            return Some(other);
        }
        other.includes(self).then_some(self)
    }
}

impl From<Action> for ActionPattern {
    fn from(action: Action) -> Self {
        Self(action.0)
    }
}

crate::text_traits!(Action, BadAction);
crate::text_traits!(ActionPattern, BadAction);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn keeps_to_the_grammar() {
        for good in ["read", "invoice:read", "a:b:c", "mcp:tools-call:x_y"] {
            assert!(Action::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ":", "a:", ":a", "A", "a b", "a:*", "*", "a\u{0}", "a::b", "1:2:3:4:5:6:7:8:9"] {
            assert!(Action::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a*", "**", "*:a", "a:*:b", ":*"] {
            assert!(ActionPattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pattern_stops_at_the_segment() {
        let covers = |p: &str, a: &str| ActionPattern::parse(p).unwrap().covers(&Action::parse(a).unwrap());
        assert!(covers("invoice:*", "invoice:read"));
        assert!(covers("invoice:*", "invoice:line:read"));
        assert!(covers("*", "invoice"));
        assert!(!covers("invoice:*", "invoice"));
        assert!(!covers("invoice:*", "invoices:read"));
        assert!(!covers("invoice", "invoice:read"));
    }
}
