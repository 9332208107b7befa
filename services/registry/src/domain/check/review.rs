//! What may be declared of a review campaign.

use std::time::Duration;

use legate_filter::{Filter, Scope};
use legate_ids::Name;
use legate_wire::registry::{
    ItemDecision, OnSilence, ReviewCampaignSpec, ReviewDecision, ReviewedThing, ReviewerRule, VerifiedItem,
};

use super::findings::{Findings, LIST};
use super::selector::{is_pattern, permissions};
use crate::domain::problem::Problem;
use crate::domain::text::{self, Lines, quoted};

/// The most people and groups of whom operators are named.
const PEOPLE: usize = 256;
/// The most days between two rounds: ten years.
const EVERY: u32 = 3_660;
/// The longest that reviewers have, and the longest grace.
const LONGEST: Duration = Duration::from_secs(90 * 86_400);
/// The shortest that reviewers have.
const SHORTEST: Duration = Duration::from_secs(1);
const DAY: u64 = 86_400;

pub(super) fn check(spec: &ReviewCampaignSpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    if !spec.selector.is_empty() {
        if let Some(why) = text::fault_in(&spec.selector, legate_filter::LONGEST, Lines::Many) {
            findings.add("spec.selector", why);
        } else if let Err(e) = Filter::parse(&spec.selector, Scope::Selector) {
            findings.add("spec.selector", format!("is refused: {e}"));
        }
    }
    findings.texts("spec.groups", &spec.groups, LIST, Findings::name);
    findings.texts("spec.agent_classes", &spec.agent_classes, LIST, Findings::name);
    let things = "REVIEWED_THING_ROLE_BINDING, REVIEWED_THING_AGENT_CLASS or REVIEWED_THING_DELEGATION_GRANT";
    findings.choices::<ReviewedThing>("spec.reviews", &spec.reviews, things);
    let rules = "REVIEWER_RULE_SPONSORS, REVIEWER_RULE_OWNERS or REVIEWER_RULE_NAMED";
    findings.choice::<ReviewerRule>("spec.reviewers", spec.reviewers, true, rules);
    let is_named = spec.reviewers() == ReviewerRule::Named;
    if spec.reviewers() != ReviewerRule::Unspecified && is_named == spec.named_reviewers.is_empty() {
        let why = if is_named { "is empty; give 1 to 64" } else { "is given, and spec.reviewers is not NAMED" };
        findings.add("spec.named_reviewers", why);
    }
    findings.texts("spec.named_reviewers", &spec.named_reviewers, LIST, reviewer);
    findings.texts("spec.escalation", &spec.escalation, LIST, reviewer);
    people(spec, findings);
    findings.moment("spec.start_time", spec.start_time);
    if spec.every_days > EVERY {
        findings.add("spec.every_days", format!("is {}; give 0 to {EVERY}", spec.every_days));
    }
    if spec.due.is_none() {
        findings.add("spec.due", "is missing; give 1 second to 90 days");
    }
    findings.span("spec.due", spec.due, SHORTEST..=LONGEST, "1 second to 90 days");
    findings.span("spec.grace", spec.grace, Duration::ZERO..=LONGEST, "0 to 90 days");
    rounds_apart(spec, findings);
    findings.choice::<OnSilence>("spec.on_silence", spec.on_silence, false, "ON_SILENCE_REVOKE or ON_SILENCE_ESCALATE");
    if spec.on_silence() == OnSilence::Escalate && spec.escalation.is_empty() {
        findings.add("spec.escalation", "is empty, and spec.on_silence escalates to it; give 1 to 64");
    }
}

/// One round ends before the next one starts, or it would be left out.
fn rounds_apart(spec: &ReviewCampaignSpec, findings: &mut Findings) {
    let seconds = |of: Option<prost_types::Duration>| of.and_then(|of| u64::try_from(of.seconds).ok());
    let (Some(due), every) = (seconds(spec.due), u64::from(spec.every_days) * DAY) else { return };
    if every > 0 && due > every {
        findings.add("spec.every_days", "is shorter than spec.due; a round has to end before the next one starts");
    }
}

/// Who may be asked: an operator, a person, or a group of people.
fn reviewer(findings: &mut Findings, path: &str, who: &str) {
    match who.strip_prefix("operator:") {
        None => findings.principal(path, who),
        Some(name) => {
            if let Err(e) = Name::parse(name) {
                findings.add(path, format!("{} names no operator: {e}", quoted(who)));
            }
        }
    }
}

fn people(spec: &ReviewCampaignSpec, findings: &mut Findings) {
    if !findings.at_most("spec.people", spec.people.len(), PEOPLE) {
        return;
    }
    for (n, one) in spec.people.iter().enumerate() {
        let path = format!("spec.people[{n}]");
        findings.principal(&format!("{path}.who"), &one.who);
        if spec.people.iter().take(n).any(|before| before.who == one.who) {
            findings.add(format!("{path}.who"), format!("{} is given twice", quoted(&one.who)));
        }
        if one.operators.is_empty() {
            findings.add(format!("{path}.operators"), format!("is empty; give 1 to {LIST}"));
        }
        findings.texts(&format!("{path}.operators"), &one.operators, LIST, Findings::name);
    }
}

/// What is wrong with decisions about items: 1 to `most`, none twice, each with what it takes.
pub(crate) fn check_item_decisions(asked: &[ItemDecision], most: usize) -> Vec<Problem> {
    let mut findings = Findings::default();
    let ids: Vec<String> = asked.iter().map(|one| one.item_id.clone()).collect();
    each_once("decisions", &ids, most, &mut findings);
    for (n, one) in asked.iter().enumerate().take(most) {
        let path = format!("decisions[{n}]");
        let words =
            "REVIEW_DECISION_CERTIFY, REVIEW_DECISION_REDUCE, REVIEW_DECISION_REVOKE or REVIEW_DECISION_REASSIGN";
        findings.choice::<ReviewDecision>(&format!("{path}.decision"), one.decision, true, words);
        if one.decision() == ReviewDecision::Reduce {
            permissions(&format!("{path}.keep"), &one.keep, &mut findings, is_pattern);
        } else if !one.keep.is_empty() {
            findings.add(format!("{path}.keep"), "is given, and the decision is not REDUCE");
        }
        if one.decision() == ReviewDecision::Reassign {
            reviewer(&mut findings, &format!("{path}.reassign_to"), &one.reassign_to);
        } else if !one.reassign_to.is_empty() {
            findings.add(format!("{path}.reassign_to"), "is given, and the decision is not REASSIGN");
        }
    }
    findings.into()
}

/// What is wrong with what was found of items: 1 to `most`, none twice, and said where it differs.
pub(crate) fn check_verified_items(found: &[VerifiedItem], most: usize) -> Vec<Problem> {
    let mut findings = Findings::default();
    let ids: Vec<String> = found.iter().map(|one| one.item_id.clone()).collect();
    each_once("items", &ids, most, &mut findings);
    for (n, one) in found.iter().enumerate().take(most) {
        let path = format!("items[{n}].difference");
        if !one.verified {
            findings.required(&path, &one.difference, Lines::Many);
        } else if !one.difference.is_empty() {
            findings.add(path, "is given, and the item is verified");
        }
    }
    findings.into()
}

fn each_once(path: &str, ids: &[String], most: usize, findings: &mut Findings) {
    if ids.is_empty() {
        findings.add(path, format!("is empty; give 1 to {most}"));
    }
    findings.texts(path, ids, most, |_, _, _| {});
}
