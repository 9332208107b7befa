//! A question over the log is an event of the log, and is answered once that is so: what cannot be recorded is not shown.
//!
//! The first reads of a caller within a while are told one by one, and are on disk before the answer. What comes after them is added
//! up, each question by itself, and told when the while is over: who, what, how often, and how much was shown. Who asks more
//! different things than are told apart is slowed down, and each of them is told: nobody hides a question in a flood.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use legate_rpc::{Fault, is_for_want_of_a_role};
use legate_wire::audit::{AuditEvent, Outcome};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::{Call, Desk, MARGIN, Reader};
use crate::domain::teller::Teller;
use crate::error::{AGAIN, AUDIT_BUSY, AUDIT_READS_TOO_MANY};
use crate::log::Own;

/// How long the while is.
const WHILE: Duration = Duration::from_secs(10);

/// Reads of one caller that are told one by one within it.
const ONE_BY_ONE: usize = 20;

/// Kinds of reads and questions of one caller that are told apart when they are added up.
const APART: usize = 64;

/// Between two reads of a caller beyond them, each of which is told.
const EACH: Duration = Duration::from_millis(100);

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
    /// What is over and not told yet.
    over: Mutex<VecDeque<Sum>>,
}

/// How often a caller asked a question, and how much he was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) caller: String,
    pub(super) read: Read,
    pub(super) times: u64,
    pub(super) shown: usize,
}

#[derive(Debug)]
struct Held {
    since: Duration,
    told: usize,
    sums: BTreeMap<Read, (u64, usize)>,
    /// When the last of those beyond is answered.
    next: Duration,
}

/// How a read comes to be on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weighed {
    /// By an event of its own, after so long.
    Told(Duration),
    /// In a sum, when the while is over.
    Added,
    /// Not at all: so long would have to be waited, which is too long.
    TooMany(Duration),
}

impl Reads {
    pub(crate) fn new(is_on: bool) -> Self {
        Self { is_on, callers: Mutex::default(), over: Mutex::default() }
    }

    /// How this one comes to be on record. A service is never slowed down: what it asks beyond is added up without the question, which
    /// whoever made it ask is on record for.
    fn weigh(
        &self,
        (caller, is_service): (&str, bool),
        read: &Read,
        shown: usize,
        now: Duration,
        patience: Duration,
    ) -> Weighed {
        let mut callers = self.callers.lock();
        if callers.len() >= CALLERS && !callers.contains_key(caller) {
            return Weighed::Told(Duration::ZERO);
        }
        let new = || Held { since: now, told: 0, sums: BTreeMap::new(), next: now };
        let held = callers.entry(caller.to_owned()).or_insert_with(new);
        if held.told < ONE_BY_ONE {
            held.told += 1;
            return Weighed::Told(Duration::ZERO);
        }
        // Refusals tell no question, so that there are few kinds of them.
        let is_apart = held.sums.len() < APART || held.sums.contains_key(read) || !read.refused.is_empty();
        if !is_apart && !is_service {
            let next = held.next.max(now) + EACH;
            let wait = next.saturating_sub(now);
            if wait > patience {
                return Weighed::TooMany(wait);
            }
            held.next = next;
            return Weighed::Told(wait);
        }
        let apart = if is_apart {
            read.clone()
        } else {
            Read { namespace: String::new(), asked: BTreeMap::new(), ..read.clone() }
        };
        held.add(apart, (1, shown));
        Weighed::Added
    }

    /// Lays out what was added up of whiles that are over; with `all`, of every while. Nothing is added to what waits to be told, so that
    /// it stays bounded while nothing can be.
    pub(super) fn lay_out(&self, now: Duration, all: bool) {
        let mut over = self.over.lock();
        if !over.is_empty() && !all {
            return;
        }
        self.callers.lock().retain(|caller, held| {
            if !all && now.saturating_sub(held.since) < WHILE {
                return true;
            }
            let sums = std::mem::take(&mut held.sums);
            let sum = |(read, (times, shown))| Sum { caller: caller.clone(), read, times, shown };
            over.extend(sums.into_iter().map(sum));
            false
        });
    }

    /// The next of what was laid out.
    pub(super) fn next(&self, most: usize) -> Vec<Sum> {
        let mut over = self.over.lock();
        let some = over.len().min(most);
        over.drain(..some).collect()
    }

    /// What could not be told is told later.
    pub(super) fn give_back(&self, sums: Vec<Sum>) {
        self.over.lock().extend(sums);
    }
}

