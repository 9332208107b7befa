//! Permission drift: what an agent was given, less what it used, with the evidence for it.
//!
//! Findings have a type, and how bad each is, is a rule. Nothing here knows the time but what it is told.

pub(crate) mod baseline;
pub(crate) mod evidence;
pub(crate) mod granted;
pub(crate) mod hand;
pub(crate) mod patch;
mod people;
mod proposal;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_view::{Agent, Snapshot};

use self::baseline::{Approval, Baseline};
use self::evidence::{Evidence, Silence, Uses, judge};
use self::granted::{Granted, granted};
use self::hand::Hand;
use super::answer::{Cause, CauseKind};
use super::preview::cells::Cell;
use super::preview::limits::{Limits, limits};
use super::standing;

pub(crate) use proposal::{NotProposed, Proposal, propose};

/// Findings of one agent that are told.
pub(crate) const TOLD: usize = 200;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Unused,
    DormantAgent,
    ExceedsClass,
    BoundaryConflict,
    Orphaned,
    SponsorGone,
    DormantGrant,
    ExceedsApproval,
    OutsideCode,
}

impl Kind {
    /// Every one.
    pub(crate) const ALL: [Self; 9] = [
        Self::Unused,
        Self::DormantAgent,
        Self::ExceedsClass,
        Self::BoundaryConflict,
        Self::Orphaned,
        Self::SponsorGone,
        Self::DormantGrant,
        Self::ExceedsApproval,
        Self::OutsideCode,
    ];

    /// As metrics name it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unused => "UNUSED",
            Self::DormantAgent => "DORMANT_AGENT",
            Self::ExceedsClass => "EXCEEDS_CLASS",
            Self::BoundaryConflict => "BOUNDARY_CONFLICT",
            Self::Orphaned => "ORPHANED",
            Self::SponsorGone => "SPONSOR_GONE",
            Self::DormantGrant => "DORMANT_GRANT",
            Self::ExceedsApproval => "EXCEEDS_APPROVAL",
            Self::OutsideCode => "GRANTED_OUTSIDE_CODE",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Low,
    Medium,
    High,
}

/// A finding.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    pub(crate) severity: Severity,
    /// The permission that it is about.
    pub(crate) cell: Option<Cell>,
    pub(crate) objects: Vec<Cause>,
    pub(crate) uses: Uses,
    pub(crate) since: Option<Timestamp>,
    pub(crate) threshold: Option<Duration>,
    pub(crate) text: String,
    pub(crate) proof: Proof,
}

/// What a finding rests on beside use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Proof {
    #[default]
    None,
    Approval(Approval),
    Hand(Hand),
}

/// An action on a resource that was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) action: String,
    pub(crate) kind: String,
    /// Which of that type; `*`: any.
    pub(crate) id: String,
    pub(crate) uses: Uses,
}

/// Stands for anything where more was used than is kept apart.
const REST: &str = "*";

/// What is known of an agent beside what is declared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// What was used by it, on its behalf, and by the agents below it: of each type all resources together.
    pub(crate) used: Vec<Used>,
    /// The same, each resource by itself; `None`: that is not known.
    pub(crate) apart: Option<Vec<Used>>,
    /// When it last used or obtained anything itself.
    pub(crate) last: Option<Timestamp>,
    /// Whether more agents are below it than were looked at: what they used is not known.
    pub(crate) is_open: bool,
    /// When its state last changed.
    pub(crate) state_since: Option<Timestamp>,
    pub(crate) orphaned: Option<Timestamp>,
    pub(crate) departed: Vec<String>,
    /// What people approved of it.
    pub(crate) baseline: Baseline,
}

/// What is known of things that several agents may have, by their ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    /// How each delegation grant was used.
    pub(crate) grants: BTreeMap<String, Uses>,
    /// What was last written by hand.
    pub(crate) hands: BTreeMap<String, Hand>,
}

impl Known {
    /// How the permission was used; it may have been used by whatever it speaks of.
    fn uses(&self, cell: &Cell) -> Uses {
        // Of all resources together it is known best how often they were used.
        let of_some = self.apart.as_ref().filter(|_| cell.is_of_some());
        let is_its = |used: &&Used| used.action == REST || cell.is_about(&used.action, &used.kind, &used.id);
        of_some.unwrap_or(&self.used).iter().filter(is_its).fold(Uses::default(), |all, used| all.and(used.uses))
    }
}

/// By what is judged.
#[derive(Clone, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) evidence: &'a Evidence,
    /// For how long something has to be silent, at least.
    pub(crate) minimum: Duration,
    pub(crate) now: Timestamp,
}

