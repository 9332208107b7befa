//! Texts that others wrote, made harmless for a terminal: nothing invisible, nothing that moves the cursor or turns the text.

use std::borrow::Cow;

use legate_ids::is_deceptive;

/// The text with every control, invisible or direction-changing character written as `\u{...}`.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_deceptive(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// JSON whose texts hold no such character either. Outside of texts JSON has only line breaks and spaces, which stay.
pub(crate) fn visible_json(json: &str) -> Cow<'_, str> {
    let hidden = |c: char| c != '\n' && is_deceptive(c);
    if !json.chars().any(hidden) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if hidden(c) {
            // RFC 8259 section 7: beyond the basic plane, as a pair of surrogates.
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const EVIL: &str = "a\u{1b}[31mred\u{202e}txt\u{200b}\u{9b}2J\u{7f}\u{e0041}\nb";

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        let shown = visible(EVIL);
        assert_eq!(shown, "a\\u{1b}[31mred\\u{202e}txt\\u{200b}\\u{9b}2J\\u{7f}\\u{e0041}\\nb");
        assert!(matches!(visible("Grüße, 世界"), Cow::Borrowed(_)));
    }

    #[test]
    fn escaped_json_still_says_the_same() {
        let json = serde_json::to_string_pretty(&serde_json::json!({ "reason": EVIL })).unwrap();
        let shown = visible_json(&json);
        assert!(!shown.chars().any(|c| c != '\n' && is_deceptive(c)), "{shown}");
        let back: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(back.get("reason").unwrap(), EVIL);
    }
}
