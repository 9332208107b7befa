//! What an agent may ask a person to approve, as far as that can be said without looking at anything else.

use legate_ids::Action;
use legate_wire::registry::RequestApprovalRequest;

use super::findings::Findings;
use super::{selector, uri};
use crate::domain::approval::{LONGEST, LONGEST_MESSAGE, PATIENCE, SHORTEST};
use crate::domain::problem::Problem;
use crate::domain::text::Lines;

/// The most permissions of one request: somebody has to read them.
const PERMISSIONS: usize = 16;

/// What is wrong with a request.
pub(crate) fn check_approval(ask: &RequestApprovalRequest) -> Vec<Problem> {
    let mut findings = Findings::default();
    if ask.permissions.is_empty() {
        findings.add("permissions", "is empty; give 1 to 16");
    }
    if findings.at_most("permissions", ask.permissions.len(), PERMISSIONS) {
        let is_action = |text: &str| Action::parse(text).map(drop).map_err(|e| e.to_string());
        selector::permissions("permissions", &ask.permissions, &mut findings, is_action);
    }
    if !ask.audience.is_empty()
        && let Some(why) = uri::fault_in(&ask.audience)
    {
        findings.add("audience", why);
    }
    findings.required("purpose", &ask.purpose, Lines::Many);
    findings.text_within("binding_message", &ask.binding_message, LONGEST_MESSAGE, Lines::One);
    findings.span("duration", ask.duration, SHORTEST..=LONGEST, "1 minute to 24 hours");
    findings.span("patience", ask.patience, PATIENCE, "30 seconds to 24 hours");
    findings.required("reason", &ask.reason, Lines::Many);
    findings.into()
}
