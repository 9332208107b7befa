//! What may be declared of a role binding.

use legate_wire::registry::RoleBindingSpec;

use super::findings::{Findings, LIST};
use super::selector;

/// The most agents of one binding, and the most people.
const AGENTS: usize = 256;

pub(super) fn check(spec: &RoleBindingSpec, findings: &mut Findings) {
    findings.name("spec.role", &spec.role);
    if spec.agents.is_empty() && spec.groups.is_empty() && spec.users.is_empty() {
        findings.add(
            "spec.agents",
            format!(
                "is empty, and so are spec.groups and spec.users; give 1 to {AGENTS} agents or people, or 1 to {LIST} groups"
            ),
        );
    }
    findings.texts("spec.agents", &spec.agents, AGENTS, Findings::name);
    findings.texts("spec.groups", &spec.groups, LIST, Findings::name);
    findings.texts("spec.users", &spec.users, AGENTS, |findings, path, user| {
        findings.principal(path, user);
    });
    if findings.at_most("spec.resources", spec.resources.len(), LIST) {
        for (n, resource) in spec.resources.iter().enumerate() {
            selector::check(&format!("spec.resources[{n}]"), resource, findings);
        }
    }
    findings.window("spec.", spec.not_before, spec.not_after);
}
