//! What may be declared of an operator binding.

use legate_wire::registry::{OperatorBindingSpec, OperatorRole};

use super::findings::{Findings, LIST};

pub(super) fn check(spec: &OperatorBindingSpec, findings: &mut Findings) {
    if spec.operators.is_empty() {
        findings.add("spec.operators", format!("is empty; give 1 to {LIST}"));
    }
    findings.texts("spec.operators", &spec.operators, LIST, Findings::name);
    let roles = "OPERATOR_ROLE_VIEWER, OPERATOR_ROLE_EDITOR, OPERATOR_ROLE_APPROVER, OPERATOR_ROLE_ADMIN or \
        OPERATOR_ROLE_BREAK_GLASS";
    findings.choice::<OperatorRole>("spec.role", spec.role, true, roles);
    findings.window("spec.", spec.not_before, spec.not_after);
}
