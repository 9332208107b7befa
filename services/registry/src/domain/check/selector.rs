//! Permissions and the resources that they are about.

use legate_authority::BadSelector;
use legate_ids::ActionPattern;
use legate_wire::registry::{Permission, ResourceSelector};

use super::findings::Findings;
use crate::domain::text::{hidden, quoted};

/// The most permissions of a class, a ceiling or a role.
const PERMISSIONS: usize = 256;

/// Permissions, of which `is_action` judges the action.
pub(super) fn permissions(
    path: &str,
    permissions: &[Permission],
    findings: &mut Findings,
    is_action: impl Fn(&str) -> Result<(), String>,
) {
    if !findings.at_most(path, permissions.len(), PERMISSIONS) {
        return;
    }
    for (n, permission) in permissions.iter().enumerate() {
        if let Err(why) = is_action(&permission.action) {
            findings.add(format!("{path}[{n}].action"), format!("{} is refused: {why}", quoted(&permission.action)));
        }
        let path = format!("{path}[{n}].resource");
        findings.present(&path, permission.resource.as_ref(), |resource, findings| check(&path, resource, findings));
    }
}

/// Whether a text is an action or a pattern of actions.
pub(super) fn is_pattern(action: &str) -> Result<(), String> {
    ActionPattern::parse(action).map(|_| ()).map_err(|e| e.to_string())
}

/// A selector, as a decision will read it.
pub(super) fn check(path: &str, selector: &ResourceSelector, findings: &mut Findings) {
    // permission.proto: an empty id means `*`.
    let id = if selector.id.is_empty() { "*" } else { &selector.id };
    // One part at a time, since the parser names only the first that is wrong.
    let no_attributes = || std::iter::empty::<(String, String)>();
    let parse = |kind: &str, id: &str| legate_authority::ResourceSelector::parse(kind, id, no_attributes()).err();
    let type_fault = parse(&selector.r#type, "*").map(|e| ("type", selector.r#type.as_str(), e));
    let id_fault = parse("*", id).map(|e| ("id", id, e));
    for (field, value, e) in type_fault.into_iter().chain(id_fault) {
        findings.add(format!("{path}.{field}"), format!("{} is refused: {e}", quoted(value)));
    }
    let parsed = legate_authority::ResourceSelector::parse("*", "*", &selector.attributes);
    if let Err(e @ BadSelector::Attributes) = parsed {
        findings.add(format!("{path}.attributes"), e.to_string());
    } else {
        for (name, value) in &selector.attributes {
            if let Some(why) = hidden(name, |_| false).or_else(|| hidden(value, |_| false)) {
                findings.add(format!("{path}.attributes"), format!("{} {why}", quoted(name)));
            }
        }
    }
}
