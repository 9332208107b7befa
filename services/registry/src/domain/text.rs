//! What a text may hold, whoever is to read it: nothing that a reader cannot see or that changes what he sees.

use legate_cedar::place;
use legate_ids::is_deceptive;

/// How long most texts may be, in bytes.
pub(super) const TEXT: usize = 1024;

/// Whether a text may have several lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// No: a name, a word.
    One,
    /// Yes, and tabs.
    Many,
}

/// What is wrong with a text of at most `longest` bytes.
pub(super) fn fault_in(text: &str, longest: usize, lines: Lines) -> Option<String> {
    if text.len() > longest {
        return Some(format!("is {} bytes long; give at most {longest}", text.len()));
    }
    hidden(text, |c| lines == Lines::Many && matches!(c, '\n' | '\t'))
}

/// Where the first character stands that no text may hold; `spared` are those that this one may.
pub(super) fn hidden(text: &str, spared: impl Fn(char) -> bool) -> Option<String> {
    let (at, c) = text.char_indices().find(|(_, c)| is_deceptive(*c) && !spared(*c))?;
    Some(format!(
        "holds U+{:04X} {}; control, invisible and direction-changing characters are refused",
        u32::from(c),
        place(text, at)
    ))
}

/// A text as it may be repeated in a message: quoted, escaped, cut.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 64;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{:?}...", text.get(..at).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_hold_nothing_hidden() {
        for good in ["", "Invoices of Ünïcode & Söhne <b>", "=cmd|' /C calc'!A0", "%_'--", "日本語", "a b"] {
            assert_eq!(fault_in(good, TEXT, Lines::One), None, "{good}");
        }
        assert_eq!(fault_in("a\n\tb", TEXT, Lines::Many), None);
        for bad in
            ["a\nb", "\u{0}", "\u{1b}[31m", "a\u{202e}b", "\u{2066}", "\u{200b}", "\u{feff}", "\u{ad}", "\r", "\u{7f}"]
        {
            assert!(fault_in(bad, TEXT, Lines::One).is_some(), "{bad:?}");
        }
        for bad in ["\r\n", "\u{0}", "\u{1b}[31m", "a\u{202e}b", "\u{85}", "\u{2028}"] {
            assert!(fault_in(bad, TEXT, Lines::Many).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn lengths_are_counted_in_bytes() {
        assert_eq!(fault_in(&"x".repeat(1024), TEXT, Lines::One), None);
        let why = fault_in(&"é".repeat(513), TEXT, Lines::One);
        assert_eq!(why.as_deref(), Some("is 1026 bytes long; give at most 1024"));
    }

    #[test]
    fn the_place_is_told() {
        let why = fault_in("ä\nb\u{202e}", TEXT, Lines::Many);
        assert!(why.as_ref().is_some_and(|w| w.starts_with("holds U+202E at line 2, column 2;")), "{why:?}");
    }

    #[test]
    fn what_is_repeated_is_harmless() {
        assert_eq!(quoted("a\u{202e}\u{1b}\"b"), r#""a\u{202e}\u{1b}\"b""#);
        assert_eq!(quoted(&"é".repeat(65)), format!("\"{}\"...", "é".repeat(64)));
    }
}
