//! Rounds and items as people read them.

use legate_wire::registry::{
    CloseReviewResponse, Remediation, RemediationState, Review, ReviewDecision, ReviewItem, ReviewedThing,
};

use crate::manifest;
use crate::output::{Row, change_lines, moment};
use crate::proto;

/// The places of a progress bar.
const BAR: u64 = 10;

/// `[######----] 12/20`.
fn progress(review: &Review) -> String {
    let of = review.progress.unwrap_or_default();
    let done = of.items.saturating_sub(of.pending);
    // Full when everything is decided, and not before; empty where there is nothing, or nothing yet.
    let filled = done.saturating_mul(BAR).checked_div(of.items).unwrap_or_default();
    let bar: String = (0..BAR).map(|n| if n < filled { '#' } else { '-' }).collect();
    let late = if review.is_overdue { " OVERDUE" } else { "" };
    format!("[{bar}] {done}/{}{late}", of.items)
}

fn state(review: &Review) -> &'static str {
    proto::word(review.state().as_str_name(), "REVIEW_STATE_")
}

/// A round in a list.
pub(super) fn review_row(review: &Review) -> Row {
    let of = review.progress.unwrap_or_default();
    Row {
        cells: vec![
            ("REVIEW", false, review.id.clone()),
            ("CAMPAIGN", false, format!("{}/{}", review.namespace, review.campaign)),
            ("ROUND", false, review.number.to_string()),
            ("STATE", false, state(review).to_owned()),
            ("DECIDED", false, progress(review)),
            ("DUE", false, moment(review.due_time.as_ref())),
            ("CLOSES", true, moment(review.grace_end_time.as_ref())),
            ("KEEP", true, of.certified.to_string()),
            ("REDUCE", true, of.reduced.to_string()),
            ("REVOKE", true, of.revoked.to_string()),
            ("FAILED", true, of.failed.to_string()),
        ],
        name: review.id.clone(),
        message: proto::dynamic(review),
        node: None,
    }
}

/// A round by itself.
pub(super) fn review_details(review: &Review) -> Vec<(&'static str, String)> {
    let of = review.progress.unwrap_or_default();
    let by = |at: Option<&prost_types::Timestamp>, who: &str, why: &str| {
        at.map(|at| format!("{} by {who}: {why}", moment(Some(at)))).unwrap_or_default()
    };
    let unasked = match of.unasked {
        0 => String::new(),
        many => format!("{many} items: nobody who might be may decide; reassign them, or silence revokes them"),
    };
    let decided =
        format!("{}: {} to keep, {} to reduce, {} to revoke", progress(review), of.certified, of.reduced, of.revoked);
    let came = match (review.close_time, of.remediated, of.failed) {
        (None, ..) => String::new(),
        (_, done, 0) => format!("{done} changed"),
        (_, done, failed) => format!("{done} changed, {failed} FAILED"),
    };
    let came = match of.outgrown {
        0 => came,
        many => format!("{came}, {many} became more than was certified"),
    };
    let looked = if of.verified + of.differing == 0 {
        String::new()
    } else {
        format!("{} as was decided, {} otherwise", of.verified, of.differing)
    };
    vec![
        ("review", review.id.clone()),
        ("campaign", format!("{}/{} round {}", review.namespace, review.campaign, review.number)),
        ("state", state(review).to_owned()),
        ("decided", decided),
        ("nobody asked", unasked),
        ("started", by(review.start_time.as_ref(), &review.started_by, &review.start_reason)),
        ("due", moment(review.due_time.as_ref())),
        ("closes", moment(review.grace_end_time.as_ref())),
        ("escalated", moment(review.escalate_time.as_ref())),
        ("closed", by(review.close_time.as_ref(), &review.closed_by, &review.close_reason)),
        ("written", came),
        ("verified", looked),
        ("etag", review.etag.clone()),
    ]
}

fn decision(of: ReviewDecision) -> &'static str {
    match of {
        ReviewDecision::Unspecified => "PENDING",
        other => proto::word(other.as_str_name(), "REVIEW_DECISION_"),
    }
}

/// What an agent has, in a few words.
fn what(item: &ReviewItem) -> String {
    match item.reviewed() {
        ReviewedThing::RoleBinding if item.group.is_empty() => format!("binding {} ({})", item.granted, item.role),
        ReviewedThing::RoleBinding => format!("binding {} ({}) by group {}", item.granted, item.role, item.group),
        ReviewedThing::AgentClass => format!("class {}", item.granted),
        ReviewedThing::DelegationGrant => format!("grant {} of {}", item.granted, item.role),
        ReviewedThing::Unspecified => item.granted.clone(),
    }
}

fn permissions(item: &ReviewItem) -> String {
    item.permissions.iter().map(manifest::permission_text).collect::<Vec<_>>().join(", ")
}

fn used(item: &ReviewItem) -> String {
    match &item.evidence {
        // What gives nothing itself, as a class may, is not used.
        _ if item.permissions.is_empty() => String::new(),
        None => "not known".to_owned(),
        Some(of) if of.uses == 0 => format!("never since {}", moment(of.from_time.as_ref())),
        Some(of) => {
            let plural = if of.uses == 1 { "" } else { "s" };
            let unused = if of.is_unused { ": UNUSED" } else { "" };
            format!("{} use{plural}, last {}{unused}", of.uses, moment(of.last_use_time.as_ref()))
        }
    }
}

