//! What may be declared of a group.

use legate_filter::{Filter, Scope};
use legate_wire::registry::GroupSpec;

use super::findings::Findings;
use crate::domain::text::{self, Lines};

/// The most agents that a group lists.
const AGENTS: usize = 1_024;

pub(super) fn check(spec: &GroupSpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    if spec.agents.is_empty() && spec.selector.trim().is_empty() {
        findings
            .add("spec.agents", format!("is empty, and so is spec.selector; list 1 to {AGENTS} agents or select some"));
    }
    findings.texts("spec.agents", &spec.agents, AGENTS, Findings::name);
    if spec.selector.is_empty() {
        return;
    }
    if let Some(why) = text::fault_in(&spec.selector, legate_filter::LONGEST, Lines::Many) {
        findings.add("spec.selector", why);
    } else if let Err(e) = Filter::parse(&spec.selector, Scope::Selector) {
        findings.add("spec.selector", format!("is refused: {e}"));
    }
}
