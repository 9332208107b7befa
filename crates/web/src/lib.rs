//! The chassis of every HTTPS port, and of those in plaintext on the loopback: bounds, deadlines, traces, metrics, and who is at the other end.
//!
//! Clients are ordinary ones, which know no SPIFFE. What a handler learns of its caller is what the TLS handshake proved
//! ([`Visitor`]); no header is believed about it.

mod door;
mod form;
pub mod json;
mod limits;
mod metrics;
pub mod reach;
mod serve;
mod visitor;

pub use form::decode;
pub use limits::Limits;
pub use serve::{Service, Web, serve, serve_plain};
pub use visitor::Visitor;
