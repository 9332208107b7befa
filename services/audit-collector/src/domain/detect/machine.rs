//! Takes facts in, one leaf after the other, and says what each rule finds.

use legate_wire::audit::{AlertSeverity, AlertStatus, AlertType};

use super::alert::Finding;
use super::evidence::Evidence;
use super::fact::{Action, Fact, Own, What};
use super::judge::{self, Verdict};
use super::memory::{Agent, Ended, EpochMark, Held, Memory, Turn};
use super::{HOUR, habit, replica, sequence};

/// What is found in some leaves, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) steps: Vec<Step>,
    /// Executed actions that were told.
    pub(crate) executed: Vec<Action>,
    /// Those that were judged.
    pub(crate) judged: Vec<Verdict>,
}

/// One step of the life of alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A rule found something.
    Finding(Finding),
    /// An alert is in the log.
    Raised { alert: String, leaf: u64 },
    /// Somebody said what became of one.
    Changed { alert: String, to: AlertStatus, by: String, why: String, time: i64 },
}

/// Turns, credentials and ended copies of an agent that are remembered: the latest.
const MOST: usize = 16;

/// Emitters and epochs that are held against the next moment of the log's time.
pub(super) const MOST_EMITTERS: usize = 256;

/// An epoch that told nothing for so long, by the log's time, is over.
const OVER: i64 = HOUR;

/// Takes in the facts.
pub(crate) fn detect(memory: &mut Memory, facts: &[Fact], evidence: &Evidence) -> Found {
    let mut found = Found::default();
    for fact in facts {
        sequence::count(memory, fact, &mut found);
        sequence::signs(memory, fact, &mut found);
        mark(memory, fact);
        sequence::hear(memory, fact);
        replica::hear(memory, fact);
        match &fact.what {
            What::Own(own) => {
                if let Own::Refused { emitter, reason, why } = own {
                    sequence::refused(fact, (emitter, reason, why), &mut found);
                }
                if let Own::Tried(name) = own {
                    found.steps.push(tried(fact, name));
                }
                if let Some(step) = life(own, fact) {
                    found.steps.push(step);
                }
                sequence::clock(memory, fact, &mut found);
                judge::due(memory, fact, evidence, &mut found);
            }
            What::Agent { state, is_new_version, is_cut_off } => {
                agent(memory, fact, state, *is_cut_off);
                if *is_new_version {
                    habit::forget(memory, &fact.agent);
                }
            }
            What::Issued { names, instance, until, is_lasting } => {
                issued(memory, fact, (names, instance), *until, *is_lasting);
            }
            What::Revoked { names, instance } => revoked(memory, fact, names, instance),
            What::RetiredUsed { name } => found.steps.push(tried(fact, name)),
            What::Decided(decided) => {
                if decided.by_revoked {
                    found.steps.push(tried(fact, ""));
                }
                habit::decided(memory, fact, decided, &mut found);
            }
            What::Executed(action) => {
                found.executed.push((**action).clone());
                memory.actions.insert(action.leaf, (**action).clone());
            }
            What::Opened { previous, last, torn, .. } => {
                sequence::opened(memory, fact, previous, (*last, *torn), &mut found);
            }
            What::Forged(kind) => found.steps.push(forged(fact, kind)),
            What::Signature | What::Heartbeat { .. } | What::Left { .. } | What::Closed | What::Other => {}
        }
    }
    found
}

/// A finding about the fact's own agent.
pub(super) fn finding(
    fact: &Fact,
    kind: AlertType,
    severity: AlertSeverity,
    about: String,
    summary: String,
) -> Finding {
    Finding {
        kind,
        severity,
        namespace: fact.namespace.clone(),
        agent: fact.agent.clone(),
        about,
        summary,
        leaves: vec![fact.leaf],
        time: fact.time,
        leaf: fact.leaf,
    }
}

impl Found {
    pub(super) fn add(&mut self, finding: Finding) {
        self.steps.push(Step::Finding(finding));
    }
}

fn life(own: &Own, fact: &Fact) -> Option<Step> {
    match own {
        Own::Raised(alert) => Some(Step::Raised { alert: alert.clone(), leaf: fact.leaf }),
        Own::Changed { alert, to, by, why } => {
            Some(Step::Changed { alert: alert.clone(), to: *to, by: by.clone(), why: why.clone(), time: fact.time })
        }
        Own::Refused { .. } | Own::Tried(_) | Own::Other => None,
    }
}

