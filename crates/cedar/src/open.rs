//! A policy against what Legate gives alone, where a namespace declares nothing of what callers state.
//!
//! Cedar's partial validation takes what is not declared for anything: only what goes against the principal's own type is found, and
//! what is no expression of any type. Each policy is looked at in one environment, that of its scope, so that the work does not
//! grow with the actions that it names.

use cedar_policy::{
    ActionConstraint, Policy, PolicySet, ResourceConstraint, Schema, ValidationError, ValidationMode, Validator,
};
use serde_json::{Value as Json, json};

use crate::read::Finding;
use crate::valid::finding;
use crate::walk::spoken;
use crate::world::{ATTRIBUTES, BEHALF};

/// An action and a type of which no policy speaks.
const ANY_ACTION: &str = "any:other";
const ANY_TYPE: &str = "AnyOther";

/// What is wrong with asking whether the principal has what none has.
pub(crate) fn unknown(name: &str) -> String {
    let known: Vec<&str> = ATTRIBUTES.iter().map(|(name, ..)| *name).collect();
    format!("asks whether the principal has `{name}`, which none has; it has {}", known.join(", "))
}

/// What is wrong with one policy.
pub(crate) fn check(policy: &Policy) -> Vec<Finding> {
    let mut found = Vec::new();
    for name in spoken(policy).unknown {
        found.push(Finding { at: None, why: unknown(&name) });
    }
    let schema = match Schema::from_json_value(environment(policy)) {
        Ok(schema) => schema,
        Err(e) => {
            let why = format!("cannot be validated: {e}");
            return vec![Finding { at: None, why }];
        }
    };
    let mut set = PolicySet::new();
    if let Err(e) = set.add(policy.clone()) {
        return vec![Finding { at: None, why: format!("cannot be validated: {e}") }];
    }
    let result = Validator::new(schema).validate(&set, ValidationMode::Partial);
    found.extend(result.validation_errors().filter(|error| counts(error)).map(finding));
    found
}

/// Whether it is wrong whatever callers state. What may be absent is left to the decision, where it permits nothing and hides no
/// forbid; sets and conditions of mixed types are values like any others.
fn counts(error: &ValidationError) -> bool {
    matches!(
        error,
        ValidationError::UnsafeAttributeAccess(_)
            | ValidationError::UnexpectedType(_)
            | ValidationError::NoTagsAllowed(_)
            | ValidationError::UndefinedFunction(_)
            | ValidationError::WrongNumberArguments(_)
            | ValidationError::FunctionArgumentValidation(_)
    )
}

fn kind(text: &str) -> Json {
    match text.strip_prefix("Set<").and_then(|rest| rest.strip_suffix('>')) {
        Some(element) => json!({ "type": "Set", "element": { "type": element } }),
        None if text == "{}" => json!({ "type": "Record", "attributes": {}, "additionalAttributes": true }),
        None => json!({ "type": text }),
    }
}

fn attribute(text: &str, required: bool) -> Json {
    let mut kind = kind(text);
    kind["required"] = json!(required);
    kind
}

/// The schema of the one environment in which a policy is looked at.
fn environment(policy: &Policy) -> Json {
    let action = match policy.action_constraint() {
        ActionConstraint::Any => None,
        ActionConstraint::Eq(uid) => Some(uid),
        ActionConstraint::In(uids) => uids.into_iter().next(),
    };
    let action = action.map_or_else(|| ANY_ACTION.to_owned(), |uid| uid.id().unescaped().to_owned());
    let resource = match policy.resource_constraint() {
        ResourceConstraint::Any => ANY_TYPE.to_owned(),
        ResourceConstraint::Is(name) | ResourceConstraint::IsIn(name, _) => name.to_string(),
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) => uid.type_name().to_string(),
    };
    let open = |attributes: Json| json!({ "type": "Record", "attributes": attributes, "additionalAttributes": true });
    let behalf: serde_json::Map<String, Json> =
        BEHALF.iter().map(|(name, kind)| ((*name).to_owned(), attribute(kind, true))).collect();
    let context = open(json!({ "on_behalf_of": { "type": "Record", "attributes": behalf, "required": false } }));
    let given: serde_json::Map<String, Json> =
        ATTRIBUTES.iter().map(|(name, kind, is_always)| ((*name).to_owned(), attribute(kind, *is_always))).collect();
    let mut whole = json!({ "": {
        "entityTypes": {
            "AgentClass": {}, "Role": {}, "Group": {},
            "Agent": {
                "memberOfTypes": ["AgentClass", "Role", "Group"],
                "shape": { "type": "Record", "attributes": given },
            },
        },
        "actions": {
            action: { "appliesTo": { "principalTypes": ["Agent"], "resourceTypes": [resource], "context": context } },
        },
    } });
    let (space, name) = split(&resource);
    let kind = json!({ "shape": open(json!({})) });
    if space.is_empty() {
        whole[""]["entityTypes"][name] = kind;
    } else {
        whole[space] = json!({ "entityTypes": { name: kind }, "actions": {} });
    }
    whole
}

/// The namespace of a type's name, and the rest.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once("::").unwrap_or(("", name))
}
