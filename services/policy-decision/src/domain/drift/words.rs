//! Findings as they are told: how bad, by rule, and in a sentence.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_view::{Agent, DelegationGrant};

use super::baseline::Approval;
use super::evidence::Uses;
use super::granted::Granted;
use super::hand::Hand;
use super::{Finding, Kind, Known, Proof, Severity};
use crate::domain::answer::{Cause, CauseKind};

fn is_risky(agent: &Agent) -> bool {
    matches!(agent.nature.risk_tier, "high" | "critical")
}

fn days(of: Duration) -> u64 {
    of.as_secs() / 86_400
}

fn silent(uses: &Uses, since: Timestamp, threshold: Duration) -> String {
    let threshold = days(threshold);
    let by_rhythm = match uses.interval_days {
        0 | 1 => String::new(),
        interval => format!(" (it was used up to {interval} days apart)"),
    };
    match uses.last {
        Some(last) => {
            format!("last used {last}, which is over {threshold} days before the end of the evidence{by_rhythm}")
        }
        None => format!("not used since {since}, as far as the evidence reaches: over {threshold} days"),
    }
}

/// A permission that was not used.
pub(super) fn unused(agent: &Agent, one: &Granted, uses: Uses, since: Timestamp, threshold: Duration) -> Finding {
    let severity = match (is_risky(agent), one.cell.is_pattern()) {
        (true, true) => Severity::High,
        (true, false) | (false, true) => Severity::Medium,
        (false, false) => Severity::Low,
    };
    Finding {
        kind: Kind::Unused,
        severity,
        cell: Some(one.cell.clone()),
        objects: one.sources.clone(),
        uses,
        since: Some(since),
        threshold: Some(threshold),
        text: format!("{} may do {}: {}", agent.label.name, one.cell, silent(&uses, since, threshold)),
        proof: Proof::None,
    }
}

/// An agent that does nothing.
pub(super) fn dormant(agent: &Agent, known: &Known, since: Timestamp, threshold: Duration) -> Finding {
    let uses = known.used.iter().fold(Uses::default(), |all, used| all.and(used.uses));
    let uses = Uses { last: uses.last.max(known.last), ..uses };
    Finding {
        kind: Kind::DormantAgent,
        severity: if is_risky(agent) { Severity::High } else { Severity::Medium },
        cell: None,
        objects: Vec::new(),
        uses,
        since: Some(since),
        threshold: Some(threshold),
        text: format!(
            "{} is ACTIVE and obtained and used nothing: {}",
            agent.label.name,
            silent(&uses, since, threshold)
        ),
        proof: Proof::None,
    }
}

/// A permission above a ceiling.
pub(super) fn exceeds(agent: &Agent, one: &Granted, ceilings: Vec<Cause>) -> Finding {
    Finding {
        kind: Kind::ExceedsClass,
        severity: Severity::Low,
        cell: Some(one.cell.clone()),
        objects: one.sources.iter().cloned().chain(ceilings).collect(),
        uses: Uses::default(),
        since: one.since,
        threshold: None,
        text: format!(
            "{} is given {}, which is above a ceiling: it has no effect until that is raised",
            agent.label.name, one.cell
        ),
        proof: Proof::None,
    }
}

/// A permission that boundaries cut.
pub(super) fn conflict(agent: &Agent, one: &Granted, cuts: Vec<Cause>) -> Finding {
    Finding {
        kind: Kind::BoundaryConflict,
        severity: Severity::Low,
        cell: Some(one.cell.clone()),
        objects: one.sources.iter().cloned().chain(cuts).collect(),
        uses: Uses::default(),
        since: one.since,
        threshold: None,
        text: format!(
            "{} is given {}, which a boundary cuts whatever is stated: it has no effect until that is moved",
            agent.label.name, one.cell
        ),
        proof: Proof::None,
    }
}

/// A grant by which nothing is done.
pub(super) fn dormant_grant(
    agent: &Agent,
    grant: &DelegationGrant,
    uses: Uses,
    since: Timestamp,
    threshold: Duration,
) -> Finding {
    let text = format!("lets {} act for {}", agent.label.name, grant.delegator);
    Finding {
        kind: Kind::DormantGrant,
        severity: if is_risky(agent) { Severity::High } else { Severity::Medium },
        cell: None,
        objects: vec![Cause::of(CauseKind::Grant, &grant.label, text)],
        uses,
        since: Some(since),
        threshold: Some(threshold),
        text: format!(
            "the delegation grant {} lets {} act for {}: {}",
            grant.label.name,
            agent.label.name,
            grant.delegator,
            silent(&uses, since, threshold)
        ),
        proof: Proof::None,
    }
}

/// A permission beyond what was approved.
pub(super) fn beyond(agent: &Agent, one: &Granted, approval: Approval) -> Finding {
    let by = if approval.by.is_empty() { "by silence" } else { approval.by.as_str() };
    let what = match (approval.time, approval.review.as_str()) {
        (Some(time), "") => format!("what {by} approved at {time}"),
        (Some(time), review) => format!("what {by} decided at {time} in the review {review}"),
        (None, _) => "what was approved".to_owned(),
    };
    Finding {
        kind: Kind::ExceedsApproval,
        severity: if is_risky(agent) { Severity::High } else { Severity::Medium },
        cell: Some(one.cell.clone()),
        objects: one.sources.clone(),
        uses: Uses::default(),
        since: one.since,
        threshold: None,
        text: format!("{} is given {}, which goes beyond {what}", agent.label.name, one.cell),
        proof: Proof::Approval(approval),
    }
}

/// Something that was last written by hand.
pub(super) fn by_hand(agent: &Agent, what: &str, object: Cause, hand: &Hand) -> Finding {
    let why = if hand.reason.is_empty() { String::new() } else { format!(": {}", hand.reason) };
    Finding {
        kind: Kind::OutsideCode,
        severity: if is_risky(agent) { Severity::High } else { Severity::Medium },
        cell: None,
        text: format!(
            "{what} {} was last written by {} at {}, who is no pipeline of the namespace{why}",
            object.name,
            hand.actor,
            hand.time.map(|time| time.to_string()).unwrap_or_default()
        ),
        objects: vec![object],
        uses: Uses::default(),
        since: hand.time,
        threshold: None,
        proof: Proof::Hand(hand.clone()),
    }
}
