//! What may be declared of a group.

use legate_wire::registry::GroupSpec;

use super::findings::Findings;
use crate::domain::text::Lines;

/// The most agents that a group lists.
const AGENTS: usize = 1_024;
/// The longest selector, in bytes.
const SELECTOR: usize = 2_048;

pub(super) fn check(spec: &GroupSpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    if spec.agents.is_empty() && spec.selector.trim().is_empty() {
        findings
            .add("spec.agents", format!("is empty, and so is spec.selector; list 1 to {AGENTS} agents or select some"));
    }
    findings.texts("spec.agents", &spec.agents, AGENTS, Findings::name);
    findings.text_within("spec.selector", &spec.selector, SELECTOR, Lines::Many);
}
