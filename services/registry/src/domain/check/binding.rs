//! What may be declared of a role binding.

use legate_wire::registry::RoleBindingSpec;

use super::findings::{Findings, LIST};
use super::selector;

/// The most agents of one binding.
const AGENTS: usize = 256;

pub(super) fn check(spec: &RoleBindingSpec, findings: &mut Findings) {
    findings.name("spec.role", &spec.role);
    if spec.agents.is_empty() {
        findings.add("spec.agents", format!("is empty; give 1 to {AGENTS}"));
    }
    findings.texts("spec.agents", &spec.agents, AGENTS, Findings::name);
    if findings.at_most("spec.resources", spec.resources.len(), LIST) {
        for (n, resource) in spec.resources.iter().enumerate() {
            selector::check(&format!("spec.resources[{n}]"), resource, findings);
        }
    }
    findings.window("spec.", spec.not_before, spec.not_after);
}
