//! Legate's own world in Cedar's words, and whether a policy speaks of that world.
//!
//! Two things are known of a question. What Legate gives it itself (the agent and all that it is in) has a schema that never
//! changes: [`world`]. What callers state (the resource, its attributes, the context) has one where a namespace declares it:
//! [`Declared`]. By both a policy is validated strictly, and questions are held against what is declared, so that what is proved of the
//! policies holds of every question that they decide. Without a declared schema a policy is validated by what Legate gives alone.

#[cfg(feature = "analyze")]
pub mod analyze;
mod closed;
mod declared;
mod extent;
mod open;
mod printed;
mod read;
mod rules;
mod valid;
mod walk;
mod world;

pub use cedar_policy::PolicySet;
pub use closed::{Unproved, closed};
pub use declared::{Applies, BadSchema, Declared, Field, Fields, MOST_ENVIRONMENTS, Type};
pub use printed::{as_json, as_text};
pub use read::{Finding, joined, parse, place};
pub use valid::{Spoken, validate};
pub use walk::label_keys;
pub use world::{ATTRIBUTES, is_reserved, world};
