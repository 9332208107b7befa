//! Grammar and ranges of what is declared, all problems at once.

use legate_wire::registry as wire;

use super::problem::Problem;

/// What is wrong with a declared object.
pub(crate) fn check(_declaration: &wire::Declaration) -> Vec<Problem> {
    Vec::new()
}

/// Clears every output-only field.
pub(crate) fn strip_output_only(_declaration: &mut wire::Declaration) {}

/// What is wrong with a key that credential-issuer publishes; paths begin with `signing_key.`.
pub(crate) fn check_signing_key(_spec: &wire::SigningKeySpec) -> Vec<Problem> {
    Vec::new()
}

/// What is wrong with a revocation that credential-issuer publishes; paths begin with `revocation.`.
pub(crate) fn check_revocation(_spec: &wire::RevocationSpec) -> Vec<Problem> {
    Vec::new()
}

/// What is wrong with the reason that a caller gives for a write.
pub(crate) fn check_reason(_reason: &str, _required: bool) -> Vec<Problem> {
    Vec::new()
}
