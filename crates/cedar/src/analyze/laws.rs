//! What holds of every agent and is more than types can say: a request against it is no request, so both sides deny it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cedar_policy::{EntityUid, Policy, PolicyId, PolicySet};

use crate::world::quoted;

/// Adds what holds of every agent of a namespace to a set, as far as the policies of either side could tell.
pub(super) fn add(set: &mut PolicySet, namespace: &str, named: &BTreeSet<EntityUid>) -> Result<(), String> {
    for (n, law) in laws(namespace, named).into_iter().enumerate() {
        let text = format!("forbid(principal, action, resource) unless {{ {law} }};");
        let law = Policy::parse(Some(PolicyId::new(format!("law#{n}"))), text).map_err(|e| e.to_string())?;
        set.add(law).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn laws(namespace: &str, named: &BTreeSet<EntityUid>) -> Vec<String> {
    let mut laws = vec![
        format!("principal.namespace == {}", quoted(namespace)),
        "[\"dev\", \"test\", \"prod\"].contains(principal.environment)".to_owned(),
        "if principal has risk_tier then [\"low\", \"medium\", \"high\", \"critical\"].contains(principal.risk_tier) else true"
            .to_owned(),
        "if context has on_behalf_of then [\"user\", \"agent\"].contains(context.on_behalf_of.kind) && context.on_behalf_of.depth > 0 else true"
            .to_owned(),
    ];
    for uid in named {
        let id = quoted(uid.id().unescaped());
        let mut law = String::new();
        match uid.type_name().to_string().as_str() {
            "AgentClass" => _ = write!(law, "(principal in AgentClass::{id}) == (principal.class == {id})"),
            "Agent" => _ = write!(law, "(principal == Agent::{id}) == (principal.id == {id})"),
            _ => continue,
        }
        laws.push(law);
    }
    laws
}
