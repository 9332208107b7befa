//! Rules about emitters and clocks: gaps, repeats, silence, and times that cannot be.

use legate_wire::audit::{AlertSeverity, AlertType};

use super::alert::Finding;
use super::fact::{COLLECTOR, Fact, What};
use super::machine::{Found, MOST_EMITTERS, finding};
use super::memory::{Ahead, Memory, Producer, Signer, Spoken, producer};
use super::{AWAY, HOUR, SILENCE, SKEW, replica};
use crate::domain::otlp::EPOCH;

/// Of the day before, a service that is expected to tell something told in so many hours.
const USUALLY: u32 = 22;

/// About an emitter, and not about an agent.
pub(super) fn of_emitter(
    fact: &Fact,
    kind: AlertType,
    severity: AlertSeverity,
    about: String,
    summary: String,
) -> Finding {
    let namespace = if fact.service.is_empty() { fact.namespace.clone() } else { String::new() };
    Finding { namespace, agent: String::new(), ..finding(fact, kind, severity, about, summary) }
}

/// Counts the emitter's events: none is missing, and each comes once and in order.
pub(super) fn count(memory: &mut Memory, fact: &Fact, found: &mut Found) {
    let name = producer(&fact.emitter, &fact.epoch);
    let Producer { last, leaf } = memory.producers.get(&name).cloned().unwrap_or_default();
    let (emitter, epoch, seq) = (&fact.emitter, &fact.epoch, fact.seq);
    if seq <= last {
        let summary = format!("event {seq} of {emitter} came again or late, after event {last} of its epoch {epoch}");
        let about = format!("{emitter} {epoch}");
        let repeat = of_emitter(fact, AlertType::EmitterRepeat, AlertSeverity::Medium, about, summary);
        found.add(Finding { leaves: vec![leaf, fact.leaf], ..repeat });
        return;
    }
    if seq > last + 1 {
        let (from, to) = (last + 1, seq - 1);
        let summary = format!("events {from} to {to} of {emitter} are missing in its epoch {epoch}");
        let about = format!("{emitter} {epoch} {from}");
        let gap = of_emitter(fact, AlertType::EmitterGap, AlertSeverity::High, about, summary);
        let leaves = if last == 0 { vec![fact.leaf] } else { vec![leaf, fact.leaf] };
        found.add(Finding { leaves, ..gap });
    }
    memory.producers.insert(name, Producer { last: seq, leaf: fact.leaf });
}

/// A spool began anew: whether the one before lost anything.
pub(super) fn opened(memory: &Memory, fact: &Fact, previous: &str, (last, torn): (u64, u64), found: &mut Found) {
    let told = memory.producers.get(&producer(&fact.emitter, previous));
    let missing = told.map_or(0, |told| last.saturating_sub(told.last));
    if torn == 0 && missing == 0 {
        return;
    }
    let summary = format!(
        "records of {} may be lost: its epoch {previous} ended with {torn} torn bytes, and {missing} of its events are not here",
        fact.emitter
    );
    let about = format!("{} {previous} end", fact.emitter);
    found.add(of_emitter(fact, AlertType::EmitterGap, AlertSeverity::Medium, about, summary));
}

/// Who signed what it told goes on to sign: what comes unsigned in its name may be somebody else's who has no key, or an older program.
pub(super) fn signs(memory: &mut Memory, fact: &Fact, found: &mut Found) {
    // What comes by OTLP is numbered here, and signed by nobody.
    if fact.service == COLLECTOR || fact.epoch == EPOCH {
        return;
    }
    if fact.is_signed {
        memory.signers.insert(fact.emitter.clone(), Signer { leaf: fact.leaf, unsigned: String::new() });
        return;
    }
    let Some(signer) = memory.signers.get_mut(&fact.emitter).filter(|one| one.unsigned != fact.epoch) else { return };
    signer.unsigned.clone_from(&fact.epoch);
    let leaves = vec![signer.leaf, fact.leaf];
    let summary = format!(
        "{} signed what it told, and does not sign event {} of its epoch {}",
        fact.emitter, fact.seq, fact.epoch
    );
    let about = format!("{} unsigned", fact.emitter);
    let unsigned = of_emitter(fact, AlertType::EmitterSignature, AlertSeverity::Medium, about, summary);
    found.add(Finding { leaves, ..unsigned });
}

/// Somebody offered events that were refused for what they are. It is about who offered them: as what is not his own, nobody else is
/// to be looked at.
pub(super) fn refused(fact: &Fact, (emitter, reason, why): (&str, &str, &str), found: &mut Found) {
    let (kind, severity) = match reason {
        "AUDIT_SIGNATURE_INVALID" => (AlertType::EmitterSignature, AlertSeverity::High),
        // He tells as another, of another, or something else than he told before.
        "AUDIT_PRODUCER_MISMATCH" | "AUDIT_NOT_YOURS_TO_TELL" | "AUDIT_EVENTS_DIFFER" => {
            (AlertType::EmitterRefused, AlertSeverity::High)
        }
        "AUDIT_QUOTA_SPENT" => (AlertType::EmitterRefused, AlertSeverity::Low),
        _ => (AlertType::EmitterRefused, AlertSeverity::Medium),
    };
    let summary = match kind {
        AlertType::EmitterSignature => {
            format!("events offered by {emitter} were refused, since their signature does not hold: {why}")
        }
        _ => format!("events offered by {emitter} were refused ({reason}): {why}"),
    };
    let about = match kind {
        AlertType::EmitterSignature => format!("{emitter} refused"),
        _ => format!("{emitter} refused {reason}"),
    };
    found.add(finding(fact, kind, severity, about, summary));
}

