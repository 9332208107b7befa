//! The unix socket: its place on disk, its accept loop, its connections.

mod accept;
mod bind;
mod conn;
mod spelling;

pub(crate) use accept::{Pulse, Seat, Seats, accept};
pub(crate) use bind::Bound;
pub use bind::SocketRefused;
pub(crate) use conn::Caller;
