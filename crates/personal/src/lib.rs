//! Persons in audit events: their names are cut out of an event before it is logged, committed to, and put back where they are not erased.
//!
//! A leaf of the log says `user:#1` where its event named a person, and commits to the name by SHA-256(salt || name). The name travels
//! beside the leaf and rests sealed, so that it can be erased while the leaf, and every proof of it, stays what it is.

mod mark;
mod request;
mod texts;

use legate_wire::audit::{AuditEvent, PersonalPart};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

pub use mark::{is_person, may_name};
pub use request::request;

/// What stands in an event where a name was erased.
pub const ERASED: &str = "erased";

/// The largest event as a leaf, in bytes.
pub const LARGEST: usize = 60 * 1_024;

/// The most persons of one event whose names are kept; of others nothing is.
pub const MOST: usize = 256;

/// The longest name, `user:` included, in bytes.
pub const LONGEST: usize = 512;

/// An event as it is logged, and the names that it commits to.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// The event without names.
    pub event: AuditEvent,
    /// One part for each commitment, in order.
    pub parts: Vec<PersonalPart>,
}

/// Cuts the names of persons out of an event; each salt is asked for once. An event without any comes back as it is.
#[must_use]
pub fn split(mut event: AuditEvent, mut salt: impl FnMut() -> [u8; 32]) -> Split {
    // Nobody but this function says what an event commits to.
    event.personal.clear();
    let mut names: Vec<String> = Vec::new();
    let known = texts::wholes(&event);
    texts::each(&mut event, |text, is_whole| {
        *text = mark::cut(text, is_whole, &known, |name| match names.iter().position(|one| one == name) {
            Some(at) => Some(at + 1),
            None if names.len() >= MOST => None,
            None => {
                names.push(name.to_owned());
                Some(names.len())
            }
        });
    });
    let parts: Vec<PersonalPart> = names.into_iter().map(|name| PersonalPart { salt: salt().to_vec(), name }).collect();
    event.personal = parts.iter().map(|part| commitment(&part.salt, &part.name).to_vec()).collect();
    if !parts.is_empty() {
        shorten(&mut event);
    }
    Split { event, parts }
}

/// Commitments make an event longer: one that was near the bound loses the end of its longest text.
fn shorten(event: &mut AuditEvent) {
    for _ in 0..32 {
        if event.encoded_len() <= LARGEST {
            return;
        }
        let longest = event.details.values_mut().chain([&mut event.reason]).max_by_key(|text| text.len());
        let Some(text) = longest else { return };
        let end = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('\u{2026}');
    }
}

/// What a leaf holds of a name: SHA-256(salt || name).
#[must_use]
pub fn commitment(salt: &[u8], name: &str) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(name).finalize().into()
}

/// Why parts are not those that an event commits to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPart {
    /// There are more or fewer parts than commitments.
    #[error("the event commits to {commitments} names, and {parts} come with it")]
    Count {
        /// What the event says.
        commitments: usize,
        /// What comes with it.
        parts: usize,
    },
    /// More than there may be.
    #[error("the event commits to {0} names, and 256 are the bound")]
    Many(usize),
    /// A salt or a name that is none.
    #[error("part {0} has no salt of 32 bytes, or no name `user:NAME` of at most 512 bytes")]
    Form(usize),
    /// Another name than the event commits to.
    #[error("part {0} is not what the event commits to")]
    Other(usize),
}

/// Checks that parts are what an event commits to. An erased part, which has neither salt nor name, is good where `may_be_erased`.
///
/// # Errors
/// [`BadPart`] says which is not.
pub fn check(event: &AuditEvent, parts: &[PersonalPart], may_be_erased: bool) -> Result<(), BadPart> {
    let commitments = event.personal.len();
    if commitments > MOST {
        return Err(BadPart::Many(commitments));
    }
    if commitments != parts.len() {
        return Err(BadPart::Count { commitments, parts: parts.len() });
    }
    for (at, (wanted, part)) in event.personal.iter().zip(parts).enumerate() {
        if may_be_erased && is_erased(part) {
            continue;
        }
        if part.salt.len() != 32 || part.name.len() > LONGEST || !mark::is_person(&part.name) {
            return Err(BadPart::Form(at));
        }
        if commitment(&part.salt, &part.name).as_slice() != wanted.as_slice() {
            return Err(BadPart::Other(at));
        }
    }
    Ok(())
}

/// Whether nothing is left of a part.
#[must_use]
pub fn is_erased(part: &PersonalPart) -> bool {
    part.salt.is_empty() && part.name.is_empty()
}

/// The event with its names put back; where one is erased, it says so.
#[must_use]
pub fn shown(mut event: AuditEvent, parts: &[PersonalPart]) -> AuditEvent {
    if !parts.is_empty() {
        let name = |number: usize| {
            let part = parts.get(number.checked_sub(1)?)?;
            Some(if is_erased(part) { ERASED } else { part.name.as_str() })
        };
        texts::each(&mut event, |text, _| {
            if let Some(whole) = mark::put_back(text, name) {
                *text = whole;
            }
        });
    }
    event
}

/// A text of an event with each name of a person replaced by what `other` says; `None` where it names none. `is_whole`: a name is all
/// of it where it begins as one.
#[must_use]
pub fn renamed(text: &str, is_whole: bool, other: impl Fn(&str) -> String) -> Option<String> {
    let mut names = Vec::new();
    let cut = mark::cut(text, is_whole, &[], |name| {
        names.push(other(name));
        Some(names.len())
    });
    mark::put_back(&cut, |number| names.get(number.checked_sub(1)?).map(String::as_str))
}

/// Whether an event says a person's name in the clear.
#[must_use]
pub fn is_in_the_clear(event: &AuditEvent) -> bool {
    let mut found = false;
    let mut event = event.clone();
    let placeholders = event.personal.len();
    let known = texts::wholes(&event);
    texts::each(&mut event, |text, is_whole| {
        mark::cut(text, is_whole, &known, |name| {
            let number = name.strip_prefix("user:#").and_then(|n| n.parse::<usize>().ok());
            found |= name != mark::LEFT_OUT && number.is_none_or(|n| n == 0 || n > placeholders);
            None
        });
    });
    found
}

#[cfg(test)]
mod tests;