fn forged(fact: &Fact, kind: &str) -> Step {
    let summary = format!("{} told of {kind}, which only another can know; it counts for nothing", fact.emitter);
    let about = format!("{} {kind}", fact.emitter);
    let found = finding(fact, AlertType::ForgedEvent, AlertSeverity::Critical, about, summary);
    Step::Finding(Finding { agent: String::new(), ..found })
}

/// Something revoked was tried, and refused.
fn tried(fact: &Fact, name: &str) -> Step {
    let what = if name.is_empty() { "a revoked credential" } else { name };
    let summary = format!("{what} was tried after it was revoked, and refused");
    let about = format!("tried {name}");
    let found = finding(fact, AlertType::RevokedCredentialUsed, AlertSeverity::Medium, about, summary);
    Step::Finding(found)
}

/// How far a service's epoch has told.
fn mark(memory: &mut Memory, fact: &Fact) {
    if fact.service.is_empty() || matches!(fact.what, What::Own(_) | What::Signature) {
        return;
    }
    let seen = memory.clock.time;
    let mark = memory.marks.entry(fact.service.clone()).or_default();
    mark.epochs.retain(|one| seen - one.seen <= OVER);
    match mark.epochs.iter_mut().find(|one| one.epoch == fact.epoch) {
        Some(one) => (one.time, one.seen) = (one.time.max(fact.time), seen),
        None => {
            if mark.epochs.len() >= MOST_EMITTERS {
                mark.epochs.remove(0);
            }
            mark.epochs.push(EpochMark { epoch: fact.epoch.clone(), time: fact.time, seen });
        }
    }
}

/// Keeps the latest.
fn keep<T>(all: &mut Vec<T>, one: T) {
    if all.len() >= MOST {
        all.remove(0);
    }
    all.push(one);
}

fn agent(memory: &mut Memory, fact: &Fact, state: &str, is_cut_off: bool) {
    let agent = memory.agents.entry(fact.agent.clone()).or_default();
    agent.is_registered = true;
    agent.namespace.clone_from(&fact.namespace);
    let last = agent.turns.last().map(|turn| turn.state.as_str());
    if !state.is_empty() && last != Some(state) {
        keep(&mut agent.turns, Turn { time: fact.time, leaf: fact.leaf, state: state.to_owned() });
    }
    if is_cut_off || (!state.is_empty() && state != ACTIVE) {
        cut_off(agent, fact);
    }
}

/// The only state in which anything works.
pub(super) const ACTIVE: &str = "ACTIVE";

fn cut_off(agent: &mut Agent, fact: &Fact) {
    if fact.time > agent.cut_off {
        (agent.cut_off, agent.cut_off_leaf) = (fact.time, fact.leaf);
    }
}

fn issued(memory: &mut Memory, fact: &Fact, (names, instance): (&[String], &str), until: i64, is_lasting: bool) {
    for name in names {
        let one = memory.credentials.entry(name.clone()).or_default();
        one.is_issued = true;
        one.agent.clone_from(&fact.agent);
        instance.clone_into(&mut one.instance);
        (one.from, one.until, one.leaf) = (fact.time, until, fact.leaf);
    }
    let Some(name) = names.first().filter(|_| is_lasting && !fact.agent.is_empty()) else { return };
    let held = Held {
        name: name.clone(),
        instance: instance.to_owned(),
        from: fact.time,
        until,
        revoked: memory.credentials.get(name).and_then(|one| one.revoked),
    };
    keep(&mut memory.agents.entry(fact.agent.clone()).or_default().holds, held);
}

fn revoked(memory: &mut Memory, fact: &Fact, names: &[String], instance: &str) {
    for name in names {
        let one = memory.credentials.entry(name.clone()).or_default();
        if one.revoked.is_none_or(|at| at > fact.time) {
            (one.revoked, one.revoked_leaf) = (Some(fact.time), fact.leaf);
        }
    }
    if fact.agent.is_empty() {
        return;
    }
    let agent = memory.agents.entry(fact.agent.clone()).or_default();
    for held in &mut agent.holds {
        let is_it = names.contains(&held.name) || (names.is_empty() && held.instance == instance);
        if is_it && held.revoked.is_none_or(|at| at > fact.time) {
            held.revoked = Some(fact.time);
        }
    }
    if names.is_empty() && !instance.is_empty() {
        keep(&mut agent.ended, Ended { instance: instance.to_owned(), time: fact.time, leaf: fact.leaf });
    }
}