/// What came of one agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Examined {
    pub(crate) findings: Vec<Finding>,
    /// What cannot be judged yet.
    pub(crate) not_judged: u32,
}

/// Looks at one agent.
pub(crate) fn examine(
    snapshot: &Snapshot,
    agent: &Agent,
    known: &Known,
    shared: &Shared,
    terms: &Terms<'_>,
) -> Examined {
    let mut examined = Examined::default();
    if people::is_gone(agent) {
        return examined;
    }
    examined.findings.extend(people::findings(agent, known));
    // What does not work holds nothing.
    if standing::judge(snapshot, agent, terms.now).is_some() {
        return examined;
    }
    examined.findings.extend(hand::findings(snapshot, agent, &shared.hands));
    let at_work = at_work(snapshot, agent, known, terms.now);
    let all = granted(snapshot, agent, terms.now);
    examined.not_judged += u32::from(all.is_partial);
    let is_dormant = match dormant(known, at_work, terms) {
        _ if known.is_open => false,
        Silence::Long { since, threshold } => {
            examined.findings.push(words::dormant(agent, known, since, threshold));
            true
        }
        Silence::Used => false,
        Silence::Unknown => {
            examined.not_judged += 1;
            false
        }
    };
    for one in &all.granted {
        let Some(available) = one.since else { continue };
        if one.left.is_empty() {
            examined.findings.push(words::exceeds(agent, one, granted::cut_by(snapshot, agent, &one.cell)));
            continue;
        }
        if let Some(cuts) = conflict(snapshot, agent, one, terms.now) {
            examined.findings.push(words::conflict(agent, one, cuts));
        }
        if !snapshot.inherits(agent)
            && let Some(approval) = known.baseline.beyond(one)
        {
            examined.findings.push(words::beyond(agent, one, approval.clone()));
        }
        // Of an agent that does nothing at all, nothing is used.
        if is_dormant {
            continue;
        }
        match silence(known, one, available.max(at_work), terms) {
            Silence::Long { since, threshold } => {
                examined.findings.push(words::unused(agent, one, known.uses(&one.cell), since, threshold));
            }
            Silence::Used => {}
            Silence::Unknown => examined.not_judged += 1,
        }
    }
    for grant in snapshot.delegation_grants_to(agent) {
        if !grant.window.holds_at(terms.now.micros()) {
            continue;
        }
        let uses = shared.grants.get(&*grant.label.id).copied().unwrap_or_default();
        let begins = grant.window.not_before().map_or(grant.label.updated, Timestamp::from_micros);
        match judge(&uses, begins.max(grant.label.updated).max(at_work), terms.minimum, terms.evidence) {
            Silence::Long { since, threshold } => {
                examined.findings.push(words::dormant_grant(agent, grant, uses, since, threshold));
            }
            Silence::Used => {}
            Silence::Unknown => examined.not_judged += 1,
        }
    }
    examined
}

/// Since when it could do anything: as long as it was stopped, by whatever, it could not.
fn at_work(snapshot: &Snapshot, agent: &Agent, known: &Known, now: Timestamp) -> Timestamp {
    let stopped = snapshot.life_of(agent, now).cutoff();
    agent.label.created.max(known.state_since.unwrap_or_default()).max(stopped.unwrap_or_default())
}

fn dormant(known: &Known, at_work: Timestamp, terms: &Terms<'_>) -> Silence {
    let all = known.used.iter().fold(Uses::default(), |all, used| all.and(used.uses));
    judge(&Uses { last: all.last.max(known.last), ..all }, at_work, terms.minimum, terms.evidence)
}

fn silence(known: &Known, one: &Granted, available: Timestamp, terms: &Terms<'_>) -> Silence {
    if known.is_open {
        return Silence::Unknown;
    }
    judge(&known.uses(&one.cell), available, terms.minimum, terms.evidence)
}

/// The boundaries that leave nothing of it, whatever is stated.
fn conflict(snapshot: &Snapshot, agent: &Agent, one: &Granted, now: Timestamp) -> Option<Vec<Cause>> {
    let mut all: Vec<Cause> = Vec::new();
    for cell in &one.left {
        match cell.question().map(|question| limits(snapshot, agent, &question, now))? {
            Limits::Within(_) => return None,
            Limits::Cut(causes) => all.extend(causes),
        }
    }
    all.sort_by(|a, b| (&a.name, &a.text).cmp(&(&b.name, &b.text)));
    all.dedup();
    all.retain(|cause| cause.kind == CauseKind::Boundary);
    Some(all).filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests;
