//! What may be declared of a namespace.

use std::time::Duration;

use legate_authority::MAX_DEPTH;
use legate_cedar::Declared;
use legate_wire::registry::{NamespaceSpec, PersonalAuthority};

use super::findings::{Findings, LIST};
use crate::domain::approval::{LONGEST, SHORTEST};
use crate::domain::lineage::{DEEPEST, MOST_CHILDREN};
use crate::domain::succession::LONGEST_GRACE;
use crate::domain::text::{Lines, hidden};
use crate::error::POLICY_SCHEMA_INVALID;

pub(super) fn check(spec: &NamespaceSpec, findings: &mut Findings) {
    findings.text("spec.display_name", &spec.display_name, Lines::One);
    findings.text("spec.description", &spec.description, Lines::Many);
    findings.texts("spec.owners", &spec.owners, LIST, Findings::principal);
    findings.texts("spec.pipelines", &spec.pipelines, LIST, Findings::name);
    let words = "0 to 90 days";
    findings.span("spec.orphan_grace", spec.orphan_grace, Duration::ZERO..=LONGEST_GRACE, words);
    let range = SHORTEST..=LONGEST;
    findings.span("spec.max_approval_duration", spec.max_approval_duration, range, "1 minute to 24 hours");
    for (path, value, most) in [
        ("spec.max_spawn_depth", spec.max_spawn_depth, DEEPEST),
        ("spec.max_children", spec.max_children, MOST_CHILDREN),
        ("spec.max_delegation_depth", spec.max_delegation_depth, MAX_DEPTH),
    ] {
        if value > most {
            findings.add(path, format!("is {value}; give 0 to {most}"));
        }
    }
    findings.choice::<PersonalAuthority>(
        "spec.personal_authority",
        spec.personal_authority,
        false,
        "PERSONAL_AUTHORITY_BOUND or PERSONAL_AUTHORITY_GRANTED",
    );
    if !spec.policy_schema.is_empty() {
        let why = hidden(&spec.policy_schema, |c| matches!(c, '\n' | '\r' | '\t'));
        if let Some(why) = why.or_else(|| Declared::parse(&spec.policy_schema).err().map(|e| e.to_string())) {
            findings.add_for(&POLICY_SCHEMA_INVALID, "spec.policy_schema", why);
        }
    }
}
