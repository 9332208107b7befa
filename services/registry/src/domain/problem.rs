//! What is wrong with a request, all of it at once.

use legate_rpc::{INVALID_ARGUMENT, Reason};

/// One thing that is wrong with a request: field path, why, and the stable reason it falls under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The field, such as `spec.permissions[3].action`.
    pub(crate) path: String,
    /// What is wrong with it and what would be right.
    pub(crate) why: String,
    /// The reason.
    pub(crate) reason: &'static Reason,
}

impl Problem {
    /// A field that breaks its grammar or range (`INVALID_ARGUMENT`).
    pub(crate) fn invalid(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self::of(&INVALID_ARGUMENT, path, why)
    }

    /// A field that is wrong for a reason of its own.
    pub(crate) fn of(reason: &'static Reason, path: impl Into<String>, why: impl Into<String>) -> Self {
        Self { path: path.into(), why: why.into(), reason }
    }
}
