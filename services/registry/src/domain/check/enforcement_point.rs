//! What may be declared of an enforcement point.

use legate_ids::ResourceType;
use legate_wire::registry::EnforcementPointSpec;

use super::findings::{Findings, LIST};

use super::{selector, uri};
use crate::domain::text::{Lines, quoted};

/// The most audiences of one enforcement point.
const AUDIENCES: usize = 16;

pub(super) fn check(spec: &EnforcementPointSpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    findings.texts("spec.resource_types", &spec.resource_types, LIST, |findings, path, value| {
        if let Err(e) = ResourceType::parse(value) {
            findings.add(path, format!("{} is refused: {e}", quoted(value)));
        } else if legate_cedar::is_reserved(value) {
            findings
                .add(path, format!("{value} is a word of Legate's own in policies, and no resource is of that type"));
        }
    });
    findings.texts("spec.audiences", &spec.audiences, AUDIENCES, |findings, path, value| {
        if let Some(why) = uri::fault_in(value) {
            findings.add(path, why);
        }
    });
    findings.texts("spec.durable_actions", &spec.durable_actions, LIST, |findings, path, value| {
        if let Err(why) = selector::is_pattern(value) {
            findings.add(path, format!("{} is refused: {why}", quoted(value)));
        }
    });
}
