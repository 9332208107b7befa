//! What in the log does not fit together: found leaf by leaf, by fixed rules, the same whenever it is looked at.
//!
//! What a rule says depends on leaves alone. Its clock is the collector's own events: nobody else's time moves it, so that a service
//! whose clock is ahead makes nothing late. What may still come is waited for by that clock.

pub(crate) mod alert;
pub(crate) mod evidence;
pub(crate) mod fact;
mod habit;
mod judge;
mod machine;
pub(crate) mod memory;
mod replica;
mod sequence;

pub(crate) use judge::{Edge, Verdict};
pub(crate) use machine::{Step, detect};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// An executed action is judged no earlier than this after the collector's first own event behind it.
pub(crate) const GRACE: i64 = 15 * SECOND;

/// What is missing is waited for so long, unless whoever would tell it has told later things.
pub(crate) const PATIENCE: i64 = 10 * MINUTE;

/// A credential is remembered for so long after its end: what was done with it may be told late.
pub(crate) const KEEP: i64 = 7 * 24 * HOUR;

/// A decision allows what is done so long after it.
pub(crate) const WINDOW: i64 = 10 * MINUTE;

/// What clocks of different machines differ by without anything being wrong, and how long a revocation takes to be heard of.
pub(crate) const TOLERANCE: i64 = 5 * SECOND;

/// A service that tells that it lives, each minute and by something else or by that, and told nothing for so long is silent.
pub(crate) const SILENCE: i64 = 5 * MINUTE;

/// The collector's own events come each minute while it listens. Where none came for so long it was not there itself, and of others it
/// knows nothing.
pub(crate) const AWAY: i64 = 3 * MINUTE;

/// Clocks that differ by more are wrong.
pub(crate) const SKEW: i64 = MINUTE;