impl Held {
    fn add(&mut self, read: Read, (times, shown): (u64, usize)) {
        let sum = self.sums.entry(read).or_default();
        *sum = (sum.0 + times, sum.1 + shown);
    }
}

/// Puts a read on record; what was read may be shown then.
///
/// # Errors
/// When it cannot be recorded, or the caller asks for too many different things: nothing is shown.
pub(super) async fn record(desk: &Desk, call: &Call, read: Read, shown: usize) -> Result<(), Fault> {
    if desk.reads.is_on {
        desk.log.recording()?;
    }
    let (kind, until) = (read.kind, call.deadline.checked_sub(MARGIN).unwrap_or(call.deadline));
    let Some((own, wait)) = weighed(desk, call, read, shown, until.saturating_duration_since(Instant::now()))? else {
        desk.metrics.read(kind, shown);
        broke_glass(desk, call);
        return Ok(());
    };
    tokio::time::sleep(wait).await;
    broke_glass(desk, call);
    let busy = |_| Fault::unavailable(&AUDIT_BUSY, "the read cannot be recorded in time, so nothing is shown", AGAIN);
    timeout_at(until, desk.log.record(own)).await.map_err(busy)??;
    desk.metrics.read(kind, shown);
    Ok(())
}

/// Puts on record, soon, what shows nothing more: that a line ended, that a service listens, that somebody was refused.
pub(super) fn note(desk: &Desk, call: &Call, read: Read, shown: usize) {
    desk.metrics.read(read.kind, shown);
    if let Ok(Some((own, _))) = weighed(desk, call, read, shown, Duration::MAX) {
        desk.log.tell(own);
    }
}

