//! What agents may do before and after a change, compared permission by permission.
//!
//! A permission is asked about as a question is: by a resource that stands for its selector, with nothing stated but the
//! selector's attributes. What a policy looks at beyond that is left out of it ([`weaken`]); where the answer hangs on such
//! a policy, it is said to depend.

pub(crate) mod behalf;
pub(crate) mod cells;
pub(crate) mod compare;
pub(crate) mod fitting;
pub(crate) mod limits;
pub(crate) mod outlook;
pub(crate) mod touched;
pub(crate) mod weaken;
