//! What an event must be and whose turn it is: no clock, no network, no disk.

pub(crate) mod attested;
pub(crate) mod detect;
pub(crate) mod digest;
pub(crate) mod entry;
pub(crate) mod event;
pub(crate) mod otlp;
pub(crate) mod posting;
pub(crate) mod producers;
pub(crate) mod question;
pub(crate) mod quota;
pub(crate) mod retention;
pub(crate) mod teller;
pub(crate) mod text;
