//! What the index holds of decisions about an executed action; the rules look at no more of it than the log held at a leaf.

use std::collections::{BTreeMap, BTreeSet};

/// A decision that may have allowed or denied an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) leaf: u64,
    pub(crate) time: i64,
    pub(crate) is_allowed: bool,
    /// The leaf that says that it was not said after all.
    pub(crate) withdrawn: Option<u64>,
    pub(crate) agent: String,
    pub(crate) action: String,
    pub(crate) resource_type: String,
    pub(crate) resource_id: String,
    /// Which links of the action's chain are in the decision's.
    pub(crate) chain: BTreeSet<String>,
}

/// Decisions, by the leaf of the action that they are about.
pub(crate) type Evidence = BTreeMap<u64, Vec<Decision>>;
