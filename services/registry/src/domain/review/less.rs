//! Whether a write of what gives agents something can have given nobody more than the version before it: who wrote that gave nothing.

use legate_authority::Permission;
use legate_wire::registry as wire;
use wire::Declaration;
use wire::declaration::Object;

use super::changes::{are_within, window};
use crate::domain::delegation::permission;

/// Whether one version of an object gives nobody more than another did, as far as that can be told: whatever else is said otherwise may give more.
/// Of agents nothing is told: which groups they belong to hangs on all that is declared of them.
pub(crate) fn is_only_less(was: &Declaration, now: &Declaration) -> bool {
    let (Some(was), Some(now)) = (&was.object, &now.object) else { return false };
    match (was, now) {
        (Object::Role(was), Object::Role(now)) => {
            let (was, mut now) = (was.spec.clone().unwrap_or_default(), now.spec.clone().unwrap_or_default());
            let is_less = are_less(&now.permissions, &was.permissions);
            now.permissions.clone_from(&was.permissions);
            now.description.clone_from(&was.description);
            is_less && now == was
        }
        (Object::AgentClass(was), Object::AgentClass(now)) => {
            let (was, mut now) = (was.spec.clone().unwrap_or_default(), now.spec.clone().unwrap_or_default());
            // A ceiling without entries cuts nothing.
            let is_lower = was.ceiling.is_empty() || (!now.ceiling.is_empty() && are_less(&now.ceiling, &was.ceiling));
            let is_less = is_lower && are_less(&now.permissions, &was.permissions);
            now.permissions.clone_from(&was.permissions);
            now.ceiling.clone_from(&was.ceiling);
            now.description.clone_from(&was.description);
            is_less && now == was
        }
        (Object::DelegationGrant(was), Object::DelegationGrant(now)) => {
            let (was, mut now) = (was.spec.clone().unwrap_or_default(), now.spec.clone().unwrap_or_default());
            let is_less = are_less(&now.permissions, &was.permissions)
                && is_shorter((now.not_before, now.not_after), (was.not_before, was.not_after));
            now.permissions.clone_from(&was.permissions);
            (now.not_before, now.not_after) = (was.not_before, was.not_after);
            is_less && now == was
        }
        (Object::RoleBinding(was), Object::RoleBinding(now)) => {
            let (was, mut now) = (was.spec.clone().unwrap_or_default(), now.spec.clone().unwrap_or_default());
            let is_less = are_among(&now.agents, &was.agents)
                && are_among(&now.groups, &was.groups)
                && are_among(&now.users, &was.users)
                && are_among(&was.except_agents, &now.except_agents)
                && are_within(&now.resources, &was.resources)
                && is_shorter((now.not_before, now.not_after), (was.not_before, was.not_after));
            (now.agents, now.groups) = (was.agents.clone(), was.groups.clone());
            (now.users, now.except_agents) = (was.users.clone(), was.except_agents.clone());
            now.resources.clone_from(&was.resources);
            (now.not_before, now.not_after) = (was.not_before, was.not_after);
            is_less && now == was
        }
        (Object::Group(was), Object::Group(now)) => {
            let (was, mut now) = (was.spec.clone().unwrap_or_default(), now.spec.clone().unwrap_or_default());
            let is_less = are_among(&now.agents, &was.agents);
            now.agents.clone_from(&was.agents);
            now.description.clone_from(&was.description);
            is_less && now == was
        }
        _ => false,
    }
}

fn are_among(some: &[String], all: &[String]) -> bool {
    some.iter().all(|one| all.contains(one))
}

/// Whether each lies within one of those that were there; what cannot be read is there only where it was.
fn are_less(now: &[wire::Permission], was: &[wire::Permission]) -> bool {
    let read: Vec<Permission> = was.iter().filter_map(permission).collect();
    let is_within = |one: &wire::Permission| permission(one).is_some_and(|one| read.iter().any(|of| of.includes(&one)));
    now.iter().all(|one| was.contains(one) || is_within(one))
}

