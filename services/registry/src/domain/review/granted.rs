//! What a declared object gives to an agent.

use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Permission, ResourceSelector};

/// From when on, and until when; open where nothing is said.
pub(crate) type Span = (Option<prost_types::Timestamp>, Option<prost_types::Timestamp>);

/// What a role, a class or a grant gives.
pub(crate) fn permissions_of(declaration: Option<&Declaration>) -> Vec<Permission> {
    match declaration.and_then(|declaration| declaration.object.as_ref()) {
        Some(Object::Role(role)) => role.spec.as_ref().map(|spec| spec.permissions.clone()),
        Some(Object::AgentClass(class)) => class.spec.as_ref().map(|spec| spec.permissions.clone()),
        Some(Object::DelegationGrant(grant)) => grant.spec.as_ref().map(|spec| spec.permissions.clone()),
        _ => None,
    }
    .unwrap_or_default()
}

/// From when on, and until when, a binding gives its role.
pub(crate) fn window_of(declaration: Option<&Declaration>) -> Span {
    match declaration.and_then(|declaration| declaration.object.as_ref()) {
        Some(Object::RoleBinding(binding)) => binding.spec.as_ref().map(|spec| (spec.not_before, spec.not_after)),
        _ => None,
    }
    .unwrap_or_default()
}

/// What a binding narrows its role to.
pub(crate) fn resources_of(declaration: Option<&Declaration>) -> Vec<ResourceSelector> {
    match declaration.and_then(|declaration| declaration.object.as_ref()) {
        Some(Object::RoleBinding(binding)) => binding.spec.as_ref().map(|spec| spec.resources.clone()),
        _ => None,
    }
    .unwrap_or_default()
}
