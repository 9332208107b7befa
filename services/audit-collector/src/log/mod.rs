//! The log itself: segments that are the truth, and tiles, bundles and checkpoints made from them.
//!
//! One task ([`engine`]) gives every event its place and syncs a group of them at once; another ([`publisher`]) turns
//! what is synced into tiles and signs checkpoints. [`recover`] reads everything at start and refuses what does not fit; [`rotate`] lets another
//! key sign from then on, where one waits.
//! Where collectors share a log, rows in PostgreSQL are the truth ([`truth`]), and the segments a [`copy`] of them for those who read.

mod copy;
mod engine;
mod files;
mod key;
mod open;
mod own;
mod prove;
mod publisher;
mod recover;
mod rotate;
mod shelf;
#[cfg(test)]
pub(crate) mod tests;
mod tiler;
mod truth;
mod waiting;

pub(crate) use copy::{Copy, Ground};
pub(crate) use engine::{Appended, NotAppended, Offer};
pub(crate) use files::{Files, read_tile};
pub(crate) use key::prepare as prepare_key;
pub(crate) use open::{Log, LogTasks, Setup};
pub(crate) use own::Own;
pub(crate) use prove::{Consistency, Inclusion, NotProved, Rotated, Signed};
pub(crate) use publisher::Published;
pub(crate) use recover::LogError;