fn is_shorter(now: super::Span, was: super::Span) -> bool {
    now == was || window(was.0, was.1).zip(window(now.0, now.1)).is_some_and(|(was, now)| was.includes(&now))
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::domain::samples::at;

    fn may(action: &str, id: &str) -> wire::Permission {
        let resource = wire::ResourceSelector { r#type: "Invoice".into(), id: id.into(), ..Default::default() };
        wire::Permission { action: action.into(), resource: Some(resource) }
    }

    fn class(permissions: &[wire::Permission], ceiling: &[wire::Permission], description: &str) -> Declaration {
        let spec = wire::AgentClassSpec {
            permissions: permissions.to_vec(),
            ceiling: ceiling.to_vec(),
            description: description.into(),
            ..wire::AgentClassSpec::default()
        };
        Declaration { object: Some(Object::AgentClass(wire::AgentClass { spec: Some(spec), ..Default::default() })) }
    }

    fn grant(
        permissions: &[wire::Permission],
        until: Option<i64>,
        change: impl FnOnce(&mut wire::DelegationGrantSpec),
    ) -> Declaration {
        let mut spec = wire::DelegationGrantSpec {
            permissions: permissions.to_vec(),
            not_after: until.and_then(at),
            ..wire::DelegationGrantSpec::default()
        };
        change(&mut spec);
        Declaration {
            object: Some(Object::DelegationGrant(wire::DelegationGrant { spec: Some(spec), ..Default::default() })),
        }
    }

    fn binding(agents: &[&str], except: &[&str]) -> Declaration {
        let of = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        let spec = wire::RoleBindingSpec { agents: of(agents), except_agents: of(except), ..Default::default() };
        Declaration { object: Some(Object::RoleBinding(wire::RoleBinding { spec: Some(spec), ..Default::default() })) }
    }

    fn group(agents: &[&str], selector: &str) -> Declaration {
        let agents = agents.iter().map(|one| (*one).to_owned()).collect();
        let spec = wire::GroupSpec { agents, selector: selector.into(), ..wire::GroupSpec::default() };
        Declaration { object: Some(Object::Group(wire::Group { spec: Some(spec), ..Default::default() })) }
    }

    /// The one gives less than the other, and the other no less than the one.
    fn holds(less: &Declaration, more: &Declaration) {
        assert!(is_only_less(more, less) && !is_only_less(less, more), "{less:?} {more:?}");
        assert!(is_only_less(more, more) && is_only_less(less, less));
    }

    #[test]
    fn less_is_less_and_the_way_back_is_more() {
        let (read, some, pay) = (may("invoice:read", "*"), may("invoice:read", "apollo/*"), may("invoice:pay", "*"));
        let any = may("invoice:*", "*");
        holds(&class(from_ref(&some), from_ref(&any), "new words"), &class(from_ref(&read), from_ref(&any), ""));
        holds(&class(&[], from_ref(&read), ""), &class(&[], from_ref(&any), ""));
        holds(&class(&[], from_ref(&any), ""), &class(&[], &[], ""));
        holds(&grant(from_ref(&read), Some(50), |_| ()), &grant(&[read.clone(), pay.clone()], Some(100), |_| ()));
        holds(&grant(from_ref(&read), Some(50), |_| ()), &grant(from_ref(&read), None, |_| ()));
        holds(&binding(&["a"], &["c", "d"]), &binding(&["a", "b"], &["c"]));
        holds(&group(&["a"], ""), &group(&["a", "b"], ""));
    }

    #[test]
    fn less_here_and_more_there_is_more_and_so_is_what_nobody_can_tell() {
        let (read, pay) = (may("invoice:read", "*"), may("invoice:pay", "*"));
        assert!(!is_only_less(&class(from_ref(&read), &[], ""), &class(from_ref(&pay), &[], "")));
        assert!(!is_only_less(
            &grant(&[read.clone(), pay.clone()], None, |_| ()),
            &grant(from_ref(&read), None, |spec| spec.may_redelegate = true)
        ));
        assert!(!is_only_less(
            &grant(from_ref(&read), None, |spec| spec.audiences = vec!["a".into()]),
            &grant(&[read], None, |_| ())
        ));
        assert!(!is_only_less(&binding(&["a", "b"], &[]), &binding(&["a", "c"], &[])));
        assert!(!is_only_less(&group(&["a", "b"], "x = y"), &group(&["a"], "x = z")));
        assert!(!is_only_less(&group(&["a"], ""), &binding(&[], &[])));
    }
}
