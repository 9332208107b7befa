//! The rows, by aggregate; each function runs in the caller's transaction.

pub(crate) mod backchannel;
mod batches;
pub(crate) mod client;
pub(crate) mod credential;
pub(crate) mod enrolment;
pub(crate) mod instance;
pub(crate) mod key;
pub(crate) mod once;
pub(crate) mod pending;
pub(crate) mod recorded;
pub(crate) mod revoked_token;
pub(crate) mod signing_key;
mod together;
pub(crate) mod used_token;

pub(crate) use batches::Batches;
pub(crate) use recorded::{Proof, Recorded, RecordedToken};
