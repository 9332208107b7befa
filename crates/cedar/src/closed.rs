//! A schema where none is declared, for policies that speak of nothing that callers state: it is no guess then.
//!
//! Such policies look at the principal, and compare the action and the resource with names. An action, a type or an id of which
//! none of them speaks is to them as any other of which none speaks; so one of each stands for all, and what holds of these
//! requests holds of all that could be made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cedar_policy::{Policy, PolicySet, PrincipalConstraint, ResourceConstraint};

use crate::declared::{BadSchema, Declared};
use crate::walk::spoken;
use crate::world::{RESERVED, quoted};

/// The action of which no policy speaks.
pub(crate) const ANY_ACTION: &str = "any:other";
/// The type of resources of which no policy speaks.
pub(crate) const ANY_TYPE: &str = "AnyOther";

/// Why nothing can be proved of policies without a schema of what callers state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// They look at what callers state.
    #[error("it looks at attributes of the resource or at the context, and nothing is declared of these")]
    Stated(String),
    /// They look at the labels of the principal as a whole.
    #[error("it compares the principal's labels as a whole, and agents have any")]
    Labels(String),
    /// Too much, or nothing that has a schema.
    #[error(transparent)]
    Schema(#[from] BadSchema),
}

impl Unproved {
    /// The Cedar policy that stands in the way, by its id.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        match self {
            Self::Stated(id) | Self::Labels(id) => Some(id),
            Self::Schema(_) => None,
        }
    }
}

/// The schema of everything that these policies could be asked.
///
/// # Errors
/// When there is none that would not be a guess.
pub fn closed<'a>(sets: impl IntoIterator<Item = &'a PolicySet>) -> Result<Declared, Unproved> {
    let mut actions = BTreeSet::from([ANY_ACTION.to_owned()]);
    let mut types = BTreeSet::from([ANY_TYPE.to_owned()]);
    for policy in sets.into_iter().flat_map(PolicySet::policies) {
        let spoken = spoken(policy);
        if spoken.stated {
            return Err(Unproved::Stated(policy.id().to_string()));
        }
        if spoken.all_labels {
            return Err(Unproved::Labels(policy.id().to_string()));
        }
        types.extend(spoken.types);
        named(policy, &mut actions, &mut types);
    }
    let mut spaces: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in types.iter().filter(|name| !RESERVED.contains(&name.as_str())) {
        let (space, name) = name.rsplit_once("::").unwrap_or(("", name));
        spaces.entry(space).or_default().push(name);
    }
    let mut text = String::new();
    for (space, names) in &spaces {
        let entities: String = names.iter().map(|name| format!("entity {name};\n")).collect();
        text += &if space.is_empty() { entities } else { format!("namespace {space} {{\n{entities}}}\n") };
    }
    let all: Vec<&str> = types.iter().map(String::as_str).filter(|name| !RESERVED.contains(name)).collect();
    let actions: Vec<String> = actions.iter().map(|action| quoted(action)).collect();
    _ = writeln!(
        text,
        "action {} appliesTo {{ principal: [Agent], resource: [{}], context: {{}} }};",
        actions.join(", "),
        all.join(", ")
    );
    Ok(Declared::parse(&text)?)
}

/// Adds the actions and types that a policy names.
fn named(policy: &Policy, actions: &mut BTreeSet<String>, types: &mut BTreeSet<String>) {
    for uid in policy.entity_literals() {
        let kind = uid.type_name().to_string();
        if kind == "Action" {
            actions.insert(uid.id().unescaped().to_owned());
        } else {
            types.insert(kind);
        }
    }
    if let PrincipalConstraint::Is(name) | PrincipalConstraint::IsIn(name, _) = policy.principal_constraint() {
        types.insert(name.to_string());
    }
    if let ResourceConstraint::Is(name) | ResourceConstraint::IsIn(name, _) = policy.resource_constraint() {
        types.insert(name.to_string());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::valid::{Spoken, validate};

    #[test]
    fn policies_that_look_at_the_principal_have_a_schema() {
        let text = "permit(principal in Role::\"reader\", action in [Action::\"invoice:read\", Action::\"invoice:list\"], resource is Acme::Invoice)\
                    when { principal.environment == \"prod\" && principal.labels has team && principal.labels.team == \"x\" };\
                    forbid(principal, action, resource) when { resource is Ledger || action == Action::\"invoice:pay\" };";
        let set: PolicySet = text.parse().unwrap();
        let declared = closed([&set]).unwrap();
        let actions: Vec<&str> = declared.actions().map(|(name, _)| name).collect();
        assert_eq!(actions, ["any:other", "invoice:list", "invoice:pay", "invoice:read"]);
        let types: Vec<&str> = declared.types().map(|(name, _)| name).collect();
        assert_eq!(types, ["Acme::Invoice", "AnyOther", "Ledger"]);
        assert_eq!(validate(&[Spoken { text, declared: Some(&declared) }]), [vec![]]);
    }

    #[test]
    fn what_callers_state_has_no_schema_unless_one_is_declared() {
        for (text, is_labels) in [
            ("permit(principal, action, resource) when { context.mfa };", false),
            ("permit(principal, action, resource) when { resource has sealed };", false),
            ("permit(principal, action, resource) when { principal.labels == {} };", true),
        ] {
            let why = closed([&text.parse().unwrap()]).unwrap_err();
            assert_eq!(matches!(why, Unproved::Labels(_)), is_labels, "{why}");
            assert_eq!(why.policy(), Some("policy0"));
        }
    }
}
