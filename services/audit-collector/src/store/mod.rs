//! The rows of the index; each function runs in the caller's transaction.

pub(crate) mod alert;
pub(crate) mod batch;
pub(crate) mod condition;
pub(crate) mod custody;
pub(crate) mod detect;
pub(crate) mod event;
mod evidence;
pub(crate) mod executed;
pub(crate) mod head;
pub(crate) mod hold;
pub(crate) mod link;
pub(crate) mod made_by;
pub(crate) mod numbered;
pub(crate) mod posting;
pub(crate) mod remembered;
pub(crate) mod roles;
pub(crate) mod search;
pub(crate) mod stretch;
pub(crate) mod told;
pub(crate) mod usage;
pub(crate) mod walk;
