//! Findings about who answers for an agent.

use legate_view::{Agent, AgentState};

use super::evidence::Uses;
use super::{Finding, Kind, Known, Proof, Severity};

/// Whether it is a tombstone.
pub(super) fn is_gone(agent: &Agent) -> bool {
    agent.state == AgentState::Retired
}

/// Nobody is accountable, or somebody of them has left.
pub(super) fn findings(agent: &Agent, known: &Known) -> Option<Finding> {
    let finding = |kind, severity, since, text| Finding {
        kind,
        severity,
        cell: None,
        objects: Vec::new(),
        uses: Uses::default(),
        since,
        threshold: None,
        text,
        proof: Proof::None,
    };
    let name = &agent.label.name;
    if let Some(since) = known.orphaned {
        let text =
            format!("nobody who is here is accountable for {name} since {since}: every sponsor that it names has left");
        return Some(finding(Kind::Orphaned, Severity::High, Some(since), text));
    }
    if known.departed.is_empty() {
        return None;
    }
    let text = format!("{name} names sponsors who have left: {}", known.departed.join(", "));
    Some(finding(Kind::SponsorGone, Severity::Medium, None, text))
}
