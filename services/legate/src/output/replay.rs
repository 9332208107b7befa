//! Which recorded decisions are not what the history makes of them, for people.

use legate_wire::policy::{Decision, ReplayResponse, ReplayedDecision};

use super::because;
use super::escape::visible;
use super::simulation::grouped;

/// Policies on which unsure ones hang that are told.
const TOLD: usize = 10;

/// The whole replay.
pub(crate) fn replay_lines(of: &ReplayResponse) -> Vec<String> {
    let (differ, all) = (grouped(of.differ), grouped(of.decisions));
    let mut lines =
        vec![format!("{differ} of {all} recorded decisions are not what the registry's history makes of them.")];
    lines.push(format!("  {} come out as they are recorded", grouped(of.same)));
    if of.unsure > 0 {
        let text = "hang on arguments that their records do not hold";
        let on: Vec<String> = of.unsure_on.iter().take(TOLD).map(because).collect();
        lines.push(visible(&format!("  {} {text}: {}", grouped(of.unsure), on.join("; "))).to_string());
    }
    if of.not_judged > 0 {
        lines.push(format!("  {} rest on what no history holds, such as a token", grouped(of.not_judged)));
    }
    if of.not_kept > 0 {
        lines.push(format!("  {} are of revisions that the registry keeps no longer", grouped(of.not_kept)));
    }
    lines.extend(of.differing.iter().map(|one| format!("  {}", visible(&line(one)))));
    let more = of.differ.saturating_sub(of.differing.len() as u64);
    if more > 0 {
        lines.push(format!("  and {} more", grouped(more)));
    }
    lines
}

/// `leaf 7, revision 3: payments/invoice-bot invoice:read on Invoice:apollo/1 is recorded as allowed: the agent is suspended`.
fn line(one: &ReplayedDecision) -> String {
    let who = if one.name.is_empty() { one.agent_id.clone() } else { format!("{}/{}", one.namespace, one.name) };
    let whom = if one.subject.is_empty() { String::new() } else { format!(" for {}", one.subject) };
    let recorded = match one.recorded() {
        Decision::Allow => "allowed".to_owned(),
        _ => format!("denied ({})", one.recorded_reason_code),
    };
    let why = one.reasons.iter().map(because).collect::<Vec<_>>().join("; ");
    let what = format!("{} on {}:{}", one.action, one.resource_type, one.resource_id);
    let (leaf, revision) = (one.leaf_index, one.revision);
    format!("leaf {leaf}, revision {revision}: {who}{whom} {what} is recorded as {recorded}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_with_its_leaf_and_hostile_texts_do_no_harm() {
        let one = ReplayedDecision {
            leaf_index: 7,
            revision: 3,
            namespace: "payments".into(),
            name: "invoice-bot".into(),
            action: "invoice:read".into(),
            resource_type: "Invoice".into(),
            resource_id: "apollo/1\u{1b}[2J".into(),
            recorded: Decision::Allow.into(),
            ..ReplayedDecision::default()
        };
        let whole =
            ReplayResponse { decisions: 41_233, same: 41_230, differ: 3, differing: vec![one], ..Default::default() };
        let lines = replay_lines(&whole).join("\n");
        assert!(lines.starts_with("3 of 41,233 recorded decisions are not"), "{lines}");
        assert!(lines.contains("leaf 7, revision 3: payments/invoice-bot invoice:read on Invoice:apollo/1"), "{lines}");
        assert!(lines.contains("is recorded as allowed") && !lines.contains('\u{1b}'), "{lines}");
        assert!(lines.ends_with("and 2 more"), "{lines}");
    }
}
