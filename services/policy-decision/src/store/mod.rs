//! What the service keeps: compiled policies, proved tokens, and the spool of decision records on disk.

pub(crate) mod library;
pub(crate) mod proved;
pub(crate) mod spool;
