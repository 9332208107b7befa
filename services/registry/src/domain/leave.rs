//! What becomes of an object that names an agent when that agent ends: its name can be another agent's later, and must
//! not bring anything along; and of what names a person when the person leaves.

use std::collections::BTreeMap;

use legate_wire::registry as wire;
use wire::claim_rule::StandsFor;
use wire::declaration::Object;

/// What is left of an object without the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The object did not name it.
    All,
    /// It names others still, or stands by itself.
    Some,
    /// It means nothing any more.
    Nothing,
}

/// Takes the agent of this name out of an object of its namespace.
pub(crate) fn without(declaration: &mut wire::Declaration, agent: &str) -> Left {
    match &mut declaration.object {
        Some(Object::RoleBinding(wire::RoleBinding { spec: Some(spec), .. })) => {
            let left = list(&mut spec.agents, agent);
            // Whoever gets the name later is not excepted for another's sake.
            let was_excepted = list(&mut spec.except_agents, agent) != Left::All;
            let has_others = !spec.groups.is_empty() || !spec.users.is_empty();
            match left {
                Left::Nothing if has_others => Left::Some,
                Left::All if was_excepted => Left::Some,
                left => left,
            }
        }
        Some(Object::Group(wire::Group { spec: Some(spec), .. })) => {
            let left = list(&mut spec.agents, agent);
            if left == Left::Nothing && !spec.selector.is_empty() { Left::Some } else { left }
        }
        Some(Object::Boundary(wire::Boundary { spec: Some(spec), .. })) => {
            let left = list(&mut spec.agents, agent);
            // One that named its last agent would now be about every agent of the namespace.
            let names_nobody = spec.agents.is_empty() && spec.groups.is_empty() && spec.agent_classes.is_empty();
            if left != Left::All && names_nobody {
                spec.named_only = true;
            }
            if left == Left::Nothing { Left::Some } else { left }
        }
        Some(Object::TrustedIssuer(wire::TrustedIssuer { spec: Some(spec), .. })) => rules(&mut spec.rules, agent),
        Some(Object::AttestationPolicy(wire::AttestationPolicy { spec: Some(spec), .. })) => {
            let is_its_broker = |one: &wire::AttestationSelector| {
                one.r#type() == wire::AttestationSelectorType::BrokerAgent && one.value == agent
            };
            if spec.agent == agent || spec.selectors.iter().any(is_its_broker) { Left::Nothing } else { Left::All }
        }
        Some(Object::DelegationGrant(wire::DelegationGrant { spec: Some(spec), .. })) => {
            let names = spec.delegate == agent || spec.delegator.strip_prefix("agent:") == Some(agent);
            if names { Left::Nothing } else { Left::All }
        }
        Some(Object::Approval(wire::Approval { spec: Some(spec), .. })) if spec.agent == agent => Left::Nothing,
        Some(Object::PolicyTest(wire::PolicyTest { spec: Some(spec), .. })) => {
            let before = spec.cases.len();
            spec.cases.retain(|case| case.agent != agent);
            left(before, spec.cases.len())
        }
        _ => Left::All,
    }
}

/// Takes a person who left out of what lets agents act for him.
pub(crate) fn without_person(declaration: &mut wire::Declaration, person: &str) -> Left {
    match &mut declaration.object {
        Some(Object::DelegationGrant(wire::DelegationGrant { spec: Some(spec), .. })) if spec.delegator == person => {
            Left::Nothing
        }
        Some(Object::RoleBinding(wire::RoleBinding { spec: Some(spec), .. })) => {
            let left = list(&mut spec.users, person);
            let has_others = !spec.groups.is_empty() || !spec.agents.is_empty();
            if left == Left::Nothing && has_others { Left::Some } else { left }
        }
        _ => Left::All,
    }
}

fn list(names: &mut Vec<String>, agent: &str) -> Left {
    let before = names.len();
    names.retain(|name| name != agent);
    left(before, names.len())
}

fn left(before: usize, after: usize) -> Left {
    match after {
        after if after == before => Left::All,
        0 => Left::Nothing,
        _ => Left::Some,
    }
}

