//! A text cut into signs and words, each with its place.

use alloc::format;
use alloc::string::String;

use crate::BadFilter;

/// Where the scanner stands in a text.
#[derive(Clone, Debug)]
pub(crate) struct Scan<'t> {
    text: &'t str,
    at: usize,
}

/// The value of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `*` alone.
    Star,
    /// A text; with a `*` at its end: every text that begins so.
    Text { text: String, begins: bool },
}

/// The signs of comparisons, the longer ones first.
const SIGNS: [&str; 7] = ["!=", "<=", ">=", "=", "<", ">", ":"];

/// A character of a word without quotes: what names, principals, versions and times are made of.
fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '@' | '+')
}

/// A character of a label's key or a field's name.
fn is_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')
}

impl<'t> Scan<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn step(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// The place of what comes next.
    pub(crate) fn place(&mut self) -> usize {
        self.skip();
        self.at
    }

    fn skip(&mut self) {
        let rest = self.rest();
        self.step(rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len());
    }

    /// Whether nothing is left.
    pub(crate) fn is_done(&mut self) -> bool {
        self.skip();
        self.rest().is_empty()
    }

    /// Takes `sign` where it comes next.
    pub(crate) fn take(&mut self, sign: &str) -> bool {
        self.skip();
        let is_next = self.rest().starts_with(sign);
        if is_next {
            self.step(sign.len());
        }
        is_next
    }

    /// Takes the word `AND`, `OR` or `NOT` where it comes next, and is not the beginning of a longer word.
    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        self.skip();
        let is_next = self.rest().strip_prefix(word).is_some_and(|after| !after.starts_with(is_bare));
        if is_next {
            self.step(word.len());
        }
        is_next
    }

    /// Takes a field's name with all that belongs to it, such as `labels.team`; empty where none comes next.
    pub(crate) fn take_name(&mut self) -> &'t str {
        self.skip();
        let rest = self.rest();
        let end = rest.find(|c| !is_key(c)).unwrap_or(rest.len());
        self.step(end);
        rest.get(..end).unwrap_or_default()
    }

    /// Takes the sign of a comparison.
    pub(crate) fn take_sign(&mut self) -> Option<&'static str> {
        SIGNS.into_iter().find(|sign| self.take(sign))
    }

    /// What comes next, for a message: escaped, and cut.
    pub(crate) fn found(&mut self) -> String {
        self.skip();
        let rest = self.rest();
        match rest.char_indices().nth(24) {
            _ if rest.is_empty() => "the end".into(),
            Some((end, _)) => format!("{:?}...", rest.get(..end).unwrap_or_default()),
            None => format!("{rest:?}"),
        }
    }

    /// Takes the value of a comparison.
    pub(crate) fn take_value(&mut self) -> Result<Value, BadFilter> {
        let at = self.place();
        if self.rest().starts_with('"') {
            return self.quoted();
        }
        let rest = self.rest();
        let end = rest.find(|c| !is_bare(c)).unwrap_or(rest.len());
        let word = rest.get(..end).unwrap_or_default();
        self.step(end);
        let begins = self.rest().starts_with('*');
        self.step(usize::from(begins));
        // No sign may follow at once: `a*b` and `a"b"` would read as two words.
        if self.rest().starts_with(|c: char| !matches!(c, ' ' | '\t' | '\n' | '\r' | '(' | ')')) {
            let why = format!("{} is not part of a word; put the value in quotes", self.found());
            return Err(BadFilter::new(self.at, why));
        }
        match word {
            "" if begins => Ok(Value::Star),
            "" => Err(BadFilter::new(at, format!("expected a value, found {}; put texts in quotes", self.found()))),
            "AND" | "OR" | "NOT" => {
                Err(BadFilter::new(at, format!("expected a value, found {word}; put it in quotes if it is one")))
            }
            word => Ok(Value::Text { text: word.into(), begins }),
        }
    }

    fn quoted(&mut self) -> Result<Value, BadFilter> {
        let start = self.at;
        let (mut text, mut begins, mut escaped) = (String::new(), false, false);
        for (offset, c) in self.rest().char_indices().skip(1) {
            let at = start + offset;
            match c {
                c if legate_ids::is_deceptive(c) => {
                    let why =
                        format!("U+{:04X} is invisible or changes how text is shown; no value holds it", u32::from(c));
                    return Err(BadFilter::new(at, why));
                }
                '"' | '\\' | '*' if escaped => {
                    text.push(c);
                    escaped = false;
                }
                _ if escaped => {
                    return Err(BadFilter::new(at, r#"only \", \\ and \* are escapes; write \\ for a backslash"#));
                }
                '\\' => escaped = true,
                '"' => {
                    self.at = at + 1;
                    return Ok(Value::Text { text, begins });
                }
                _ if begins => {
                    return Err(BadFilter::new(
                        at,
                        r"a * stands only at the end of a text; write \* for the sign itself",
                    ));
                }
                '*' => begins = true,
                c => text.push(c),
            }
            // A quote right after the star ends the text; everything else was refused above.
        }
        Err(BadFilter::new(start, "the quotes are not closed; end the text with \""))
    }
}
