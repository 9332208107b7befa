//! Names of persons in texts: found, replaced by their numbers, and put back.

use crate::LONGEST;

/// How a person's name begins.
const MARK: &str = "user:";

/// What ends a name in a sentence or a list, beside white space.
const ENDS: &[char] = &['"', '\'', '`', '<', '>', '(', ')', '[', ']', '{', '}', ',', ';', '|', '\\'];

/// Whether a text is a person's name and nothing else.
#[must_use]
pub fn is_person(text: &str) -> bool {
    text.strip_prefix(MARK).is_some_and(|name| !name.is_empty() && !name.contains(ends_every_name))
}

/// Whether an encoded event could name a person: texts stand in it as they are. Of one that could not nothing is decoded.
#[must_use]
pub fn may_name(event: &[u8]) -> bool {
    event.windows(MARK.len()).any(|some| some == MARK.as_bytes())
}

fn ends_every_name(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// The text with each name replaced by the number that `number` gives it, or by nothing but a mark where it gives none.
pub(crate) fn cut(
    text: &str,
    is_whole: bool,
    known: &[String],
    mut number: impl FnMut(&str) -> Option<usize>,
) -> String {
    if is_whole && is_person(text) {
        return placeholder(number(within(text)));
    }
    let mut out = String::new();
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(MARK) {
        let (head, tail) = rest.split_at(at);
        out.push_str(head);
        let is_begin = head.chars().next_back().or(before).is_none_or(|c| !c.is_alphanumeric());
        let end = if is_begin { end_of(tail, known) } else { MARK.len() };
        let (name, behind) = tail.split_at(end);
        match end > MARK.len() {
            true => out.push_str(&placeholder(number(within(name)))),
            false => out.push_str(name),
        }
        before = name.chars().next_back();
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// Where the name ends that a text begins with.
fn end_of(text: &str, known: &[String]) -> usize {
    let ends_there = |name: &&String| {
        let Some(behind) = text.strip_prefix(name.as_str()) else { return false };
        let behind = behind.strip_prefix('.').unwrap_or(behind);
        behind.chars().next().is_none_or(|c| !c.is_alphanumeric())
    };
    if let Some(name) = known.iter().find(ends_there) {
        return name.len();
    }
    let stop = text.find(|c: char| ends_every_name(c) || ENDS.contains(&c)).unwrap_or(text.len());
    text[..stop].trim_end_matches(['.', ':', '!', '?']).len().max(MARK.len())
}

/// A name as it is kept: of one that is longer than any person's, the beginning.
fn within(name: &str) -> &str {
    let end = (0..=LONGEST.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    &name[..end]
}

/// What stands where a name is not kept at all.
pub(crate) const LEFT_OUT: &str = "user:\u{2026}";

fn placeholder(number: Option<usize>) -> String {
    number.map_or_else(|| LEFT_OUT.to_owned(), |number| format!("{MARK}#{number}"))
}

/// The text with each number replaced by what `name` says of it; `None` where there is none.
pub(crate) fn put_back<'a>(text: &str, name: impl Fn(usize) -> Option<&'a str>) -> Option<String> {
    let mut out = String::new();
    let (mut rest, mut before, mut is_changed) = (text, None, false);
    while let Some(at) = rest.find(MARK) {
        let (head, tail) = rest.split_at(at);
        out.push_str(head);
        let is_begin = head.chars().next_back().or(before).is_none_or(|c: char| !c.is_alphanumeric());
        let digits = tail[MARK.len()..].strip_prefix('#').filter(|_| is_begin).unwrap_or_default();
        let digits = &digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())];
        let end = match digits.parse().ok().and_then(&name) {
            Some(name) => {
                out.push_str(name);
                is_changed = true;
                MARK.len() + 1 + digits.len()
            }
            None => {
                out.push_str(MARK);
                MARK.len()
            }
        };
        before = tail[..end].chars().next_back();
        rest = &tail[end..];
    }
    out.push_str(rest);
    is_changed.then_some(out)
}
