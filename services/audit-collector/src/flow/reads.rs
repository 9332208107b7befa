//! A question over the log is an event of the log; a flood of questions is a few.
//!
//! The first reads of a caller within a while are told one by one, and at once. What comes after them is added up, and told
//! when the while is over: who, what, how often, and how much was shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use legate_rpc::{Fault, is_for_want_of_a_role};
use legate_wire::audit::{AuditEvent, Outcome};
use parking_lot::Mutex;

use super::{Call, Desk, Reader};
use crate::log::Own;

/// How long the while is.
const WHILE: Duration = Duration::from_secs(10);

/// Reads of one caller that are told one by one within it.
const ONE_BY_ONE: usize = 20;

/// Kinds of reads and questions of one caller that are told apart when they are added up; the rest are one.
const APART: usize = 16;

/// Callers whose reads are held back at once; those of others are told one by one.
const CALLERS: usize = 1_024;

/// The longest text of a question that is told, in bytes.
const LONGEST: usize = 512;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Read {
    pub(crate) kind: &'static str,
    /// The namespace that was asked about.
    pub(crate) namespace: String,
    /// What was asked, as details.
    pub(crate) asked: BTreeMap<String, String>,
    /// The stable REASON for which nothing was shown; empty: it was.
    pub(crate) refused: &'static str,
}

/// What is held back.
#[derive(Debug)]
pub(crate) struct Reads {
    /// Whether reads are recorded at all.
    is_on: bool,
    callers: Mutex<BTreeMap<String, Held>>,
}

#[derive(Debug)]
struct Held {
    since: Duration,
    told: usize,
    sums: BTreeMap<Read, (u64, usize)>,
}

impl Reads {
    pub(crate) fn new(is_on: bool) -> Self {
        Self { is_on, callers: Mutex::default() }
    }

    /// Whether this one is told at once; else it is added up.
    fn is_told(&self, caller: &str, read: &Read, shown: usize, now: Duration) -> bool {
        let mut callers = self.callers.lock();
        if callers.len() >= CALLERS && !callers.contains_key(caller) {
            return true;
        }
        let held = callers.entry(caller.to_owned()).or_insert(Held { since: now, told: 0, sums: BTreeMap::new() });
        if held.told < ONE_BY_ONE {
            held.told += 1;
            return true;
        }
        let apart = if held.sums.len() < APART || held.sums.contains_key(read) {
            read.clone()
        } else {
            Read { namespace: String::new(), asked: BTreeMap::new(), ..read.clone() }
        };
        let (times, sum) = held.sums.entry(apart).or_default();
        *times += 1;
        *sum += shown;
        false
    }

    /// What was added up of a while that is over; with `all`, of every while.
    fn take(&self, now: Duration, all: bool) -> Vec<(String, Read, (u64, usize))> {
        let mut over = Vec::new();
        self.callers.lock().retain(|caller, held| {
            if !all && now.saturating_sub(held.since) < WHILE {
                return true;
            }
            let sums = std::mem::take(&mut held.sums);
            over.extend(sums.into_iter().map(|(read, sum)| (caller.clone(), read, sum)));
            false
        });
        over
    }
}

/// Puts a read on record, soon: no reader waits for the disk.
pub(super) fn note(desk: &Desk, call: &Call, mut read: Read, shown: usize) {
    desk.metrics.read(read.kind, shown);
    if read.refused.is_empty() && read.kind != "log.tail_ended" {
        broke_glass(desk, call);
    }
    if !desk.reads.is_on {
        return;
    }
    shorten(&mut read.asked);
    if !desk.reads.is_told(&call.caller, &read, shown, desk.clock.monotonic()) {
        return;
    }
    let kind = read.kind;
    hide(desk, &mut read.asked);
    let mut event = event(&call.caller, read, shown);
    (event.trace_id, event.span_id) = (call.trace.trace_id.clone(), call.trace.span_id.clone());
    event.details.extend(call.emergency.iter().map(|why| ("emergency".to_owned(), why.clone())));
    desk.log.tell(Own::from_event(kind, event));
}

/// Puts what stands for persons in the place of names that were asked about: to ask about somebody who was erased, or was never named,
/// does not bring the name into the record.
pub(super) fn hide(desk: &Desk, asked: &mut BTreeMap<String, String>) {
    let vault = desk.log.vault();
    for (field, value) in asked {
        if field == "asked.text" {
            // Whoever looks for a name may write it in any way.
            *value = bare(&vault.alias(value));
            continue;
        }
        let told = |name: &str| if vault.knows(name) { name.to_owned() } else { bare(&vault.alias(name)) };
        if let Some(other) = legate_personal::renamed(value, true, told) {
            *value = other;
        }
    }
}