/// Notes what is held against the log's next moment.
pub(super) fn hear(memory: &mut Memory, fact: &Fact) {
    let clock = &mut memory.clock;
    if !fact.service.is_empty() && clock.time > 0 {
        match clock.spoken.iter_mut().find(|one| one.service == fact.service) {
            Some(one) => (one.hours, one.last_leaf, one.is_silent) = (one.hours | 1, fact.leaf, false),
            None => clock.spoken.push(Spoken {
                service: fact.service.clone(),
                hours: 1,
                last_leaf: fact.leaf,
                ..Spoken::default()
            }),
        }
        if let Some(one) = clock.spoken.iter_mut().find(|one| one.service == fact.service) {
            one.heard = clock.time;
            one.has_heartbeats |= matches!(fact.what, What::Heartbeat { .. });
        }
    }
    if matches!(fact.what, What::Own(_) | What::Signature) || fact.time <= clock.time.saturating_add(SKEW) {
        return;
    }
    if let Some(one) = clock.ahead.iter_mut().find(|one| one.emitter == fact.emitter) {
        if one.time < fact.time {
            (one.time, one.leaf) = (fact.time, fact.leaf);
        }
    } else if clock.ahead.len() < MOST_EMITTERS {
        clock.ahead.push(Ahead {
            emitter: fact.emitter.clone(),
            time: fact.time,
            leaf: fact.leaf,
            namespace: if fact.service.is_empty() { fact.namespace.clone() } else { String::new() },
        });
    }
}

/// Services that tell that they live, and told nothing for too long.
fn silent(memory: &mut Memory, fact: &Fact, was_away: bool) -> Vec<Finding> {
    let now = memory.clock.time;
    let mut all = Vec::new();
    for one in memory.clock.spoken.iter_mut().filter(|one| one.has_heartbeats && !one.is_silent) {
        if was_away {
            one.heard = now;
        } else if now - one.heard > SILENCE {
            one.is_silent = true;
            let summary = format!("{} told nothing for 5 minutes, not even that it lives", one.service);
            let about = format!("{} {}", one.service, one.last_leaf);
            let silent = of_emitter(fact, AlertType::EmitterSilent, AlertSeverity::High, about, summary);
            all.push(Finding { leaves: vec![one.last_leaf, fact.leaf], ..silent });
        }
    }
    all
}

/// The log's time goes on. What came before it was not later.
pub(super) fn clock(memory: &mut Memory, fact: &Fact, found: &mut Found) {
    for ahead in std::mem::take(&mut memory.clock.ahead) {
        if ahead.time <= fact.time.saturating_add(SKEW) {
            continue;
        }
        let by = (ahead.time - fact.time) / 1_000_000;
        let summary = format!("the clock of {} is {by} s or more ahead of the collector's", ahead.emitter);
        let about = format!("{} ahead", ahead.emitter);
        let skew = of_emitter(fact, AlertType::ClockSkew, AlertSeverity::Medium, about, summary);
        found.add(Finding {
            namespace: ahead.namespace,
            leaves: vec![ahead.leaf, fact.leaf],
            time: ahead.time,
            ..skew
        });
    }
    let clock = &mut memory.clock;
    if clock.time == 0 {
        clock.hour = fact.time.div_euclid(HOUR);
    }
    let before = clock.time;
    clock.time = clock.time.max(fact.time);
    let was_away = before > 0 && clock.time - before > AWAY;
    for silent in silent(memory, fact, was_away) {
        found.add(silent);
    }
    replica::silent(memory, fact, was_away, found);
    let clock = &mut memory.clock;
    let hour = clock.time.div_euclid(HOUR);
    let passed = u32::try_from(hour - clock.hour).unwrap_or(0);
    if passed == 0 {
        return;
    }
    clock.hour = hour;
    for one in &mut clock.spoken {
        one.hours = one.hours.checked_shl(passed).unwrap_or(0);
    }
    // Of hours in which the collector itself told nothing, nothing is said: it may not have been there.
    let is_here = clock.spoken.iter().any(|one| one.service == fact.service && one.hours & 0b110 == 0b110);
    for one in &mut clock.spoken {
        let day_before = (one.hours >> 3) & 0x00ff_ffff;
        if !is_here || one.is_silent || one.hours & 0b110 != 0 || day_before.count_ones() < USUALLY {
            continue;
        }
        one.is_silent = true;
        let summary =
            format!("{} told something in nearly every hour of a day, and nothing for two hours", one.service);
        let about = format!("{} {hour}", one.service);
        let silent = of_emitter(fact, AlertType::EmitterSilent, AlertSeverity::Medium, about, summary);
        found.add(Finding { leaves: vec![one.last_leaf, fact.leaf], ..silent });
    }
}
