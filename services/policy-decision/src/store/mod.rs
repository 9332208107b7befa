//! What the service keeps: compiled policies, proved tokens, and the spool of decision records on disk.

pub(crate) mod archive;
pub(crate) mod library;
pub(crate) mod proved;
pub(crate) mod records;
pub(crate) mod spool;