/// What stands for a person, in a way that is no name itself.
pub(super) fn bare(alias: &str) -> String {
    alias.trim_start_matches("user:").to_owned()
}

/// Long texts of a question are told by their beginnings.
pub(super) fn shorten(asked: &mut BTreeMap<String, String>) {
    for value in asked.values_mut().filter(|value| value.len() > LONGEST) {
        let end = (0..=LONGEST).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
        value.truncate(end);
    }
}

/// Puts on record that somebody was not let read.
pub(crate) fn refused(desk: &Desk, call: &Call, method: &str, fault: &Fault) {
    if !is_for_want_of_a_role(fault) {
        return;
    }
    let asked = BTreeMap::from([("method".to_owned(), method.to_owned())]);
    let read = Read { kind: "log.read_refused", namespace: String::new(), asked, refused: fault.reason() };
    note(desk, call, read, 0);
}

fn event(caller: &str, read: Read, shown: usize) -> AuditEvent {
    let mut details = read.asked;
    let outcome = if read.refused.is_empty() { Outcome::Success } else { Outcome::Denied };
    if outcome == Outcome::Success {
        details.insert("shown".to_owned(), shown.to_string());
    }
    AuditEvent {
        actor: caller.to_owned(),
        namespace: read.namespace,
        outcome: outcome.into(),
        reason_code: read.refused.to_owned(),
        details,
        ..AuditEvent::default()
    }
}

/// Tells what was added up and is over.
pub(crate) fn tell_sums(desk: &Desk, all: bool) {
    for (caller, read, (times, shown)) in desk.reads.take(desk.clock.monotonic(), all) {
        let kind = read.kind;
        let mut event = event(&caller, read, shown);
        event.details.insert("times".to_owned(), times.to_string());
        desk.log.tell(Own::from_event(kind, event));
    }
}

/// Tells them for as long as the process lives.
pub(crate) async fn tell_forever(desk: Arc<Desk>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        tell_sums(&desk, false);
    }
}

/// Puts on record that an operator states an emergency, and reads by it.
pub(super) fn broke_glass(desk: &Desk, call: &Call) {
    let (Some(why), Reader::Operator(name)) = (&call.emergency, &call.reader) else { return };
    if desk.auditors.contains(name) {
        return;
    }
    let event = AuditEvent {
        actor: call.caller.clone(),
        outcome: Outcome::Success.into(),
        trace_id: call.trace.trace_id.clone(),
        span_id: call.trace.span_id.clone(),
        details: BTreeMap::from([("emergency".to_owned(), why.clone())]),
        ..AuditEvent::default()
    };
    tracing::warn!(caller = call.caller, why, "an operator states an emergency to read the audit log");
    desk.log.tell(Own::from_event("operator.broke_glass", event));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(n: usize) -> Read {
        let asked = BTreeMap::from([("asked.agent_id".to_owned(), format!("agt_{n}"))]);
        Read { kind: "log.queried", namespace: String::new(), asked, refused: "" }
    }

    #[test]
    fn a_flood_of_reads_is_a_few_events_that_add_up() {
        let (reads, at) = (Reads::new(true), Duration::from_secs);
        let told = (0..1_000).filter(|n| reads.is_told("ada", &read(n % 100), 3, at(1))).count();
        assert_eq!(told, ONE_BY_ONE);
        assert!(reads.is_told("grace", &read(0), 1, at(1)), "one reader's flood hides no other");
        assert!(reads.take(at(5), false).is_empty());
        let over = reads.take(at(11), false);
        assert!(over.len() <= APART + 1);
        let sum = |of: fn(&(u64, usize)) -> u64| over.iter().map(|(_, _, sums)| of(sums)).sum::<u64>();
        assert_eq!(sum(|s| s.0), 980);
        assert_eq!(sum(|s| s.1 as u64), 3 * 980);
        assert!(reads.is_told("ada", &read(0), 1, at(12)), "the next while begins");
    }

    #[test]
    fn what_is_held_back_is_bounded_and_comes_out_at_the_end() {
        let reads = Reads::new(true);
        for caller in 0..2 * CALLERS {
            for _ in 0..=ONE_BY_ONE {
                reads.is_told(&caller.to_string(), &read(0), 1, Duration::ZERO);
            }
        }
        assert_eq!(reads.callers.lock().len(), CALLERS);
        assert_eq!(reads.take(Duration::ZERO, true).len(), CALLERS);
    }
}
