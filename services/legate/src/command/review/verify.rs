//! What policy-decision does after a round is held against what was decided, and recorded on the items.
//!
//! Of each agent from which something was to be taken: nothing that it may do rests on what was taken; what rests on what stays of a
//! reduced thing is within that; it gained nothing; and it lost nothing that rests on what it keeps.

use std::collections::{BTreeMap, BTreeSet};

use legate_authority::{Permission, ResourceSelector};
use legate_wire::policy::{Certainty, ReasonKind, WhatCanRequest, WhatCanResponse};
use legate_wire::registry as wire;
use wire::declaration::Object;
use wire::declaration_service_client::DeclarationServiceClient;
use wire::review_service_client::ReviewServiceClient;
use wire::{
    GetDeclarationRequest, Kind, RecordReviewVerificationRequest, RemediationState, Review, ReviewDecision, ReviewItem,
    ReviewedThing, VerifiedItem,
};

use super::told;
use crate::cli::{ReviewEvidence, ReviewWhich};
use crate::command::Desk;
use crate::command::explain::ask_what_can;
use crate::output::{Row, say};
use crate::place::{Line, request_id};
use crate::{Exit, Failure, manifest, proto};

/// Items of one request.
const AT_ONCE: usize = 500;
/// The longest that is said of an item.
const LONGEST: usize = 1_024;

/// What agents could do before a round was closed, by their ids.
#[derive(Debug, Default)]
pub(super) struct Before(BTreeMap<String, WhatCanResponse>);

impl Before {
    /// Of every agent from which something is to be taken.
    pub(super) async fn of(desk: &Desk, registry: &Line, review: &str) -> Result<Self, Failure> {
        let mut found = BTreeMap::new();
        for item in items(desk, registry, review).await? {
            if item.decision() != ReviewDecision::Certify && !found.contains_key(&item.agent_id) {
                let answer = what_can(desk, &item.agent_id, 0).await?;
                found.insert(item.agent_id, answer);
            }
        }
        Ok(Self(found))
    }
}

async fn items(desk: &Desk, registry: &Line, review: &str) -> Result<Vec<ReviewItem>, Failure> {
    let evidence = ReviewEvidence { since: "1d".to_owned(), without_evidence: true };
    Ok(super::items(desk, registry, review, &ReviewWhich::default(), &evidence).await?.0)
}

/// As if it were ACTIVE, so that a suspension hides nothing.
async fn what_can(desk: &Desk, agent: &str, at_least_revision: u64) -> Result<WhatCanResponse, Failure> {
    let agent_id = agent.to_owned();
    let ask = WhatCanRequest { agent_id, at_least_revision, if_active: true, ..WhatCanRequest::default() };
    ask_what_can(desk, ask).await
}

/// Looks, records what was found, and tells it.
pub(super) async fn run(desk: &Desk, registry: &Line, review: Review, before: Option<Before>) -> Result<Exit, Failure> {
    let mut by_agent: BTreeMap<String, Vec<ReviewItem>> = BTreeMap::new();
    for item in items(desk, registry, &review.id).await? {
        by_agent.entry(item.agent_id.clone()).or_default().push(item);
    }
    let mut found = Vec::new();
    for (agent, items) in by_agent {
        // Of agents from which nothing was to be taken nothing was written.
        if items.iter().all(|item| item.decision() == ReviewDecision::Certify) {
            continue;
        }
        let changed = items.iter().filter_map(|item| item.remediation.as_ref()).map(|of| of.revision);
        let now = what_can(desk, &agent, changed.max().unwrap_or_default()).await?;
        let was = before.as_ref().and_then(|before| before.0.get(&agent));
        for item in &items {
            let difference = match difference(registry, item, &items, &now, was).await? {
                Some(mut text) => {
                    text.truncate(text.floor_char_boundary(LONGEST));
                    say(&format!("{} {}: {text}", item.id, item.agent));
                    text
                }
                None => String::new(),
            };
            let verified = difference.is_empty();
            found.push(VerifiedItem { item_id: item.id.clone(), verified, difference, revision: now.revision });
        }
    }
    let is_good = found.iter().all(|one| one.verified);
    let mut review = review;
    for some in found.chunks(AT_ONCE) {
        let (review_id, items) = (review.id.clone(), some.to_vec());
        let ask = RecordReviewVerificationRequest { review_id, items, request_id: request_id() };
        let answer = registry
            .ask(ask, |c, r| async move { ReviewServiceClient::new(c).record_review_verification(r).await })
            .await?;
        review = answer.review.unwrap_or(review);
    }
    let row: Row = told::review_row(&review);
    desk.out().one(&proto::dynamic(&review), &row, &told::review_details(&review))?;
    Ok(if is_good { Exit::Done } else { Exit::Unverified })
}

