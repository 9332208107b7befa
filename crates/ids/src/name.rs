//! Names people give to namespaces, agents, roles and the like.

use alloc::sync::Arc;

/// A DNS label (RFC 1123 section 2.1): 1 to 63 of `a-z 0-9 -`, starting and ending with a letter or digit.
///
/// A clone shares the text: namespaces and classes are named by a million agents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Empty.
    #[error("a name is empty; give 1 to 63 characters of a-z, 0-9 and '-'")]
    Empty,
    /// Longer than 63 characters.
    #[error("a name is longer than 63 characters")]
    TooLong,
    /// A character other than `a-z 0-9 -`, or a `-` at either end.
    #[error("a name may hold only a-z, 0-9 and '-', and starts and ends with a letter or digit")]
    Character,
}

impl Name {
    /// Reads a name.
    ///
    /// # Errors
    /// [`BadName`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let bytes = text.as_bytes();
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
            return Err(BadName::Empty);
        };
        if bytes.len() > 63 {
            return Err(BadName::TooLong);
        }
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        if !bytes.iter().all(inner) || *first == b'-' || *last == b'-' {
            return Err(BadName::Character);
        }
        Ok(Self(text.into()))
    }

    /// Whether a clone of this very name is held somewhere.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

crate::text_traits!(Name, BadName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_to_the_grammar() {
        for good in ["a", "invoice-bot", "a1", "0", &"x".repeat(63)] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        assert_eq!(Name::parse(""), Err(BadName::Empty));
        assert_eq!(Name::parse(&"x".repeat(64)), Err(BadName::TooLong));
        for bad in ["-a", "a-", "A", "a_b", "a.b", "a b", "a\0", "é", "a\u{200b}", "../x", "%61", "a'--"] {
            assert_eq!(Name::parse(bad), Err(BadName::Character), "{bad:?}");
        }
    }
}
