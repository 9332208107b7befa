//! The log over real files: order, idempotence, recovery, refusal, and what an auditor finds in its directory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;
mod killed;
mod names;
mod order;
mod pace;
mod recovery;
mod rotation;
mod rows;
pub(crate) mod scene;
