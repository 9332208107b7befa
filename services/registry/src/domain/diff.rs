//! What differs between two versions of an object, field by field.

use legate_wire::registry as wire;

/// The fields that differ, without those that are output only.
pub(crate) fn diff(_before: Option<&wire::Declaration>, _after: &wire::Declaration) -> Vec<wire::FieldChange> {
    Vec::new()
}
