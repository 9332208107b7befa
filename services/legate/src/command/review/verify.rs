//! What policy-decision does after a round is held against what was decided, and recorded on the items.
//!
//! Of each agent: nothing that it may do rests on what was taken; what rests on what stays of a reduced thing, and on what was certified,
//! is within that; and by what the round wrote it gained nothing, and lost nothing that rests on what it keeps. How it was before is asked
//! as of the revision before, so it makes no difference when and by whom the round was closed.

use std::collections::{BTreeMap, BTreeSet};

use legate_wire::policy::{Certainty, Entitlement, ReasonKind, WhatCanRequest, WhatCanResponse};
use legate_wire::registry as wire;
use wire::as_of::At;
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

/// What an agent could do before the round wrote something of it, and after that.
#[derive(Debug)]
struct Written {
    before: WhatCanResponse,
    after: WhatCanResponse,
}

/// What the round wrote of an agent, write by write; none where it wrote nothing, or the past is no longer kept. What others wrote between is in none of them.
async fn written(desk: &Desk, agent: &str, items: &[ReviewItem]) -> Result<Vec<Written>, Failure> {
    let revisions = items.iter().filter_map(|item| item.remediation.as_ref()).map(|of| of.revision);
    let revisions: BTreeSet<u64> = revisions.filter(|revision| *revision > 0).collect();
    let mut all: Vec<(u64, Written)> = Vec::new();
    for revision in revisions {
        let earlier = all.last().filter(|(last, _)| last + 1 == revision).map(|(_, written)| written.after.clone());
        let asked = match earlier {
            Some(before) => Ok(before),
            None => then(desk, agent, At::Revision(revision.saturating_sub(1))).await,
        };
        let asked = match asked {
            Ok(before) => then(desk, agent, At::Revision(revision)).await.map(|after| Written { before, after }),
            Err(failure) => Err(failure),
        };
        match asked {
            Ok(written) => all.push((revision, written)),
            Err(failure) if failure.exit == Exit::Unavailable => return Err(failure),
            Err(failure) => {
                let first = items.first().map(|item| item.agent.as_str()).unwrap_or_default();
                say(&format!("what {first} could do before is not known: {failure}"));
                return Ok(Vec::new());
            }
        }
    }
    for ((one, before), (next, after)) in all.iter().zip(all.iter().skip(1)) {
        if let Some(what) = new_in(&before.after, &after.before) {
            let first = items.first().map(|item| item.agent.as_str()).unwrap_or_default();
            say(&format!(
                "{first} may {what} by what somebody else wrote between the revisions {one} and {next}, and not by this round"
            ));
        }
    }
    Ok(all.into_iter().map(|(_, written)| written).collect())
}

/// What an agent could do then, as if it were ACTIVE.
async fn then(desk: &Desk, agent: &str, at: At) -> Result<WhatCanResponse, Failure> {
    let as_of = Some(AsOf { at: Some(at) });
    let ask = WhatCanRequest { agent_id: agent.to_owned(), as_of, if_active: true, ..WhatCanRequest::default() };
    ask_what_can(desk, ask).await
}

/// Whether it was as decided when the round ended: then what is otherwise now somebody else wrote.
async fn is_later(desk: &Desk, review: &Review, item: &ReviewItem) -> bool {
    let Some(end) = review.end_time else { return false };
    match then(desk, &item.agent_id, At::Time(end)).await {
        Ok(then) => then.left_out == 0 && as_decided(item, &then).is_none(),
        Err(_) => false,
    }
}

/// Looks, records what was found, and tells it.
pub(super) async fn run(desk: &Desk, registry: &Line, review: Review) -> Result<Exit, Failure> {
    let mut by_agent: BTreeMap<String, Vec<ReviewItem>> = BTreeMap::new();
    for item in items(desk, registry, &review.id).await? {
        by_agent.entry(item.agent_id.clone()).or_default().push(item);
    }
    let own = desk.place.operator()?.spiffe_id().map(|id| id.to_string()).unwrap_or_default();
    let (mut review, mut found, mut left) = (review, Vec::new(), 0usize);
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
            let difference = match difference(desk, registry, &review, item, &items, &now, &written).await? {
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
    review: &Review,
    item: &ReviewItem,
    all: &[ReviewItem],
    now: &WhatCanResponse,
    written: &[Written],
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
    if item.reviewed() == ReviewedThing::DelegationGrant {
        return held::difference(desk, registry, item, now.revision).await;
    }
    if let Some(text) = as_decided(item, now) {
        let is_later = is_later(desk, review, item).await;
        let by_others =
            if is_later { "; when the round ended it was as decided, and somebody else wrote that since" } else { "" };
        return Ok(Some(format!("{text}{by_others}")));
    }
    let is_kept = item.decision() == ReviewDecision::Certify;
    let lost = || written.iter().filter(|_| is_kept).find_map(|written| lost(item, all, written));
    let gained =
        || written.iter().filter(|_| is_kept || item.reviewed() == ReviewedThing::RoleBinding).find_map(gained);
    Ok(lost().or_else(gained))
}

/// What is otherwise than was decided, by what an agent may do at some moment.
fn as_decided(item: &ReviewItem, then: &WhatCanResponse) -> Option<String> {
    match item.reviewed() {
        ReviewedThing::DelegationGrant | ReviewedThing::Unspecified => None,
        _ if item.decision() == ReviewDecision::Certify => more(item, then),
        ReviewedThing::RoleBinding => still_there(item, then),
        ReviewedThing::AgentClass => then.reason_code.is_empty().then(|| "the agent works".to_owned()),
    }
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

/// What the agent could do after the round wrote something and not before.
fn gained(written: &Written) -> Option<String> {
    new_in(&written.before, &written.after).map(|what| format!("the agent may {what} and could not before"))
}

/// What is in the one and not in the other.
fn new_in(before: &WhatCanResponse, after: &WhatCanResponse) -> Option<String> {
    let before: Vec<wire::Permission> = before.entitlements.iter().map(permission_of).collect();
    let new = after.entitlements.iter().map(permission_of).find(|one| !held::is_within(one, &before))?;
    Some(manifest::permission_text(&new))
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
