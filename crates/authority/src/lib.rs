//! Authority as arithmetic: permissions, windows, narrowings and ceilings, which may narrow and never widen, and what operators may do.
//!
//! ```text
//! authority(agent, now) = (class permissions ∪ bindings whose window holds now, narrowed) ∩ every ceiling
//! ```
//! Resource ids are compared byte for byte: nothing is normalised, so the NFC and NFD spellings of a name are two
//! ids, and a grant on one says nothing about the other. What a reader could not tell apart by eye (control,
//! zero-width and direction-changing characters) is refused when the id is parsed, in `legate_ids`.
//! Type, id and action are never joined into one text, so no delimiter inside one can reach into another.
#![no_std]

extern crate alloc;

mod consent;
mod decide;
mod hours;
mod link;
mod operators;
mod pass_on;
mod permission;
mod selector;
mod window;

pub use consent::{Agreed, Consent};
pub use decide::{Answer, Denial, Grant, decide};
pub use hours::{BadHours, Hours, Week};
pub use link::{Beyond, Cut, Link, Loose, MAX_DEPTH, carried, joined, within};
pub use operators::{Appointment, OperatorRole, Place, Reach, Right, Rights};
pub use pass_on::{TooWide, may_pass_on};
pub use permission::{Ceiling, Permission};
pub use selector::{Attributes, BadSelector, Request, ResourceSelector, TypePattern};
pub use window::{BadWindow, Micros, Window};
