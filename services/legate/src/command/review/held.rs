//! Whether what is left of a delegation grant is what was decided: as the registry has it, and as policy-decision answers an agent that
//! would act by it.

use std::collections::BTreeMap;

use legate_authority::{Permission, ResourceSelector};
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{Decision, EvaluateRequest, ExplainRequest, OnBehalfOf, Resource, Subject, subject};
use legate_wire::registry as wire;
use prost_types::value::Kind as Value;
use wire::declaration::Object;
use wire::declaration_service_client::DeclarationServiceClient;
use wire::{GetDeclarationRequest, Kind, ReviewDecision, ReviewItem};

use crate::command::Desk;
use crate::place::{Line, Service};
use crate::{Exit, Failure, manifest};

/// What stands for one of those that a pattern stands for, in a question.
const ANY: &str = "legate-review";

pub(super) fn is_within(one: &wire::Permission, all: &[wire::Permission]) -> bool {
    let Some(one) = parsed(one) else { return false };
    all.iter().filter_map(parsed).any(|of| of.includes(&one))
}

/// Whether an item says that the agent has it.
pub(super) fn is_certified(one: &wire::Permission, item: &ReviewItem) -> bool {
    let on =
        |resource: &wire::ResourceSelector| wire::Permission { action: "*".into(), resource: Some(resource.clone()) };
    let resources: Vec<wire::Permission> = item.resources.iter().map(on).collect();
    is_within(one, &item.permissions) && (resources.is_empty() || is_within(one, &resources))
}

