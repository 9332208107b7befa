//! Forbids that speak of an action whatever it is done to: no condition, and no single resource could let one through.

use std::collections::BTreeSet;

use cedar_policy::{ActionConstraint, EntityTypeName, Policy, PrincipalConstraint, ResourceConstraint};
use legate_ids::ActionPattern;

use super::action_groups::ActionGroups;
use super::scope::{Who, forbids};

/// Such a forbid, with its scope read once.
#[derive(Clone, Debug)]
pub(crate) struct Sweeping {
    rule: Policy,
    /// `None`: whatever is done.
    actions: Option<BTreeSet<String>>,
    /// `None`: to resources of every type.
    kind: Option<EntityTypeName>,
}

impl Sweeping {
    /// The policy, where it is one.
    pub(crate) fn of(rule: &Policy) -> Option<Self> {
        if !forbids(rule) || rule.has_non_scope_constraint() {
            return None;
        }
        let kind = match rule.resource_constraint() {
            ResourceConstraint::Any => None,
            ResourceConstraint::Is(kind) => Some(kind),
            ResourceConstraint::Eq(_) | ResourceConstraint::In(_) | ResourceConstraint::IsIn(..) => return None,
        };
        let actions = match rule.action_constraint() {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(uid) => Some(BTreeSet::from([uid])),
            ActionConstraint::In(uids) => Some(uids.into_iter().collect()),
        };
        let actions = actions.map(|uids| uids.iter().map(|uid| uid.id().unescaped().to_owned()).collect());
        Some(Self { rule: rule.clone(), actions, kind })
    }

    /// The policy itself.
    pub(crate) fn rule(&self) -> &Policy {
        &self.rule
    }

    /// Whether it speaks of `who`.
    pub(crate) fn is_to(&self, who: &Who) -> bool {
        match self.rule.principal_constraint() {
            PrincipalConstraint::Any => true,
            PrincipalConstraint::Is(name) => name == who.kind,
            PrincipalConstraint::Eq(uid) => who.uids.first() == Some(&uid),
            PrincipalConstraint::In(uid) => who.uids.contains(&uid),
            PrincipalConstraint::IsIn(name, uid) => name == who.kind && who.uids.contains(&uid),
        }
    }

    /// Whether it speaks of all that `action` stands for, on every resource of the type; `None`: of every type.
    pub(crate) fn is_of(&self, groups: &ActionGroups, action: &ActionPattern, kind: Option<&EntityTypeName>) -> bool {
        let is_action = match &self.actions {
            None => true,
            // A pattern stands for more than can be named one by one.
            Some(_) if action.is_wildcard() => false,
            Some(named) => {
                let above = groups.above(action.as_str());
                named.contains(action.as_str()) || above.iter().any(|group| named.contains(group.id().unescaped()))
            }
        };
        is_action && (self.kind.is_none() || self.kind.as_ref() == kind)
    }
}
