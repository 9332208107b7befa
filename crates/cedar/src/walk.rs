//! What a policy's conditions speak of, read from its JSON.

use std::collections::BTreeSet;

use cedar_policy::{Policy, PolicySet};
use serde_json::Value as Json;

use crate::world::ATTRIBUTES;

/// What the conditions of policies speak of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spoken {
    /// Attributes of the principal.
    pub(crate) given: BTreeSet<String>,
    /// Labels of the principal, one by one.
    pub(crate) labels: BTreeSet<String>,
    /// Something about the labels as a whole.
    pub(crate) all_labels: bool,
    /// Attributes that are asked after with `has`, and that no agent has.
    pub(crate) unknown: BTreeSet<String>,
    /// Attributes of the resource, of the action, or the context: what callers state.
    pub(crate) stated: bool,
    /// Types that a condition asks for with `is`.
    pub(crate) types: BTreeSet<String>,
    /// What is asked after with `has` of what callers state: of `resource` or `context`, and the name.
    pub(crate) asked: BTreeSet<(&'static str, String)>,
    /// Something that can fail on what is well typed: arithmetic, or a function of an extension.
    pub(crate) can_fail: bool,
}

/// The labels of the principal that policies speak of.
#[must_use]
pub fn label_keys(set: &PolicySet) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    set.policies().for_each(|policy| all.extend(spoken(policy).labels));
    all
}

/// What one policy speaks of. Of one that Cedar does not give as JSON the worst is taken for true.
pub(crate) fn spoken(policy: &Policy) -> Spoken {
    let mut spoken = Spoken::default();
    match policy.to_json() {
        Ok(whole) => {
            for condition in whole.get("conditions").and_then(Json::as_array).into_iter().flatten() {
                condition.get("body").into_iter().for_each(|body| spoken.walk(body));
            }
        }
        Err(_) => (spoken.all_labels, spoken.stated, spoken.can_fail) = (true, true, true),
    }
    spoken
}

fn is_var(expression: &Json, name: &str) -> bool {
    expression.get("Var").and_then(Json::as_str) == Some(name)
}

/// Whether it is `principal.labels`.
fn is_labels(expression: &Json) -> bool {
    expression.get(".").is_some_and(|access| {
        access.get("left").is_some_and(|left| is_var(left, "principal"))
            && access.get("attr").and_then(Json::as_str) == Some("labels")
    })
}

impl Spoken {
    fn walk(&mut self, expression: &Json) {
        if is_labels(expression) {
            // What asks for one label goes by here with the left side already taken.
            self.all_labels = true;
        } else if is_var(expression, "context") {
            self.stated = true;
        } else if let Some((operator, argument)) = expression.as_object().and_then(|map| map.iter().next()) {
            self.step(operator, argument);
        }
    }

    fn step(&mut self, operator: &str, argument: &Json) {
        if let ("is", Some(kind)) = (operator, argument.get("entity_type").and_then(Json::as_str)) {
            self.types.insert(kind.to_owned());
        }
        match operator {
            "Value" | "Var" | "Slot" => return,
            "Set" => return argument.as_array().into_iter().flatten().for_each(|one| self.walk(one)),
            "Record" => {
                return argument.as_object().into_iter().flat_map(|map| map.values()).for_each(|one| self.walk(one));
            }
            "." | "has" => return self.access(operator, argument),
            // What is known about tags is what callers state.
            "getTag" | "hasTag" => self.stated = true,
            "if-then-else" | "like" | "is" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "&&" | "||" | "!" | "in"
            | "contains" | "containsAll" | "containsAny" | "isEmpty" => {}
            // Arithmetic, functions of extensions, and what later versions of Cedar bring.
            _ => self.can_fail = true,
        }
        match argument.as_object() {
            Some(map) => map.values().for_each(|one| self.walk(one)),
            None => argument.as_array().into_iter().flatten().for_each(|one| self.walk(one)),
        }
    }

    fn access(&mut self, operator: &str, argument: &Json) {
        let (left, attribute) = (argument.get("left"), argument.get("attr").and_then(Json::as_str));
        let (Some(left), Some(attribute)) = (left, attribute) else {
            // In a form that is not known here.
            (self.all_labels, self.stated, self.can_fail) = (true, true, true);
            return;
        };
        if is_labels(left) {
            self.labels.insert(attribute.to_owned());
            return;
        }
        if is_var(left, "resource") || is_var(left, "action") {
            self.stated = true;
        }
        if is_var(left, "principal") {
            self.given.insert(attribute.to_owned());
        }
        for place in ["resource", "context"].into_iter().filter(|place| operator == "has" && is_var(left, place)) {
            self.asked.insert((place, attribute.to_owned()));
        }
        let is_known = ATTRIBUTES.iter().any(|(known, ..)| *known == attribute);
        if operator == "has" && is_var(left, "principal") && !is_known {
            self.unknown.insert(attribute.to_owned());
        }
        self.walk(left);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn of(condition: &str) -> Spoken {
        let text = format!("permit(principal, action, resource) when {{ {condition} }};");
        spoken(&Policy::parse(None, text).unwrap())
    }

    #[test]
    fn labels_are_found_one_by_one() {
        let found = of(
            "principal.labels has team && principal.labels.team == \"x\" && principal.labels[\"a.b/c\"] like \"d*\"",
        );
        assert_eq!(found.labels, BTreeSet::from(["a.b/c".to_owned(), "team".to_owned()]));
        assert!(!found.all_labels && !found.stated && !found.can_fail, "{found:?}");
        assert!(of("principal.labels == {}").all_labels);
        assert!(of("[principal.labels].contains({team: \"x\"})").all_labels);
        // A member of a record that is called like an operator is walked all the same.
        assert!(of("{\"Value\": principal.labels} == {\"Value\": {}}").all_labels);
    }

    #[test]
    fn what_callers_state_is_told_from_what_legate_gives() {
        for stated in [
            "context.mfa",
            "context has mfa",
            "resource.sealed",
            "resource has sealed",
            "{\"a\": context} == {\"a\": {}}",
            "[context.n].contains(1)",
            "if principal.name == \"x\" then resource has a else false",
            "resource.hasTag(\"x\")",
        ] {
            assert!(of(stated).stated, "{stated}");
        }
        for given in [
            "principal.environment == \"prod\"",
            "resource == Invoice::\"1\"",
            "resource is Invoice && action == Action::\"a\"",
            "principal in Role::\"x\"",
            "principal has model && principal.model like \"claude*\"",
        ] {
            assert!(!of(given).stated && !of(given).can_fail, "{given}");
        }
    }

    #[test]
    fn what_can_fail_and_what_no_agent_has_is_found() {
        for can in ["1 + 2 == 3", "-context.n == 1", "context.n * 2 < 3", "ip(\"10.0.0.1\").isLoopback()"] {
            assert!(of(can).can_fail, "{can}");
        }
        assert_eq!(
            of("resource is Acme::Invoice in Folder::\"1\"").types,
            BTreeSet::from(["Acme::Invoice".to_owned()])
        );
        assert_eq!(
            of("principal has enviroment || principal has model").unknown,
            BTreeSet::from(["enviroment".to_owned()])
        );
    }
}
