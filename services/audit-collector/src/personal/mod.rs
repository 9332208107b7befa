//! The names of persons that leaves commit to: sealed beside the log, each under a key of its own that can be destroyed.
//!
//! `keys` holds the keys, [`sealed`] what is sealed under them, in the order of the leaves. Both are on disk before a leaf is, so
//! that no acknowledged event lacks its names. Where collectors share a log, both rest in rows beside its leaves: the keys nowhere else,
//! what is sealed also in a copy for those who read.

mod keys;
mod sealed;
mod vault;

pub(crate) use keys::VaultError;
pub(crate) use vault::{Ending, Kept, Opened, Seen, Setup, Unsealed, Vault, records};
