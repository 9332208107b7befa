//! A Cedar policy without the conditions that look at something a permission does not fix.
//!
//! What is left applies wherever the policy could apply, and perhaps elsewhere: a condition is a conjunction, and dropping
//! a part of it can only make it hold more often.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use serde_json::{Value, json};

/// What a permission fixes of a question about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fixed {
    /// It names one action.
    pub(crate) action: bool,
    /// It names one resource type.
    pub(crate) kind: bool,
    /// It names one resource.
    pub(crate) id: bool,
    /// The attributes of the resource that it names.
    pub(crate) attributes: BTreeSet<String>,
}

/// The policy as far as it is fixed.
#[derive(Debug)]
pub(crate) enum Weakened {
    /// It looks at nothing else: it is as it was.
    Whole,
    /// Conditions were left out.
    Part(Box<Policy>),
}

/// Leaves out what looks at something that is not fixed.
///
/// # Errors
/// When Cedar does not give or take the policy as JSON; then nothing is known of it.
pub(crate) fn weaken(policy: &Policy, fixed: &Fixed) -> Result<Weakened, String> {
    let mut whole = policy.to_json().map_err(|e| e.to_string())?;
    let mut kept = Vec::new();
    let mut dropped = false;
    for condition in whole.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let (Some(kind), Some(body)) = (condition.get("kind").and_then(Value::as_str), condition.get("body")) else {
            return Err("a condition of an unknown form".into());
        };
        // not (a or b) is not a, and not b.
        let joint = if kind == "unless" { "||" } else { "&&" };
        let mut parts = Vec::new();
        split(body, joint, &mut parts);
        for part in parts {
            if is_open(part, fixed) {
                dropped = true;
            } else {
                kept.push(json!({ "kind": kind, "body": part }));
            }
        }
    }
    if !dropped {
        return Ok(Weakened::Whole);
    }
    whole["conditions"] = Value::Array(kept);
    let part = Policy::from_json(Some(policy.id().clone()), whole).map_err(|e| e.to_string())?;
    Ok(Weakened::Part(Box::new(part)))
}

/// The parts that `joint` joins, in their order.
fn split<'a>(body: &'a Value, joint: &str, parts: &mut Vec<&'a Value>) {
    let sides = body.get(joint).map(|both| (both.get("left"), both.get("right")));
    match sides {
        Some((Some(left), Some(right))) => {
            split(left, joint, parts);
            split(right, joint, parts);
        }
        _ => parts.push(body),
    }
}

/// Whether an expression, in Cedar's JSON, looks at something that is not fixed. An unknown form does.
fn is_open(expression: &Value, fixed: &Fixed) -> bool {
    let Some(map) = expression.as_object() else { return true };
    map.iter().any(|(operator, argument)| match operator.as_str() {
        "Value" | "Slot" => false,
        "Var" => match argument.as_str() {
            Some("principal") => false,
            Some("action") => !fixed.action,
            Some("resource") => !fixed.kind || !fixed.id,
            _ => true,
        },
        "." | "has" if is_resource(argument.get("left")) => {
            argument.get("attr").and_then(Value::as_str).is_none_or(|name| !fixed.attributes.contains(name))
        }
        "is" if is_resource(argument.get("left")) && argument.get("in").is_none() => !fixed.kind,
        "Record" => argument.as_object().is_none_or(|fields| fields.values().any(|value| is_open(value, fixed))),
        _ => operands(argument).any(|operand| is_open(operand, fixed)),
    })
}

fn is_resource(expression: Option<&Value>) -> bool {
    expression.and_then(|e| e.get("Var")).and_then(Value::as_str) == Some("resource")
}

/// The expressions among an operator's arguments; the rest are names, types and patterns.
fn operands(argument: &Value) -> impl Iterator<Item = &Value> {
    let named = argument.as_object().into_iter().flat_map(|fields| fields.iter());
    let named = named.filter(|(name, _)| !matches!(name.as_str(), "attr" | "entity_type" | "pattern")).map(|(_, v)| v);
    named.chain(argument.as_array().into_iter().flatten())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn left_of(cedar: &str, fixed: &Fixed) -> Option<String> {
        let policy = Policy::parse(None, cedar).unwrap();
        match weaken(&policy, fixed).unwrap() {
            Weakened::Whole => None,
            Weakened::Part(part) => Some(part.to_string().split_whitespace().collect::<Vec<_>>().join(" ")),
        }
    }

    #[test]
    fn what_is_not_fixed_is_left_out_and_the_rest_stays() {
        let nothing = Fixed::default();
        let whole = |text: &str, fixed: &Fixed| assert_eq!(left_of(text, fixed), None, "{text}");
        let part = |text: &str, fixed: &Fixed, kept: &str| {
            let left = left_of(text, fixed).unwrap_or_else(|| panic!("{text} stays whole"));
            assert!(left.contains(kept), "{text}: {left}");
            assert!(!left.contains("resource.") && !left.contains("context"), "{text}: {left}");
        };
        whole("permit(principal, action, resource);", &nothing);
        whole("permit(principal, action, resource) when { principal.environment == \"prod\" };", &nothing);
        whole("forbid(principal, action, resource) when { {a: principal.name}.a like \"x*\" };", &nothing);
        part(
            "forbid(principal, action, resource) when { resource has sealed && resource.sealed };",
            &nothing,
            "forbid(principal, action, resource)",
        );
        part(
            "permit(principal, action, resource) when { principal.environment == \"prod\" && context.amount < 10 };",
            &nothing,
            "principal.environment",
        );
        part(
            "permit(principal, action, resource) unless { principal.name == \"x\" || context.sealed };",
            &nothing,
            "unless { ",
        );
        let region = Fixed { attributes: ["region".to_owned()].into(), ..Fixed::default() };
        whole("permit(principal, action, resource) when { resource.region == \"eu\" };", &region);
        part("permit(principal, action, resource) when { resource.region == resource.home };", &region, "permit");
        part(
            "permit(principal, action, resource) when { resource has region && context has region };",
            &region,
            "has region",
        );
        // Which resource it is, and of which type.
        let kind = Fixed { kind: true, ..Fixed::default() };
        whole("forbid(principal, action, resource) when { resource is Invoice };", &kind);
        part("forbid(principal, action, resource) when { resource is Invoice };", &nothing, "forbid");
        part("forbid(principal, action, resource) when { resource == Invoice::\"1\" };", &kind, "forbid");
        let one = Fixed { kind: true, id: true, action: true, ..Fixed::default() };
        whole("forbid(principal, action, resource) when { resource == Invoice::\"1\" };", &one);
        whole("forbid(principal, action, resource) when { action == Action::\"a\" };", &one);
        // A part of an alternative cannot be left out without changing what is meant: the whole alternative goes.
        part(
            "forbid(principal, action, resource) when { principal.name == \"a\" || context.x };",
            &nothing,
            "forbid(principal, action, resource)",
        );
    }
}
