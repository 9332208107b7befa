//! What is said of items beside what the registry keeps: for how long something has to be silent, and what policy-decision finds about it.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::{Clock as _, SystemClock};
use legate_wire::policy::{DriftFinding, ListDriftRequest};
use legate_wire::registry::ReviewItem;

use crate::Failure;
use crate::cli::ReviewEvidence;
use crate::command::{Desk, drift, query};
use crate::error::USAGE;
use crate::output::say;

/// Agents that policy-decision is asked about one by one; of more, the whole namespace.
const ONE_BY_ONE: usize = 8;
const DAY: u64 = 86_400;

/// For how many days something has to be silent to be unused; 0: as the registry has it.
pub(super) fn days(evidence: &ReviewEvidence) -> Result<u32, Failure> {
    if evidence.without_evidence {
        return Ok(0);
    }
    let now = SystemClock::new().now();
    let since = query::moment("--since", &evidence.since, now)?;
    let days = now.since(since).as_secs().div_ceil(DAY);
    let within = u32::try_from(days).ok().filter(|days| (7..=400).contains(days));
    within.ok_or_else(|| Failure::local(&USAGE, format!("--since {:?} is not 7 to 400 days ago", evidence.since)))
}

/// Fills in what policy-decision finds about each agent that concerns what the item is about. Where it cannot be asked that is said.
pub(super) async fn with_drift(desk: &Desk, items: &mut [ReviewItem], days: u32) {
    let agents: BTreeSet<String> = items.iter().map(|item| item.agent_id.clone()).collect();
    let Some(first) = items.first() else { return };
    let unused_after = Some(prost_types::Duration { seconds: i64::from(days) * DAY.cast_signed(), nanos: 0 });
    let ask = |agent_id: String, namespace: String| ListDriftRequest {
        agent_id,
        namespace,
        unused_after: unused_after.filter(|_| days > 0),
        ..ListDriftRequest::default()
    };
    let asks: Vec<ListDriftRequest> = if agents.len() <= ONE_BY_ONE {
        agents.into_iter().map(|agent| ask(agent, String::new())).collect()
    } else {
        vec![ask(String::new(), first.namespace.clone())]
    };
    let mut found: BTreeMap<String, Vec<DriftFinding>> = BTreeMap::new();
    for ask in asks {
        match drift::all(desk, ask, 0).await {
            Ok(told) => {
                for finding in told.findings {
                    found.entry(finding.agent_id.clone()).or_default().push(finding);
                }
            }
            // An agent may be gone since.
            Err(failure) if failure.reason == "AGENT_UNKNOWN" => {}
            Err(failure) => {
                say(&format!("what policy-decision finds about them is not known: {failure}"));
                return;
            }
        }
    }
    for item in items {
        let about = |finding: &&DriftFinding| finding.objects.iter().any(|object| object.id == item.granted_id);
        let all = found.get(&item.agent_id).into_iter().flatten();
        item.drift = all.filter(about).map(|finding| finding.text.clone()).collect();
    }
}

/// Whether an item gives something and nothing of that was used, for as long as was asked and as far as that is known. A class that gives nothing itself says
/// nothing about whether the agent works.
pub(super) fn is_unused(item: &ReviewItem) -> bool {
    !item.permissions.is_empty() && item.evidence.as_ref().is_some_and(|evidence| evidence.is_unused)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn for_how_long_is_whole_days_within_what_is_kept() {
        let of = |since: &str, without_evidence| days(&ReviewEvidence { since: since.into(), without_evidence });
        assert_eq!(of("90d", false).unwrap(), 90);
        assert_eq!(of("1d", true).unwrap(), 0);
        for bad in ["1d", "500d"] {
            assert_eq!(of(bad, false).unwrap_err().reason, "USAGE", "{bad}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_unused() {
        let mut item = ReviewItem { permissions: vec![Default::default()], ..ReviewItem::default() };
        assert!(!is_unused(&item));
        item.evidence = Some(legate_wire::registry::ReviewEvidence { is_unused: true, ..Default::default() });
        assert!(is_unused(&item));
        item.permissions.clear();
        assert!(!is_unused(&item));
    }
}
