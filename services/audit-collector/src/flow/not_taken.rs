//! Events that were offered and refused are on record: who offered them and why they are not there, a flood of them as a few.

use std::collections::BTreeMap;
use std::time::Duration;

use legate_rpc::{Fault, Reason};
use legate_wire::audit::{AuditEvent, Outcome};
use parking_lot::Mutex;

use super::{Call, Desk, Reader};
use crate::domain::teller::Teller;
use crate::error;
use crate::log::Own;

/// Of one emitter one refusal of a reason is told within this; the next one says how many there were.
const WHILE: Duration = Duration::from_secs(10);

/// Emitters and reasons of which that is kept at once; of others nothing is told but to themselves.
const MOST: usize = 4_096;

/// Why events are refused for what they are, or for how many they are. What is refused since the log cannot take it is told by its
/// alarms, and what is no request of events by nobody.
const TOLD: [&Reason; 10] = [
    &error::AUDIT_EVENT_INVALID,
    &error::AUDIT_EVENT_TOO_LARGE,
    &error::AUDIT_EVENTS_DIFFER,
    &error::AUDIT_NOT_YOURS_TO_TELL,
    &error::AUDIT_PERSONAL_MISMATCH,
    &error::AUDIT_PRODUCER_MISMATCH,
    &error::AUDIT_QUOTA_SPENT,
    &error::AUDIT_SEQUENCE_GAP,
    &error::AUDIT_SIGNATURE_INVALID,
    &error::AUDIT_TIME_IN_FUTURE,
];

/// Counts an offer of the caller's that was refused, and puts it on record where that says something of the caller.
pub(crate) fn note(desk: &Desk, call: &Call, fault: &Fault) {
    let Some(reason) = TOLD.iter().find(|told| told.name == fault.reason()) else { return };
    // Those the log itself counts.
    if ![error::AUDIT_SEQUENCE_GAP.name, error::AUDIT_EVENTS_DIFFER.name].contains(&reason.name) {
        desk.metrics.not_taken(reason.name);
    }
    let text = fault.to_string();
    let why = text.strip_prefix(reason.name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text);
    tell(desk, call, reason, why);
}

/// Puts on record that something was refused for this reason.
pub(super) fn tell(desk: &Desk, call: &Call, reason: &Reason, why: &str) {
    let reason = reason.name;
    let Some(times) = desk.refusals.take(&call.caller, reason, desk.clock.monotonic()) else { return };
    tracing::warn!(caller = call.caller, reason, why, "events are refused");
    let (namespace, agent_id) = match &call.reader {
        Reader::Emitter(Teller::Agent { namespace, id, .. }) => (namespace.to_string(), id.to_string()),
        Reader::Emitter(Teller::Enforcer { namespace }) => (namespace.to_string(), String::new()),
        _ => Default::default(),
    };
    let event = AuditEvent {
        actor: call.caller.clone(),
        namespace,
        agent_id,
        outcome: Outcome::Denied.into(),
        reason_code: reason.to_owned(),
        details: BTreeMap::from([("why".to_owned(), cut(why)), ("times".to_owned(), times.to_string())]),
        ..AuditEvent::default()
    };
    desk.log.tell(Own::from_event("batch.refused", event));
}

/// The longest text that a refusal is told with, in bytes: it may repeat what was offered.
const LONGEST: usize = 512;

fn cut(why: &str) -> String {
    let end = (0..=LONGEST.min(why.len())).rev().find(|at| why.is_char_boundary(*at)).unwrap_or(0);
    why[..end].to_owned()
}

/// Refusals that were told lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<(String, String), (Duration, u64)>>);

impl Refusals {
    /// Whether this one is told: how many it stands for.
    fn take(&self, caller: &str, reason: &str, now: Duration) -> Option<u64> {
        let mut all = self.0.lock();
        let key = (caller.to_owned(), reason.to_owned());
        if all.len() >= MOST && !all.contains_key(&key) {
            all.retain(|_, (since, _)| now.saturating_sub(*since) < 6 * WHILE);
            if all.len() >= MOST {
                return None;
            }
        }
        match all.get_mut(&key) {
            Some((since, left)) if now.saturating_sub(*since) < WHILE => {
                *left += 1;
                None
            }
            Some((since, left)) => {
                let times = *left + 1;
                (*since, *left) = (now, 0);
                Some(times)
            }
            None => {
                all.insert(key, (now, 0));
                Some(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_a_few_events_that_say_how_many() {
        let (all, at) = (Refusals::default(), Duration::from_secs);
        assert_eq!(all.take("a", "R", at(1)), Some(1));
        assert_eq!((2..10).filter_map(|n| all.take("a", "R", at(n))).count(), 0);
        assert_eq!(all.take("b", "R", at(9)), Some(1), "one emitter's flood hides no other");
        assert_eq!(all.take("a", "S", at(9)), Some(1), "and no other reason");
        assert_eq!(all.take("a", "R", at(11)), Some(9));
        assert_eq!(all.take("a", "R", at(60)), Some(1));
        for n in 0..2 * MOST {
            all.take(&n.to_string(), "R", at(60));
        }
        assert!(all.0.lock().len() <= MOST);
        assert_eq!(all.take("late", "R", at(600)), Some(1), "what is over makes room");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"\u{e4}".repeat(600)).len(), 512);
        assert_eq!(cut(&format!("x{}", "\u{e4}".repeat(600))).len(), 511);
    }
}
