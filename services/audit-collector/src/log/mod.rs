//! The log itself: segments that are the truth, and tiles, bundles and checkpoints made from them.
//!
//! One task ([`engine`]) gives every event its place and syncs a group of them at once; another ([`publisher`]) turns
//! what is synced into tiles and signs checkpoints. [`recover`] reads everything at start and refuses what does not fit.

mod engine;
mod files;
mod key;
mod open;
mod prove;
mod publisher;
mod recover;
mod tiler;

pub(crate) use engine::{Appended, NotAppended, Offer, Own};
pub(crate) use files::read_tile;
pub(crate) use open::{Log, LogTasks, Setup};
pub(crate) use prove::NotProved;
pub(crate) use publisher::Published;
pub(crate) use recover::LogError;