fn earlier(item: &ReviewItem) -> String {
    match &item.earlier {
        None => "first time".to_owned(),
        Some(of) => format!("{} {}", decision(of.decision()), moment(of.decide_time.as_ref())),
    }
}

fn decided(item: &ReviewItem) -> String {
    let word = decision(item.decision());
    if item.decision() == ReviewDecision::Unspecified && item.reviewers.is_empty() {
        return format!("{word}: NOBODY IS ASKED");
    }
    if item.keep.is_empty() {
        return word.to_owned();
    }
    let keep = item.keep.iter().map(manifest::permission_text).collect::<Vec<_>>();
    format!("{word} to {}", keep.join(", "))
}

fn came(item: &ReviewItem) -> String {
    let Some(Remediation { told, revision, .. }) = &item.remediation else { return String::new() };
    let of = item.remediation.as_ref().map_or(RemediationState::Unspecified, Remediation::state);
    let word = proto::word(of.as_str_name(), "REMEDIATION_STATE_");
    let at = if *revision == 0 { String::new() } else { format!(" at revision {revision}") };
    if told.is_empty() { format!("{word}{at}") } else { format!("{word}{at}: {told}") }
}

fn verified(item: &ReviewItem) -> String {
    match &item.verification {
        None => String::new(),
        Some(of) if of.verified => "VERIFIED".to_owned(),
        Some(of) => format!("DIFFERS: {}", of.difference),
    }
}

/// An item in a list.
pub(super) fn item_row(item: &ReviewItem) -> Row {
    let changed = match item.changes.as_slice() {
        [] if item.has_changed => " (changed since)".to_owned(),
        [] => String::new(),
        [one] => format!(" (changed since: {one})"),
        [first, rest @ ..] => format!(" (changed since: {first}; and {} more)", rest.len()),
    };
    Row {
        cells: vec![
            ("ITEM", false, item.id.clone()),
            ("AGENT", false, item.agent.clone()),
            ("HAS", false, format!("{}{changed}", what(item))),
            ("GIVEN BY", false, format!("{} {}", item.granted_by, moment(item.grant_time.as_ref()))),
            ("USED", false, used(item)),
            ("BEFORE", false, earlier(item)),
            ("DECISION", false, decided(item)),
            ("GIVES", true, permissions(item)),
            ("CHANGES", true, item.changes.join("; ")),
            ("WHY", true, item.grant_reason.clone()),
            ("REVIEWERS", true, item.reviewers.join(" ")),
            ("DECIDED BY", true, item.decided_by.clone()),
            ("CAME OF IT", true, came(item)),
            ("VERIFIED", true, verified(item)),
            ("DRIFT", true, item.drift.join("; ")),
            ("EXPLAIN", true, item.explain.clone()),
            ("ETAG", true, item.etag.clone()),
        ],
        name: item.id.clone(),
        message: proto::dynamic(item),
        node: None,
    }
}

/// The heads of an export for spreadsheets.
pub(super) const HEADS: [&str; 27] = [
    "item",
    "review",
    "namespace",
    "agent",
    "agent_id",
    "thing",
    "granted",
    "group",
    "role_or_delegator",
    "permissions",
    "given_time",
    "given_by",
    "given_reason",
    "uses",
    "last_use",
    "unused",
    "drift",
    "explain",
    "earlier",
    "reviewers",
    "decision",
    "decided_by",
    "decide_time",
    "decide_reason",
    "came_of_it",
    "verified",
    "changes",
];

/// An item as cells under these heads.
pub(super) fn cells(item: &ReviewItem) -> [String; 27] {
    let evidence = item.evidence.as_ref();
    [
        item.id.clone(),
        item.review_id.clone(),
        item.namespace.clone(),
        item.agent.clone(),
        item.agent_id.clone(),
        proto::word(item.reviewed().as_str_name(), "REVIEWED_THING_").to_owned(),
        item.granted.clone(),
        item.group.clone(),
        item.role.clone(),
        permissions(item),
        moment(item.grant_time.as_ref()),
        item.granted_by.clone(),
        item.grant_reason.clone(),
        evidence.map(|of| of.uses.to_string()).unwrap_or_default(),
        evidence.map(|of| moment(of.last_use_time.as_ref())).unwrap_or_default(),
        evidence.map(|of| of.is_unused.to_string()).unwrap_or_default(),
        item.drift.join("; "),
        item.explain.clone(),
        earlier(item),
        item.reviewers.join(" "),
        decided(item),
        item.decided_by.clone(),
        moment(item.decide_time.as_ref()),
        item.decide_reason.clone(),
        came(item),
        verified(item),
        item.changes.join("; "),
    ]
}

/// What closing a round would change.
pub(super) fn preview_lines(answer: &CloseReviewResponse) -> Vec<String> {
    let words = ["would be made", "would change", "stays", "would be taken back"];
    let mut lines = if answer.changes.is_empty() { Vec::new() } else { change_lines(&answer.changes, words) };
    lines.extend(answer.suspended.iter().map(|agent| format!("suspend {agent}")));
    lines.extend(answer.outgrown.iter().map(|item| format!("{item} is certified and has become more since")));
    if answer.is_cut {
        lines.push("and more than is told here".to_owned());
    }
    if lines.is_empty() {
        lines.push("nothing would change".to_owned());
    }
    lines
}
