//! Which values of the context a Cedar policy compares with, read from its JSON: what a caller might have left unsaid.

use std::collections::BTreeMap;

use cedar_policy::Policy;
use serde_json::Value as Json;

use super::question::Value;

/// Values of one name that are kept.
const OF_A_NAME: usize = 8;

/// Adds, by name, what the policy compares `context.NAME` with. Of a policy that Cedar does not give as JSON nothing is known.
pub(crate) fn of_context(policy: &Policy, found: &mut BTreeMap<String, Vec<Value>>) {
    let Ok(whole) = policy.to_json() else { return };
    for condition in whole.get("conditions").and_then(Json::as_array).into_iter().flatten() {
        if let Some(body) = condition.get("body") {
            walk(body, found);
        }
    }
}

fn walk(expression: &Json, found: &mut BTreeMap<String, Vec<Value>>) {
    let Some(map) = expression.as_object() else {
        expression.as_array().into_iter().flatten().for_each(|one| walk(one, found));
        return;
    };
    for (operator, argument) in map {
        let sides = (argument.get("left"), argument.get("right"));
        match (operator.as_str(), sides) {
            (".", _) => {
                if let Some(name) = attribute(expression) {
                    // Where it stands for itself it is true or false.
                    add(found, name, Value::Bool(true));
                    add(found, name, Value::Bool(false));
                }
            }
            ("==" | "!=" | "<" | "<=" | ">" | ">=", (Some(left), Some(right))) => {
                compared(left, right, found);
                compared(right, left, found);
            }
            ("contains", (Some(left), Some(right))) => {
                let set = left.get("Set").and_then(Json::as_array).into_iter().flatten();
                set.for_each(|one| compared(right, one, found));
            }
            _ => {}
        }
        walk(argument, found);
    }
}

/// What `context.NAME` is named there.
fn attribute(expression: &Json) -> Option<&str> {
    let access = expression.get(".")?;
    let is_context = access.get("left")?.get("Var")?.as_str()? == "context";
    is_context.then(|| access.get("attr")?.as_str()).flatten()
}

fn compared(side: &Json, other: &Json, found: &mut BTreeMap<String, Vec<Value>>) {
    let (Some(name), Some(value)) = (attribute(side), other.get("Value")) else { return };
    if let Some(text) = value.as_str() {
        add(found, name, Value::Text(text.to_owned()));
    } else if let Some(is) = value.as_bool() {
        add(found, name, Value::Bool(is));
    } else if let Some(number) = value.as_i64() {
        // On either side of a limit, and the limit itself.
        for n in [number, number.saturating_sub(1), number.saturating_add(1)] {
            add(found, name, Value::Long(n));
        }
    }
}

fn add(found: &mut BTreeMap<String, Vec<Value>>, name: &str, value: Value) {
    let all = found.entry(name.to_owned()).or_default();
    if all.len() < OF_A_NAME && !all.contains(&value) {
        all.push(value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_a_context_is_compared_with_is_found() {
        let of = |cedar: &str| {
            let mut found = BTreeMap::new();
            of_context(&Policy::parse(None, cedar).unwrap(), &mut found);
            found
        };
        let text = |text: &str| Value::Text(text.to_owned());
        let found = of("permit(principal, action, resource) when { context.ticket == \"T-1\" };");
        assert!(found["ticket"].contains(&text("T-1")), "{found:?}");
        let found = of("forbid(principal, action, resource) unless { context has approved && context.approved };");
        assert!(found["approved"].contains(&Value::Bool(true)), "{found:?}");
        let found = of(
            "permit(principal, action, resource) when { context.amount < 100 || [\"a\", \"b\"].contains(context.why) };",
        );
        assert!(found["amount"].contains(&Value::Long(99)) && found["why"].contains(&text("b")), "{found:?}");
        assert!(of("permit(principal, action, resource) when { resource.sealed == true };").is_empty());
    }
}