fn parsed(of: &wire::Permission) -> Option<Permission> {
    let resource = of.resource.as_ref()?;
    let id = if resource.id.is_empty() { "*" } else { &resource.id };
    let selector = ResourceSelector::parse(&resource.r#type, id, &resource.attributes).ok()?;
    Permission::parse(&of.action, selector).ok()
}

/// What is otherwise than was decided about a grant.
pub(super) async fn difference(
    desk: &Desk,
    registry: &Line,
    item: &ReviewItem,
    at_least_revision: u64,
) -> Result<Option<String>, Failure> {
    let stays: &[wire::Permission] = match item.decision() {
        ReviewDecision::Certify => &item.permissions,
        ReviewDecision::Reduce => &item.keep,
        _ => &[],
    };
    if let Some(beyond) = left(registry, item).await?.iter().find(|one| !is_within(one, stays)) {
        return Ok(Some(format!("the grant still gives {}", manifest::permission_text(beyond))));
    }
    for gone in item.permissions.iter().filter(|one| !is_within(one, stays)) {
        if is_allowed(desk, item, gone, at_least_revision).await? {
            let text = manifest::permission_text(gone);
            return Ok(Some(format!("policy-decision lets the agent {text} for {} by the grant", item.role)));
        }
    }
    Ok(None)
}

/// What the registry has of the grant.
async fn left(registry: &Line, item: &ReviewItem) -> Result<Vec<wire::Permission>, Failure> {
    let request = GetDeclarationRequest {
        kind: Kind::DelegationGrant.into(),
        namespace: item.namespace.clone(),
        name: item.granted.clone(),
        as_of: None,
    };
    let found =
        registry.ask(request, |c, r| async move { DeclarationServiceClient::new(c).get_declaration(r).await }).await;
    let found = match found {
        Ok(found) => found.declaration.unwrap_or_default(),
        Err(failure) if failure.reason == "OBJECT_NOT_FOUND" => return Ok(Vec::new()),
        Err(failure) => return Err(failure),
    };
    let Some(Object::DelegationGrant(grant)) = found.object else { return Ok(Vec::new()) };
    // Another one may have the name since.
    if grant.metadata.as_ref().is_none_or(|metadata| metadata.id != item.granted_id) {
        return Ok(Vec::new());
    }
    Ok(grant.spec.map(|spec| spec.permissions).unwrap_or_default())
}

/// Whether policy-decision lets the agent do one of what a permission stands for, by this very grant.
async fn is_allowed(
    desk: &Desk,
    item: &ReviewItem,
    permission: &wire::Permission,
    at_least_revision: u64,
) -> Result<bool, Failure> {
    let Some((action, resource)) = one_of(permission) else { return Ok(false) };
    let by = OnBehalfOf { subject: item.role.clone(), grant: item.granted.clone() };
    let agent = Some(subject::Agent::AgentId(item.agent_id.clone()));
    let question = EvaluateRequest {
        subject: Some(Subject { agent, on_behalf_of: Some(by), ..Subject::default() }),
        action,
        resource: Some(resource),
        at_least_revision,
        ..EvaluateRequest::default()
    };
    let ask = ExplainRequest { question: Some(question), ..ExplainRequest::default() };
    let policy = desk.line(Service::Policy)?;
    match policy.ask(ask, |c, r| async move { DecisionServiceClient::new(c).explain(r).await }).await {
        Ok(told) => Ok(told.answer.is_some_and(|answer| answer.decision() == Decision::Allow)),
        Err(failure) if failure.exit == Exit::Unavailable => Err(failure),
        // It may not be asked, such as one about somebody of whom nobody knows any more: then what the registry has counts alone.
        Err(_) => Ok(false),
    }
}

/// An action on a resource that a permission stands for; none where it names no type.
fn one_of(permission: &wire::Permission) -> Option<(String, Resource)> {
    let of = permission.resource.as_ref()?;
    if of.r#type == "*" {
        return None;
    }
    let some = |pattern: &str| match pattern.strip_suffix('*') {
        Some(rest) => format!("{rest}{ANY}"),
        None if pattern.is_empty() => ANY.to_owned(),
        None => pattern.to_owned(),
    };
    let text = |text: &String| prost_types::Value { kind: Some(Value::StringValue(text.clone())) };
    let fields: BTreeMap<String, prost_types::Value> =
        of.attributes.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let attributes = (!fields.is_empty()).then_some(prost_types::Struct { fields });
    Some((some(&permission.action), Resource { r#type: of.r#type.clone(), id: some(&of.id), attributes }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn permission(action: &str, kind: &str, id: &str) -> wire::Permission {
        let resource = wire::ResourceSelector { r#type: kind.into(), id: id.into(), ..Default::default() };
        wire::Permission { action: action.into(), resource: Some(resource) }
    }

    #[test]
    fn a_question_is_about_one_of_what_a_permission_stands_for() {
        for (asked, action, id) in [
            (permission("invoice:read", "Invoice", "apollo/1"), "invoice:read", "apollo/1"),
            (permission("invoice:*", "Invoice", "apollo/*"), "invoice:legate-review", "apollo/legate-review"),
            (permission("*", "Invoice", ""), "legate-review", "legate-review"),
        ] {
            let (what, on) = one_of(&asked).unwrap();
            assert_eq!((what.as_str(), on.id.as_str()), (action, id));
            let one = permission(&what, "Invoice", &on.id);
            assert!(is_within(&one, &[asked]), "{what} on {}", on.id);
        }
        assert!(one_of(&permission("invoice:read", "*", "*")).is_none());
    }

    #[test]
    fn what_is_certified_is_within_the_role_and_within_the_resources() {
        let resources = permission("*", "Invoice", "apollo/*").resource.unwrap();
        let item = ReviewItem {
            permissions: vec![permission("invoice:*", "Invoice", "*")],
            resources: vec![resources],
            ..ReviewItem::default()
        };
        assert!(is_certified(&permission("invoice:read", "Invoice", "apollo/1"), &item));
        assert!(!is_certified(&permission("invoice:read", "Invoice", "zeus/1"), &item));
        assert!(!is_certified(&permission("ledger:read", "Invoice", "apollo/1"), &item));
        let everywhere = ReviewItem { resources: Vec::new(), ..item };
        assert!(is_certified(&permission("invoice:read", "Invoice", "zeus/1"), &everywhere));
    }
}
