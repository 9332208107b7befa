//! What may be declared of a role.

use legate_wire::registry::RoleSpec;

use super::findings::Findings;
use super::selector;
use crate::domain::text::Lines;

pub(super) fn check(spec: &RoleSpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    if spec.permissions.is_empty() {
        findings.add("spec.permissions", "is empty; give 1 to 256");
    }
    selector::permissions("spec.permissions", &spec.permissions, findings, selector::is_pattern);
}
