//! What policy-decision does after a round is held against what was decided, and recorded on the items.
//!
//! Of each agent: nothing that it may do rests on what was taken; what rests on what stays of a reduced thing, and on what was certified,
//! is within that; and by what the round wrote it gained nothing, and lost nothing that rests on what it keeps. How it was before is asked
//! as of the revision before, so it makes no difference when and by whom the round was closed.

use std::collections::{BTreeMap, BTreeSet};

use legate_wire::policy::{Certainty, Entitlement, ReasonKind, WhatCanRequest, WhatCanResponse};
use legate_wire::registry as wire;
use wire::review_service_client::ReviewServiceClient;
use wire::{
    AsOf, RecordReviewVerificationRequest, RemediationState, Review, ReviewDecision, ReviewItem, ReviewedThing,
    VerifiedItem,
};

use super::{held, told};
use crate::cli::{ReviewEvidence, ReviewWhich};
use crate::command::Desk;
use crate::command::explain::ask_what_can;
use crate::manifest;
use crate::output::{Row, say};
use crate::place::{Line, request_id};
use crate::{Exit, Failure, proto};

/// Items of one request.
const AT_ONCE: usize = 500;
/// The longest that is said of an item.
const LONGEST: usize = 1_024;

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

/// What an agent could do before the round wrote anything of it, and after that.
#[derive(Debug)]
struct Written {
    before: WhatCanResponse,
    after: WhatCanResponse,
}

/// `None` where nothing was written of the agent, or its past is no longer kept.
async fn written(desk: &Desk, agent: &str, items: &[ReviewItem]) -> Result<Option<Written>, Failure> {
    let revisions = items.iter().filter_map(|item| item.remediation.as_ref()).map(|of| of.revision);
    let revisions: BTreeSet<u64> = revisions.filter(|revision| *revision > 0).collect();
    let (Some(first), Some(last)) = (revisions.first(), revisions.last()) else { return Ok(None) };
    let then = async |revision: u64| {
        let as_of = Some(AsOf { at: Some(wire::as_of::At::Revision(revision)) });
        let ask = WhatCanRequest { agent_id: agent.to_owned(), as_of, if_active: true, ..WhatCanRequest::default() };
        ask_what_can(desk, ask).await
    };
    let asked = match then(first.saturating_sub(1)).await {
        Ok(before) => then(*last).await.map(|after| Written { before, after }),
        Err(failure) => Err(failure),
    };
    match asked {
        Ok(written) => Ok(Some(written)),
        Err(failure) if failure.exit == Exit::Unavailable => Err(failure),
        Err(failure) => {
            let first = items.first().map(|item| item.agent.as_str()).unwrap_or_default();
            say(&format!("what {first} could do before is not known: {failure}"));
            Ok(None)
        }
    }
}

