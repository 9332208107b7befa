//! Everything of one kind in a namespace, for what is done seldom: explanations and searches.

use std::sync::Arc;

use legate_authority::Request;

use super::Snapshot;
use crate::record::{AgentClass, Role, RoleBinding};

impl Snapshot {
    /// The roles of a namespace, in no order.
    pub fn roles_of_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Role>> {
        self.roles.values().filter(move |role| role.label.namespace.as_str() == namespace)
    }

    /// Every binding that gives a role, in no order.
    pub fn bindings_of_role<'a>(&'a self, role: &'a Role) -> impl Iterator<Item = &'a Arc<RoleBinding>> {
        let is_its = |binding: &&Arc<RoleBinding>| {
            binding.role == role.label.name && binding.label.namespace == role.label.namespace
        };
        self.bindings.values().filter(is_its)
    }

    /// Every class that has a permission for what is asked, in no order.
    pub fn classes_with<'a, 'r>(
        &'a self,
        request: &'r Request<'r>,
    ) -> impl Iterator<Item = &'a Arc<AgentClass>> + use<'a, 'r> {
        self.classes.values().filter(move |class| class.permissions.iter().any(|p| p.covers(request)))
    }

    /// Every binding that gives a role with a permission for what is asked, whatever its window and resources, in no order.
    pub fn bindings_with<'a, 'r>(
        &'a self,
        request: &'r Request<'r>,
    ) -> impl Iterator<Item = &'a Arc<RoleBinding>> + use<'a, 'r> {
        self.bindings.values().filter(move |binding| {
            let role = self.role(binding.label.namespace.as_str(), binding.role.as_str());
            role.is_some_and(|role| role.permissions.iter().any(|p| p.covers(request)))
        })
    }
}
