//! The rows, by aggregate; each function runs in the caller's transaction.

pub(crate) mod backchannel;
mod batches;
pub(crate) mod client;
pub(crate) mod credential;
pub(crate) mod ended;
pub(crate) mod enrolment;
pub(crate) mod federated_bundle;
pub(crate) mod instance;
pub(crate) mod key;
pub(crate) mod node_request;
pub(crate) mod once;
pub(crate) mod pending;
pub(crate) mod recorded;
pub(crate) mod revoked_token;
pub(crate) mod signing_key;
pub(crate) mod status_list;
pub(crate) mod used_token;

pub(crate) use batches::{Batches, Keys, KeysOf, PlaceOf};
pub(crate) use once::Once;
pub(crate) use recorded::{Proof, Recorded, RecordedToken, Works};
