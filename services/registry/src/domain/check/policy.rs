//! What may be declared of a policy: Cedar text that policy-decision can use.
//!
//! One policy that cannot be used leaves its whole namespace undecidable, so what policy-decision would refuse is refused
//! here, before it is in force. Refused as well is what could never match: a forbid that nobody notices is dead. Whether it fits the
//! schema of what there is depends on its namespace, and is seen where it is held against that (`flow/stage_policy.rs`).

use cedar_policy::{ActionConstraint, EntityTypeName, EntityUid, PrincipalConstraint, ResourceConstraint};
use legate_cedar::is_reserved;
use legate_ids::{Action, ResourceType};
use legate_wire::registry::{PolicyMode, PolicySpec};

use super::findings::Findings;
use crate::domain::approval;
use crate::domain::text::{Lines, hidden};
use crate::error::POLICY_INVALID;

/// The longest text of a policy, in bytes.
const LONGEST: usize = 64 * 1024;
/// Where the text stands.
const FIELD: &str = "spec.cedar";

pub(super) fn check(spec: &PolicySpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    let modes = "POLICY_MODE_ENFORCE or POLICY_MODE_LOG_ONLY";
    findings.choice::<PolicyMode>("spec.mode", spec.mode, true, modes);
    if let Err(why) = check_text(&spec.cedar) {
        findings.add_for(&POLICY_INVALID, FIELD, why);
    }
}

fn check_text(cedar: &str) -> Result<(), String> {
    if cedar.len() > LONGEST {
        return Err(format!("is {} bytes long; give at most {LONGEST}", cedar.len()));
    }
    if let Some(why) = hidden(cedar, |c| matches!(c, '\n' | '\r' | '\t')) {
        return Err(format!("{why}; in a string write it as \\u{{...}}"));
    }
    let set = legate_cedar::parse(cedar)?;
    if set.templates().next().is_some() {
        return Err("holds a template; write a policy without ?principal and ?resource".into());
    }
    let mut policies: Vec<_> = set.policies().collect();
    if policies.is_empty() {
        return Err("holds no policy".into());
    }
    policies.sort_by_key(|policy| policy.id().to_string());
    for policy in policies {
        can_match(policy).map_err(|why| format!("has {why}"))?;
        approval::terms(policy).map_err(|why| format!("has {why}"))?;
    }
    Ok(())
}

/// Whether a policy's scope could fit any question: every principal is an Agent, in an AgentClass, in Roles and in
/// Groups; every action is an Action; no resource is of a type of ours.
fn can_match(policy: &cedar_policy::Policy) -> Result<(), String> {
    let is = |name: &EntityTypeName, words: &[&str]| words.contains(&name.to_string().as_str());
    let parents = ["Agent", "AgentClass", "Role", "Group"];
    let principal = match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Is(name) => is(&name, &["Agent"]),
        PrincipalConstraint::Eq(uid) => is(uid.type_name(), &["Agent"]),
        PrincipalConstraint::In(uid) => is(uid.type_name(), &parents),
        PrincipalConstraint::IsIn(name, uid) => is(&name, &["Agent"]) && is(uid.type_name(), &parents),
    };
    if !principal {
        let known = "Agent::\"agt_...\", in AgentClass::\"NAME\", in Role::\"NAME\" and in Group::\"NAME\"";
        return Err(format!("a policy for principals that there are none of: {}; a principal is {known}", policy));
    }
    let actions = match policy.action_constraint() {
        ActionConstraint::Any => Vec::new(),
        ActionConstraint::Eq(uid) => vec![uid],
        ActionConstraint::In(uids) => uids,
    };
    if let Some(action) = actions.iter().find(|uid| !is_action(uid)) {
        return Err(format!("the action {action}, which nobody can ask about; write Action::\"invoice:read\""));
    }
    let types = match policy.resource_constraint() {
        ResourceConstraint::Any => Vec::new(),
        ResourceConstraint::Is(name) => vec![name],
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) => vec![uid.type_name().clone()],
        ResourceConstraint::IsIn(name, uid) => vec![name, uid.type_name().clone()],
    };
    let is_resource = |name: &EntityTypeName| {
        let name = name.to_string();
        ResourceType::parse(&name).is_ok() && !is_reserved(&name)
    };
    match types.iter().find(|name| !is_resource(name)) {
        Some(name) => {
            Err(format!("the resource type {name}, which no resource can have; write a type such as Invoice"))
        }
        None => Ok(()),
    }
}

fn is_action(uid: &EntityUid) -> bool {
    uid.type_name().to_string() == "Action" && Action::parse(uid.id().unescaped()).is_ok()
}

#[cfg(test)]
mod tests;
