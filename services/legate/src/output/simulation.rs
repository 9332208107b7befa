//! Which recorded decisions would flip, for people: the sum, and the first of them.

use legate_wire::policy::{Flip, SimulateResponse};

use super::because;
use super::escape::visible;

/// Flips that are told.
const TOLD: usize = 10;

/// `41,233`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The whole simulation; `window` is as it was asked for.
pub(crate) fn simulation_lines(of: &SimulateResponse, window: &str) -> Vec<String> {
    let flips = of.to_allow + of.to_deny;
    let (all, would) = (grouped(of.decisions), grouped(flips));
    let mut lines = vec![format!("{would} of {all} recorded decisions of the last {} would flip.", visible(window))];
    if flips > 0 {
        lines.push(format!(
            "  {} from allowed to denied, {} from denied to allowed",
            grouped(of.to_deny),
            grouped(of.to_allow)
        ));
    }
    lines.extend(of.unfit.iter().map(|text| format!("  the registry would refuse it: {}", visible(text))));
    if of.unsure > 0 {
        let text = "might flip more: that hangs on arguments that their records do not hold";
        lines.push(format!("  {} {text}", grouped(of.unsure)));
    }
    if of.not_judged > 0 {
        lines.push(format!("  {} could not be judged", grouped(of.not_judged)));
    }
    lines.extend(of.flips.iter().take(TOLD).map(|flip| format!("  {}", visible(&line(flip)))));
    let more = of.flips.len().saturating_sub(TOLD) as u64 + u64::from(of.left_out);
    if more > 0 {
        lines.push(format!("  and {} more (-o json)", grouped(more)));
    }
    lines.push(String::new());
    lines
}

/// `- payments/invoice-bot invoice:read on Invoice:apollo/1, 12 times: policy payments/never@1: forbids it`.
fn line(flip: &Flip) -> String {
    let mark = match (flip.is_unsure, flip.was_allowed) {
        (true, _) => "?",
        (false, true) => "-",
        (false, false) => "+",
    };
    let who = if flip.name.is_empty() { flip.agent_id.clone() } else { format!("{}/{}", flip.namespace, flip.name) };
    let whom = if flip.subject.is_empty() { String::new() } else { format!(" for {}", flip.subject) };
    let reasons = if flip.is_unsure { &flip.depends_on } else { &flip.reasons };
    let why = reasons.iter().map(because).collect::<Vec<_>>().join("; ");
    let what = format!("{} on {}:{}", flip.action, flip.resource_type, flip.resource_id);
    format!("{mark} {who}{whom} {what}, {} times: {why}", grouped(flip.count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_told_with_the_first_flips() {
        let flip = Flip { name: "bot".into(), namespace: "pay".into(), was_allowed: true, count: 3, ..Flip::default() };
        let whole = SimulateResponse { decisions: 41_233, to_deny: 3, flips: vec![flip; 12], ..Default::default() };
        let lines = simulation_lines(&whole, "24h");
        assert_eq!(lines[0], "3 of 41,233 recorded decisions of the last 24h would flip.");
        assert!(lines.iter().any(|line| line.starts_with("  - pay/bot ")), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("and 2 more")), "{lines:?}");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
