//! The node's half of the SPIFFE Workload API: who is at the other end of a unix socket, and what it is given.
//!
//! A process proves itself by being what it is; the kernel says what that is ([`Attestor`]), credential-issuer told this node which
//! attestation policies believe it, and issues what they entitle to. Keys of processes are made here, and are in memory and nowhere
//! else.

mod api;
mod attest;
mod broker;
mod claims;
mod error;
mod follow;
mod issuer;
mod keeper;
mod knowledge;
mod meter;
mod moment;
mod node;
mod sds;
mod serve;
mod shown;
mod socket;
mod stream;
mod turns;

pub use attest::{Attested, Attestor, Peer, ProcessKey, TokenPlace, TokenSource, Unseen};
pub use error::REASONS;
pub use meter::Meter;
pub use node::{NoIdentity, Node, Proof};
pub use serve::{BrokerSocket, Limits, Serving, Settings, Standing, start};
pub use socket::SocketRefused;