/// Takes the agent's rules away. Where a later rule could match the tokens of one of them, it stays and stands for
/// nobody: those tokens must not become somebody else's.
fn rules(rules: &mut Vec<wire::ClaimRule>, agent: &str) -> Left {
    let stands_for_it = |rule: &wire::ClaimRule| matches!(&rule.stands_for, Some(StandsFor::Agent(a)) if a == agent);
    if !rules.iter().any(stands_for_it) {
        return Left::All;
    }
    let mut kept: Vec<wire::ClaimRule> = Vec::new();
    for rule in std::mem::take(rules).into_iter().rev() {
        if !stands_for_it(&rule) {
            kept.push(rule);
        } else if kept.iter().any(|later| could_share(&rule.claims, &later.claims)) {
            kept.push(wire::ClaimRule { claims: rule.claims, ..wire::ClaimRule::default() });
        }
    }
    kept.reverse();
    *rules = kept;
    if rules.iter().any(|rule| rule.stands_for.is_some()) { Left::Some } else { Left::Nothing }
}

/// Whether one token could match both: no claim has to be two things.
fn could_share(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> bool {
    one.iter().all(|(claim, value)| other.get(claim).is_none_or(|wanted| wanted == value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::super::{kind, samples};
    use super::*;

    fn rule(claims: &[(&str, &str)], agent: &str) -> wire::ClaimRule {
        let claims = claims.iter().map(|(c, v)| ((*c).to_owned(), (*v).to_owned())).collect();
        let stands_for = (!agent.is_empty()).then(|| StandsFor::Agent(agent.to_owned()));
        wire::ClaimRule { claims, stands_for, ..wire::ClaimRule::default() }
    }

    #[test]
    fn what_a_token_stood_for_becomes_nobody_elses() {
        let exact = rule(&[("repo", "a"), ("env", "prod")], "bot");
        let test = rule(&[("repo", "a"), ("env", "test")], "other");
        let wide = rule(&[("repo", "a")], "other");
        let mut alone = vec![exact.clone()];
        assert_eq!((rules(&mut alone, "bot"), alone.len()), (Left::Nothing, 0));
        let mut apart = vec![exact.clone(), test.clone()];
        assert_eq!((rules(&mut apart, "bot"), apart), (Left::Some, vec![test.clone()]));
        let mut before = vec![exact.clone(), test.clone(), wide.clone()];
        let nobody = wire::ClaimRule { stands_for: None, ..exact.clone() };
        assert_eq!((rules(&mut before, "bot"), before), (Left::Some, vec![nobody.clone(), test, wide.clone()]));
        let mut after = vec![wide.clone(), exact];
        assert_eq!((rules(&mut after, "bot"), after), (Left::Some, vec![wide]));
        let mut over = vec![nobody, rule(&[("repo", "a")], "bot")];
        assert_eq!(rules(&mut over, "bot"), Left::Nothing);
    }

    #[test]
    fn a_binding_that_gives_a_person_something_outlives_its_last_agent() {
        let spec = wire::RoleBindingSpec {
            agents: vec!["bot".into()],
            users: vec!["user:ada".into()],
            ..wire::RoleBindingSpec::default()
        };
        let mut binding =
            samples::declared(Object::RoleBinding(wire::RoleBinding { metadata: None, spec: Some(spec) }));
        assert_eq!(without(&mut binding, "bot"), Left::Some);
    }

    #[test]
    fn a_boundary_never_becomes_one_for_everybody() {
        let mut boundary = wire::Boundary::default();
        boundary.spec.get_or_insert_default().agents = vec!["bot".into()];
        let mut declared = samples::declared(Object::Boundary(boundary));
        assert_eq!(without(&mut declared, "bot"), Left::Some);
        let Some(Object::Boundary(boundary)) = declared.object else { panic!("no boundary") };
        assert!(boundary.spec.unwrap().named_only);
    }

    proptest! {
        /// Nothing that is left names the agent, and what did not name it is as it was.
        #[test]
        fn what_is_left_does_not_name_it(mut declaration in samples::arbitrary()) {
            let before = declaration.clone();
            for name in ["", "x", "xx"] {
                let names = |declaration: &wire::Declaration| {
                    let of = kind::references(declaration);
                    declaration.kind() != Some(wire::Kind::Agent)
                        && of.iter().any(|(_, key)| key.kind == wire::Kind::Agent && key.name == name)
                };
                let named = names(&declaration);
                let whole = declaration.clone();
                match without(&mut declaration, name) {
                    Left::All => prop_assert!(!named && declaration == whole, "{before:?}"),
                    Left::Some => prop_assert!(!names(&declaration), "{before:?}"),
                    Left::Nothing => return Ok(()),
                }
            }
        }
    }
}
