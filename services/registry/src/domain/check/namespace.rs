//! What may be declared of a namespace.

use legate_wire::registry::NamespaceSpec;

use super::findings::{Findings, LIST};
use crate::domain::text::Lines;

pub(super) fn check(spec: &NamespaceSpec, findings: &mut Findings) {
    findings.text("spec.display_name", &spec.display_name, Lines::One);
    findings.text("spec.description", &spec.description, Lines::Many);
    findings.texts("spec.owners", &spec.owners, LIST, Findings::principal);
}
