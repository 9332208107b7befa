//! What the service keeps: compiled policies, and the spool of decision records on disk.

pub(crate) mod archive;
pub(crate) mod library;
pub(crate) mod records;
pub(crate) mod reviews;
pub(crate) mod spool;
pub(crate) mod tally;
pub(crate) mod uses;
