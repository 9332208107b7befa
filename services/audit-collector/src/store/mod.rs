//! The rows of the index; each function runs in the caller's transaction.

pub(crate) mod event;
pub(crate) mod head;
