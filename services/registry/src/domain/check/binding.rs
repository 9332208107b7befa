//! What may be declared of a role binding.

use legate_wire::registry::RoleBindingSpec;

use super::findings::{Findings, LIST};
use super::selector;

/// The most agents of one binding, and the most people.
const AGENTS: usize = 256;
/// The most agents of its groups that one binding excepts.
pub(crate) const EXCEPTED: usize = 1_024;

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
    findings.texts("spec.except_agents", &spec.except_agents, EXCEPTED, |findings, path, agent| {
        findings.name(path, agent);
        if spec.agents.iter().any(|named| named == agent) {
            findings.add(path, "is named by spec.agents too; give it in one of them");
        }
    });
    if spec.groups.is_empty() && !spec.except_agents.is_empty() {
        findings.add("spec.except_agents", "is given, and there are no spec.groups to except anybody of");
    }
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
