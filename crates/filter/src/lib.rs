//! Filters: which agents are meant, in a small part of the language of AIP-160, parsed once and asked of each agent.
//!
//! ```text
//! filter     = factor { "AND" factor }
//! factor     = term { "OR" term }                    OR binds more tightly than AND (google.aip.dev/160)
//! term       = [ "NOT" | "-" ] ( "(" filter ")" | comparison )
//! comparison = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | ":" ) value
//! field      = NAME | "labels" "." KEY               `labels:KEY` asks whether there is a label of this key
//! value      = "*" | WORD [ "*" ] | '"' text [ "*" ] '"'
//! ```
//! `FIELD:*` asks whether the field is set. A text that ends in `*` stands for every text that begins so; `\*`, `\"` and
//! `\\` in quotes stand for the sign itself. Every comparison is true or false, never in between: a field that is not set
//! is equal to nothing, and `a != b` is `NOT a = b`. What cannot be true of any agent (an unknown field, a word that is
//! no state) is refused, so that a misspelt filter does not quietly mean nobody, or, behind a `NOT`, everybody.
#![no_std]

extern crate alloc;

mod error;
mod event_field;
mod field;
mod filter;
mod parse;
mod scan;
mod show;
mod subject;

#[cfg(test)]
mod samples;

pub use error::BadFilter;
pub use event_field::EventField;
pub use field::{Field, Form, Scope};
pub use filter::{Filter, Node, Order, Term, Test};
pub use subject::Subject;

/// Unix time in microseconds.
pub type Micros = i64;

/// The longest filter, in bytes.
pub const LONGEST: usize = 2_048;
/// How deep parentheses may be.
pub const DEEPEST: usize = 16;
/// The most comparisons of one filter.
pub const MOST_TERMS: usize = 64;