/// What is otherwise than was decided about an item.
async fn difference(
    registry: &Line,
    item: &ReviewItem,
    all: &[ReviewItem],
    now: &WhatCanResponse,
    was: Option<&WhatCanResponse>,
) -> Result<Option<String>, Failure> {
    if now.left_out > 0 {
        return Ok(Some(format!("policy-decision did not tell {} of what the agent may do", now.left_out)));
    }
    let state = item.remediation.as_ref().map_or(RemediationState::Unspecified, wire::Remediation::state);
    if state == RemediationState::Failed {
        let told = item.remediation.as_ref().map(|of| of.told.as_str()).unwrap_or_default();
        return Ok(Some(format!("it could not be changed: {told}")));
    }
    if item.decision() == ReviewDecision::Certify {
        return Ok(was.and_then(|was| lost(item, all, was, now)));
    }
    Ok(match item.reviewed() {
        ReviewedThing::RoleBinding => still_there(item, now).or_else(|| was.and_then(|was| gained(was, now))),
        ReviewedThing::AgentClass => now.reason_code.is_empty().then(|| "the agent works".to_owned()),
        ReviewedThing::DelegationGrant => grant(registry, item).await?,
        ReviewedThing::Unspecified => None,
    })
}

fn name_of(item: &ReviewItem, name: &str) -> String {
    format!("{}/{name}", item.namespace)
}

/// What the agent may do by a binding, for people.
fn by_binding<'w>(answer: &'w WhatCanResponse, name: &str) -> Vec<&'w legate_wire::policy::Entitlement> {
    let rests = |one: &&legate_wire::policy::Entitlement| {
        one.reasons.iter().any(|reason| reason.kind() == ReasonKind::RoleBinding && reason.name == name)
    };
    answer.entitlements.iter().filter(rests).collect()
}

fn permission_of(one: &legate_wire::policy::Entitlement) -> wire::Permission {
    wire::Permission { action: one.action.clone(), resource: one.resource.clone() }
}

fn parsed(of: &wire::Permission) -> Option<Permission> {
    let resource = of.resource.as_ref()?;
    let id = if resource.id.is_empty() { "*" } else { &resource.id };
    let selector = ResourceSelector::parse(&resource.r#type, id, &resource.attributes).ok()?;
    Permission::parse(&of.action, selector).ok()
}

fn is_within(one: &wire::Permission, all: &[wire::Permission]) -> bool {
    let Some(one) = parsed(one) else { return false };
    all.iter().filter_map(parsed).any(|of| of.includes(&one))
}

/// What was taken and is still there.
fn still_there(item: &ReviewItem, now: &WhatCanResponse) -> Option<String> {
    if let Some(one) = by_binding(now, &name_of(item, &item.granted)).first() {
        let text = manifest::permission_text(&permission_of(one));
        return Some(format!("the agent may {text} by the binding {}", item.granted));
    }
    let reduced = item.remediation.as_ref().map(|of| of.reduced_to.as_str()).filter(|name| !name.is_empty())?;
    let beyond = by_binding(now, &name_of(item, reduced)).into_iter().map(permission_of);
    let beyond = beyond.filter(|one| !is_within(one, &item.keep)).map(|one| manifest::permission_text(&one)).next()?;
    Some(format!("the agent may {beyond} by the binding {reduced}, which was not to stay"))
}

/// What the agent may do now and could not before.
fn gained(was: &WhatCanResponse, now: &WhatCanResponse) -> Option<String> {
    let before: Vec<wire::Permission> = was.entitlements.iter().map(permission_of).collect();
    let new = now.entitlements.iter().map(permission_of).find(|one| !is_within(one, &before))?;
    Some(format!("the agent may {} and could not before", manifest::permission_text(&new)))
}

/// What the agent could do by something that it keeps, and may not any more by anything.
fn lost(item: &ReviewItem, all: &[ReviewItem], was: &WhatCanResponse, now: &WhatCanResponse) -> Option<String> {
    if item.reviewed() != ReviewedThing::RoleBinding {
        return None;
    }
    // An agent that was suspended for its class does nothing, whatever it keeps; what it could do is told all the same.
    let after: Vec<wire::Permission> = now.entitlements.iter().map(permission_of).collect();
    let taken: BTreeSet<String> = all
        .iter()
        .filter(|other| other.decision() != ReviewDecision::Certify)
        .map(|other| name_of(other, &other.granted))
        .collect();
    let kept = by_binding(was, &name_of(item, &item.granted)).into_iter();
    let kept = kept.filter(|one| one.certainty() == Certainty::Always && one.until.is_none());
    let kept = kept.filter(|one| !one.reasons.iter().any(|reason| taken.contains(&reason.name)));
    let gone = kept.map(permission_of).find(|one| !is_within(one, &after))?;
    Some(format!("the agent may no longer {}, which it was to keep", manifest::permission_text(&gone)))
}

/// What is left of a grant. What an agent may do for others is asked question by question, so the grant itself is looked at: as the
/// registry has it, at the revision by which policy-decision answers.
async fn grant(registry: &Line, item: &ReviewItem) -> Result<Option<String>, Failure> {
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
        Err(failure) if failure.reason == "OBJECT_NOT_FOUND" => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let Some(Object::DelegationGrant(grant)) = found.object else { return Ok(None) };
    // Another one may have the name since.
    if grant.metadata.as_ref().is_none_or(|metadata| metadata.id != item.granted_id) {
        return Ok(None);
    }
    let left = grant.spec.map(|spec| spec.permissions).unwrap_or_default();
    let beyond = left.iter().find(|one| item.decision() != ReviewDecision::Reduce || !is_within(one, &item.keep));
    Ok(beyond.map(|one| format!("the grant still gives {}", manifest::permission_text(one))))
}
