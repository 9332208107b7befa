//! How deep and how wide one Cedar policy may be.
//!
//! Cedar's parser calls itself for every bracket and every `if` (tens of KiB of stack each in a debug build), and what it
//! makes is evaluated and freed by functions that call themselves for every operator. A text of 64 KiB could so end the
//! process that reads it. The text is therefore measured before anything parses it.

use crate::read::place;

/// Brackets that are open and `if`s of the same policy, together.
const DEEPEST: usize = 20;
/// Operators and brackets of one policy: `. + - * && || == ( [ {` and their like.
const OPERATORS: usize = 1000;

/// Measures a text.
pub(crate) fn check(cedar: &str) -> Result<(), String> {
    let (mut open, mut ifs, mut operators) = (0usize, 0usize, 0usize);
    let mut rest = cedar.bytes().enumerate().peekable();
    let mut before = b' ';
    while let Some((at, b)) = rest.next() {
        match b {
            // Cedar's strings: `"`, then anything but `"`, where `\\` takes the next one along.
            b'"' => {
                while let Some((_, b)) = rest.next() {
                    match b {
                        b'"' => break,
                        b'\\' => {
                            rest.next();
                        }
                        _ => {}
                    }
                }
            }
            b'/' if rest.peek().is_some_and(|(_, b)| *b == b'/') => {
                while rest.next_if(|(_, b)| !matches!(b, b'\n' | b'\r')).is_some() {}
            }
            b'(' | b'[' | b'{' => (open, operators) = (open + 1, operators + 1),
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'i' if !is_word(before) && is_if(cedar, at) => ifs += 1,
            b'.' | b'+' | b'-' | b'*' | b'<' | b'>' => operators += 1,
            b'&' | b'|' | b'=' if before == b => operators += 1,
            // A policy ends; what stands open is the parser's to complain of.
            b';' => (ifs, operators) = (0, 0),
            _ => {}
        }
        if open + ifs > DEEPEST {
            let place = place(cedar, at);
            return Err(format!(
                "nests brackets and if-expressions more than {DEEPEST} deep {place}; split the policy"
            ));
        }
        if operators > OPERATORS {
            let place = place(cedar, at);
            return Err(format!(
                "has a policy with more than {OPERATORS} operators and brackets {place}; split the policy"
            ));
        }
        before = b;
    }
    Ok(())
}

fn is_if(cedar: &str, at: usize) -> bool {
    let bytes = cedar.as_bytes();
    bytes.get(at + 1) == Some(&b'f') && !bytes.get(at + 2).is_some_and(|b| is_word(*b))
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}