/// The event of a read, and how long it has to wait; `None`: it is added up, or reads are not recorded.
fn weighed(
    desk: &Desk,
    call: &Call,
    mut read: Read,
    shown: usize,
    patience: Duration,
) -> Result<Option<(Own, Duration)>, Fault> {
    if !desk.reads.is_on {
        return Ok(None);
    }
    shorten(&mut read.asked);
    let who = (call.caller.as_str(), matches!(call.reader, Reader::Emitter(Teller::Service)));
    let wait = match desk.reads.weigh(who, &read, shown, desk.clock.monotonic(), patience) {
        Weighed::Told(wait) => wait,
        Weighed::Added => return Ok(None),
        Weighed::TooMany(wait) => {
            let text = "the caller asks for more different things than can be told apart";
            return Err(Fault::unavailable(&AUDIT_READS_TOO_MANY, text, wait));
        }
    };
    let kind = read.kind;
    hide(desk, &mut read.asked);
    let mut event = event(&call.caller, read, shown);
    (event.trace_id, event.span_id) = (call.trace.trace_id.clone(), call.trace.span_id.clone());
    event.details.extend(call.emergency.iter().map(|why| ("emergency".to_owned(), why.clone())));
    Ok(Some((Own::from_event(kind, event), wait)))
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

/// Puts on record that a read was refused, for whatever reason but that something is not there now.
pub(crate) fn refused(desk: &Desk, call: &Call, method: &str, fault: &Fault) {
    if matches!(fault, Fault::Refused(_)) || fault.reason() == AUDIT_READS_TOO_MANY.name {
        turned_away(desk, call, method, fault);
    }
}

/// Puts on record that somebody was not let do something, for want of a role. What is refused for another reason says so by itself.
pub(crate) fn not_permitted(desk: &Desk, call: &Call, method: &str, fault: &Fault) {
    if is_for_want_of_a_role(fault) {
        turned_away(desk, call, method, fault);
    }
}

fn turned_away(desk: &Desk, call: &Call, method: &str, fault: &Fault) {
    let asked = BTreeMap::from([("method".to_owned(), method.to_owned())]);
    let read = Read { kind: "log.read_refused", namespace: String::new(), asked, refused: fault.reason() };
    note(desk, call, read, 0);
}

pub(super) fn event(caller: &str, read: Read, shown: usize) -> AuditEvent {
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
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn read(n: usize) -> Read {
        let asked = BTreeMap::from([("asked.agent_id".to_owned(), format!("agt_{n}"))]);
        Read { kind: "log.queried", namespace: String::new(), asked, refused: "" }
    }

    const PATIENT: Duration = Duration::from_secs(5);

    fn weigh(reads: &Reads, who: &str, n: usize, now: Duration) -> Weighed {
        reads.weigh((who, false), &read(n), 3, now, PATIENT)
    }

    fn take(reads: &Reads, now: Duration, all: bool) -> Vec<Sum> {
        reads.lay_out(now, all);
        reads.next(usize::MAX)
    }

    #[test]
    fn a_flood_of_reads_is_a_few_events_that_add_up() {
        let (reads, at) = (Reads::new(true), Duration::from_secs);
        let told = (0..1_000).filter(|n| weigh(&reads, "ada", n % 60, at(1)) != Weighed::Added).count();
        assert_eq!(told, ONE_BY_ONE);
        assert_eq!(
            weigh(&reads, "grace", 0, at(1)),
            Weighed::Told(Duration::ZERO),
            "one reader's flood hides no other"
        );
        assert!(take(&reads, at(5), false).is_empty());
        let over = take(&reads, at(11), false);
        assert_eq!(over.len(), 60, "each question by itself");
        assert_eq!(over.iter().map(|sum| sum.times).sum::<u64>(), 980);
        assert_eq!(over.iter().map(|sum| sum.shown).sum::<usize>(), 3 * 980);
        assert_eq!(weigh(&reads, "ada", 0, at(12)), Weighed::Told(Duration::ZERO), "the next while begins");
    }

    #[test]
    fn whoever_floods_first_hides_no_question_behind_it() {
        let (reads, now) = (Reads::new(true), Duration::from_secs(1));
        for n in 0..ONE_BY_ONE + APART {
            assert!(!matches!(weigh(&reads, "ada", n, now), Weighed::TooMany(_)));
        }
        // What comes now is told as what it is, each later than the one before, and what would have to wait for too long is refused.
        let most = u32::try_from(PATIENT.as_millis() / EACH.as_millis()).unwrap();
        for n in 1..=most {
            let wanted = Weighed::Told(n * EACH);
            assert_eq!(weigh(&reads, "ada", 1_000 + n as usize, now), wanted);
        }
        let over = PATIENT + EACH;
        assert_eq!(weigh(&reads, "ada", 9_999, now), Weighed::TooMany(over));
        assert_eq!(weigh(&reads, "ada", 9_999, now), Weighed::TooMany(over), "and takes nobody's turn");
        assert_eq!(weigh(&reads, "ada", 9_999, now + EACH), Weighed::Told(PATIENT));
        let all = take(&reads, now, true);
        assert!(all.len() == APART && all.iter().all(|sum| !sum.read.asked.is_empty()), "none without its question");
        // What is refused is on record however much there is.
        for n in 0..ONE_BY_ONE + APART {
            weigh(&reads, "ada", n, now);
        }
        let refused = Read { kind: "log.read_refused", refused: "R", ..read(0) };
        assert_eq!(reads.weigh(("ada", false), &refused, 0, now, PATIENT), Weighed::Added);
        // A service is not held up, and what it asked is counted.
        for n in 0..1_000 {
            let weighed = reads.weigh(("policy-decision", true), &read(n), 1, now, PATIENT);
            assert!(matches!(weighed, Weighed::Told(Duration::ZERO) | Weighed::Added));
        }
        let its = take(&reads, now, true).into_iter().filter(|sum| sum.caller == "policy-decision");
        let (kinds, times) = its.fold((0, 0), |(kinds, times), sum| (kinds + 1, times + sum.times));
        assert_eq!((kinds, times), (APART + 1, 1_000 - ONE_BY_ONE as u64));
    }

    #[test]
    fn what_is_held_back_is_bounded_comes_out_at_the_end_and_can_be_given_back() {
        let reads = Reads::new(true);
        for caller in 0..2 * CALLERS {
            for _ in 0..=ONE_BY_ONE {
                weigh(&reads, &caller.to_string(), 0, Duration::ZERO);
            }
        }
        assert_eq!(reads.callers.lock().len(), CALLERS);
        let all = take(&reads, Duration::ZERO, true);
        assert_eq!(all.len(), CALLERS);
        reads.give_back(all.clone());
        // While it cannot be told, no more is laid out beside it.
        for _ in 0..=ONE_BY_ONE {
            weigh(&reads, "ada", 0, Duration::ZERO);
        }
        assert_eq!(take(&reads, 2 * WHILE, false), all);
        assert_eq!(take(&reads, 2 * WHILE, false).len(), 1);
    }
}