/// Looks, records what was found, and tells it.
pub(super) async fn run(desk: &Desk, registry: &Line, review: Review) -> Result<Exit, Failure> {
    let mut by_agent: BTreeMap<String, Vec<ReviewItem>> = BTreeMap::new();
    for item in items(desk, registry, &review.id).await? {
        by_agent.entry(item.agent_id.clone()).or_default().push(item);
    }
    let own = desk.place.operator()?.spiffe_id().map(|id| id.to_string()).unwrap_or_default();
    let (mut found, mut left) = (Vec::new(), 0usize);
    for (agent, items) in by_agent {
        let changed = items.iter().filter_map(|item| item.remediation.as_ref()).map(|of| of.revision);
        let now = match what_can(desk, &agent, changed.max().unwrap_or_default()).await {
            Ok(now) => now,
            Err(failure) if failure.reason == "AGENT_UNKNOWN" => {
                say(&format!("{agent} is no more, and may do nothing"));
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let written = written(desk, &agent, &items).await?;
        for item in &items {
            let difference = match difference(desk, registry, item, &items, &now, written.as_ref()).await? {
                Some(mut text) => {
                    text.truncate(text.floor_char_boundary(LONGEST));
                    say(&format!("{} {}: {text}", item.id, item.agent));
                    text
                }
                None => String::new(),
            };
            let verified = difference.is_empty();
            // Nobody says of what he decided that it is so; that it is not he may.
            if verified && item.decided_by == own {
                left += 1;
                continue;
            }
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
    if left > 0 {
        say(&format!(
            "{left} items that you decided about are as was decided; have somebody else record that: legate review verify {}",
            review.id
        ));
    }
    let row: Row = told::review_row(&review);
    desk.out().one(&proto::dynamic(&review), &row, &told::review_details(&review))?;
    Ok(if is_good { Exit::Done } else { Exit::Unverified })
}

/// What is otherwise than was decided about an item.
async fn difference(
    desk: &Desk,
    registry: &Line,
    item: &ReviewItem,
    all: &[ReviewItem],
    now: &WhatCanResponse,
    written: Option<&Written>,
) -> Result<Option<String>, Failure> {
    if now.left_out > 0 {
        return Ok(Some(format!("policy-decision did not tell {} of what the agent may do", now.left_out)));
    }
    let of = item.remediation.clone().unwrap_or_default();
    match of.state() {
        RemediationState::Failed => return Ok(Some(format!("it could not be changed: {}", of.told))),
        RemediationState::Outgrown => return Ok(Some(of.told)),
        _ => {}
    }
    let gained = || written.and_then(gained);
    if item.reviewed() == ReviewedThing::DelegationGrant {
        return held::difference(desk, registry, item, now.revision).await;
    }
    if item.decision() == ReviewDecision::Certify {
        let lost = || written.and_then(|written| lost(item, all, written));
        return Ok(more(item, now).or_else(lost).or_else(gained));
    }
    Ok(match item.reviewed() {
        ReviewedThing::RoleBinding => still_there(item, now).or_else(gained),
        ReviewedThing::AgentClass => now.reason_code.is_empty().then(|| "the agent works".to_owned()),
        ReviewedThing::DelegationGrant | ReviewedThing::Unspecified => None,
    })
}

fn name_of(item: &ReviewItem, name: &str) -> String {
    format!("{}/{name}", item.namespace)
}

/// What the agent may do by something.
fn by<'w>(answer: &'w WhatCanResponse, kind: ReasonKind, name: &str) -> Vec<&'w Entitlement> {
    let rests = |one: &&Entitlement| one.reasons.iter().any(|reason| reason.kind() == kind && reason.name == name);
    answer.entitlements.iter().filter(rests).collect()
}

fn permission_of(one: &Entitlement) -> wire::Permission {
    wire::Permission { action: one.action.clone(), resource: one.resource.clone() }
}

/// What the agent may do by something that it keeps, and nobody certified.
fn more(item: &ReviewItem, now: &WhatCanResponse) -> Option<String> {
    let (kind, what) = match item.reviewed() {
        ReviewedThing::RoleBinding => (ReasonKind::RoleBinding, "binding"),
        ReviewedThing::AgentClass => (ReasonKind::ClassPermission, "class"),
        ReviewedThing::DelegationGrant | ReviewedThing::Unspecified => return None,
    };
    let all = by(now, kind, &name_of(item, &item.granted)).into_iter().map(permission_of);
    let one = all.into_iter().find(|one| !held::is_certified(one, item))?;
    let text = manifest::permission_text(&one);
    Some(format!("the agent may {text} by the {what} {}, which nobody certified", item.granted))
}

/// What was taken and is still there.
fn still_there(item: &ReviewItem, now: &WhatCanResponse) -> Option<String> {
    if let Some(one) = by(now, ReasonKind::RoleBinding, &name_of(item, &item.granted)).first() {
        let text = manifest::permission_text(&permission_of(one));
        return Some(format!("the agent may {text} by the binding {}", item.granted));
    }
    let reduced = item.remediation.as_ref().map(|of| of.reduced_to.as_str()).filter(|name| !name.is_empty())?;
    let beyond = by(now, ReasonKind::RoleBinding, &name_of(item, reduced)).into_iter().map(permission_of);
    let is_kept = |one: &wire::Permission| held::is_within(one, &item.keep) && held::is_certified(one, item);
    let beyond = beyond.filter(|one| !is_kept(one)).map(|one| manifest::permission_text(&one)).next()?;
    Some(format!("the agent may {beyond} by the binding {reduced}, which was not to stay"))
}

/// What the agent could do after the round was written and not before.
fn gained(written: &Written) -> Option<String> {
    let before: Vec<wire::Permission> = written.before.entitlements.iter().map(permission_of).collect();
    let after = written.after.entitlements.iter().map(permission_of);
    let new = after.into_iter().find(|one| !held::is_within(one, &before))?;
    Some(format!("the agent may {} and could not before", manifest::permission_text(&new)))
}

/// What the agent could do by something that it keeps, and no longer by anything once the round was written.
fn lost(item: &ReviewItem, all: &[ReviewItem], written: &Written) -> Option<String> {
    if item.reviewed() != ReviewedThing::RoleBinding {
        return None;
    }
    // An agent that was suspended for its class does nothing, whatever it keeps; what it could do is told all the same.
    let after: Vec<wire::Permission> = written.after.entitlements.iter().map(permission_of).collect();
    let taken: BTreeSet<String> = all
        .iter()
        .filter(|other| other.decision() != ReviewDecision::Certify)
        .map(|other| name_of(other, &other.granted))
        .collect();
    let kept = by(&written.before, ReasonKind::RoleBinding, &name_of(item, &item.granted)).into_iter();
    let kept = kept.filter(|one| one.certainty() == Certainty::Always && one.until.is_none());
    let kept = kept.filter(|one| !one.reasons.iter().any(|reason| taken.contains(&reason.name)));
    let gone = kept.map(permission_of).find(|one| !held::is_within(one, &after))?;
    Some(format!("the agent may no longer {}, which it was to keep", manifest::permission_text(&gone)))
}
