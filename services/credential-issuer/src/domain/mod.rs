//! What is decided without clock, network or disk: who may hold what, from when, until when.

pub(crate) mod attested;
pub(crate) mod certificate;
pub(crate) mod csr;
pub(crate) mod cutoff;
pub(crate) mod foreign;
pub(crate) mod health;
pub(crate) mod holder;
pub(crate) mod instance;
pub(crate) mod keyring;
pub(crate) mod login;
pub(crate) mod secret;
pub(crate) mod status_list;
pub(crate) mod svid;
pub(crate) mod token;
pub(crate) mod whom;
