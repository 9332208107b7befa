//! What actions are done to: a resource type and an id, and the id patterns of selectors.

use alloc::string::String;

/// The kind of a resource, a Cedar type name: 1 to 4 identifiers joined by `::`, 128 bytes at most, such as `Invoice`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceType(String);

/// Which resource of its type: 1 to 512 bytes, compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(String);

/// A [`ResourceId`], or a prefix ending in `/` followed by `*`, or `*` alone for every id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdPattern(String);

/// Why a text is not a resource type, id or id pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResource {
    /// Not a type.
    #[error(
        "a resource type is 1 to 4 identifiers (a letter or '_', then letters, digits or '_') joined by '::', 128 bytes at most, such as Invoice"
    )]
    Type,
    /// Not an id.
    #[error(
        "a resource id is 1 to 512 bytes of text without white space at its ends, without '*', control, invisible or direction-changing characters"
    )]
    Id,
    /// Not a pattern.
    #[error("a resource id pattern is an id, a prefix ending in '/' followed by '*', or '*' alone")]
    Pattern,
}

/// Cedar's reserved words cannot name a type.
const RESERVED: [&str; 12] =
    ["true", "false", "if", "then", "else", "in", "like", "has", "is", "permit", "forbid", "__cedar"];

impl ResourceType {
    /// Reads a type.
    ///
    /// # Errors
    /// [`BadResource::Type`] when the text breaks the grammar.
    pub fn parse(text: &str) -> Result<Self, BadResource> {
        let identifier = |s: &str| {
            s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !RESERVED.contains(&s)
        };
        let good = text.len() <= 128 && text.split("::").count() <= 4 && text.split("::").all(identifier);
        good.then(|| Self(text.into())).ok_or(BadResource::Type)
    }
}

/// Characters that a reader cannot see, or that change how the text around them is shown.
#[must_use]
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn is_id(text: &str) -> bool {
    (1..=512).contains(&text.len()) && text.trim() == text && !text.chars().any(|c| is_deceptive(c) || c == '*')
}

impl ResourceId {
    /// Reads an id.
    ///
    /// # Errors
    /// [`BadResource::Id`] when the text breaks the grammar.
    pub fn parse(text: &str) -> Result<Self, BadResource> {
        is_id(text).then(|| Self(text.into())).ok_or(BadResource::Id)
    }
}

impl IdPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`BadResource::Pattern`] when the text breaks the grammar.
    pub fn parse(text: &str) -> Result<Self, BadResource> {
        let good = match text.strip_suffix('*') {
            Some("") => true,
            Some(prefix) => prefix.ends_with('/') && is_id(prefix),
            None => is_id(text),
        };
        good.then(|| Self(text.into())).ok_or(BadResource::Pattern)
    }

    /// Whether `id` is one of those it stands for. `a/*` covers `a/b` and `a/b/c`, not `a/` nor `ab`.
    #[must_use]
    pub fn covers(&self, id: &ResourceId) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => id.0.len() > prefix.len() && id.0.starts_with(prefix),
            None => self.0 == id.0,
        }
    }

    /// Whether every id that `other` stands for is one of those it stands for.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => other.0.len() > prefix.len() && other.0.starts_with(prefix),
            None => self.0 == other.0,
        }
    }
}

crate::text_traits!(ResourceType, BadResource);
crate::text_traits!(ResourceId, BadResource);
crate::text_traits!(IdPattern, BadResource);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn types_are_cedar_names() {
        for good in ["Invoice", "Acme::Invoice", "_x"] {
            assert!(ResourceType::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "::", "1a", "In voice", "a::", "if", "Acme::in", "a:b", "é", "a::b::c::d::e"] {
            assert_eq!(ResourceType::parse(bad), Err(BadResource::Type), "{bad:?}");
        }
    }

    #[test]
    fn ids_hold_nothing_a_reader_cannot_see() {
        for good in ["apollo/1001", "a:b", "Ünïcode", "x y", "%_'--", "a\\b"] {
            assert!(ResourceId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", " a", "a ", "a\n", "a\u{0}b", "a\u{200b}", "a\u{202e}b", "a*", "\u{1b}[31m", &"x".repeat(513)] {
            assert_eq!(ResourceId::parse(bad), Err(BadResource::Id), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_pattern_stops_at_the_slash() {
        let covers = |p: &str, id: &str| IdPattern::parse(p).unwrap().covers(&ResourceId::parse(id).unwrap());
        assert!(covers("apollo/*", "apollo/1"));
        assert!(covers("apollo/*", "apollo/1/2"));
        assert!(covers("*", "x"));
        assert!(covers("x", "x"));
        assert!(!covers("apollo/*", "apollo/"));
        assert!(!covers("apollo/*", "apollo2/1"));
        assert!(!covers("x", "xy"));
        for bad in ["", "a*", "*a", "a/*/b", "**", "/ *"] {
            assert_eq!(IdPattern::parse(bad), Err(BadResource::Pattern), "{bad:?}");
        }
    }
}
