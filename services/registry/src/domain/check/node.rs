//! What may be declared of a node.

use legate_wire::registry::NodeSpec;

use super::findings::{Findings, LIST};
use crate::domain::text::Lines;

pub(super) fn check(spec: &NodeSpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    findings.texts("spec.owners", &spec.owners, LIST, Findings::principal);
}
