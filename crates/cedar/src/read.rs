//! A policy's text, read: measured first, and what is wrong with it told with its place.

use cedar_policy::ffi::DetailedError;
use cedar_policy::{PolicyId, PolicySet};

use super::extent;

/// One thing that is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The byte where it stands, where that is known.
    pub at: Option<usize>,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl Finding {
    /// As it is told: with line and column of the text that it is about.
    #[must_use]
    pub fn told(&self, text: &str) -> String {
        match self.at {
            Some(at) => format!("{}: {}", place(text, at), self.why),
            None => self.why.clone(),
        }
    }
}

/// Line and column of a byte, counted from 1; in a text of one line the column alone.
#[must_use]
pub fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    if text.contains('\n') { format!("at line {line}, column {column}") } else { format!("at column {column}") }
}

/// Reads policies.
///
/// # Errors
/// When the text nests or reaches too far for whoever reads it, or does not parse; with the place.
pub fn parse(text: &str) -> Result<PolicySet, String> {
    extent::check(text)?;
    text.parse().map_err(|e: cedar_policy::ParseErrors| {
        let error = DetailedError::from(&e);
        let place = error.source_locations.first().map(|label| format!(" {}", place(text, label.loc.start)));
        format!("does not parse{}: {}", place.unwrap_or_default(), with_help(&error))
    })
}

/// Several declared policies as one set; each Cedar policy is called `NAME#N` by the declared one that it is of.
///
/// # Errors
/// The one that cannot be read, and why.
pub fn joined<'a>(all: &[(&'a str, &str)]) -> Result<PolicySet, (&'a str, String)> {
    let mut whole = PolicySet::new();
    for (name, text) in all {
        let set = parse(text).map_err(|why| (*name, why))?;
        if set.templates().next().is_some() {
            return Err((name, "holds a template".to_owned()));
        }
        let mut policies: Vec<_> = set.policies().collect();
        policies.sort_by_key(|policy| policy.id().to_string());
        for (n, policy) in policies.into_iter().enumerate() {
            let policy = policy.new_id(PolicyId::new(format!("{name}#{n}")));
            whole.add(policy).map_err(|e| (*name, e.to_string()))?;
        }
    }
    Ok(whole)
}

/// What Cedar says, with what it expected and its advice.
pub(crate) fn with_help(error: &DetailedError) -> String {
    let expected = error.source_locations.iter().find_map(|label| label.label.as_deref());
    let mut text = error.message.clone();
    for more in [expected, error.help.as_deref()].into_iter().flatten() {
        text += &format!("; {more}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_told() {
        assert_eq!(place("abc", 2), "at column 3");
        assert_eq!(place("ä\nb", 4), "at line 2, column 2");
        // Not on a character's edge, or past the end: still no panic.
        assert_eq!(place("ä", 1), "at column 2");
        assert_eq!(place("a", 9), "at column 2");
        let finding = Finding { at: Some(2), why: "is wrong".into() };
        assert_eq!(finding.told("a\nb"), "at line 2, column 1: is wrong");
        assert_eq!(Finding { at: None, why: "is wrong".into() }.told("a"), "is wrong");
    }
}
