//! Copies of one service: that one of several falls silent while others go on.
//!
//! Copies that number their events themselves, as those of policy-decision do, are known by the epoch that they opened, and heard with
//! every event of it. Copies that share a numbering, as those of the registry and of credential-issuer in one database do, are known by
//! their names and heard by their heartbeats alone, as nothing else says which of them told it. What a copy says when it is stopped in
//! order ends that it is listened to.

use legate_wire::audit::{AlertSeverity, AlertType};

use super::alert::Finding;
use super::fact::{DECISION, Fact, ISSUER, REGISTRY, What};
use super::machine::{Found, MOST_EMITTERS};
use super::memory::{Memory, Replica};
use super::sequence::of_emitter;
use super::{KEEP, SILENCE};

/// The services whose copies are listened to.
pub(super) const SERVICES: [&str; 3] = [REGISTRY, ISSUER, DECISION];

impl Replica {
    /// Whether what is told is this copy's own word, as far as that can be said.
    fn tells(&self, fact: &Fact) -> bool {
        match &fact.what {
            _ if !self.epoch.is_empty() => self.epoch == fact.epoch,
            What::Heartbeat { replica } => self.name == *replica,
            _ => false,
        }
    }
}

/// Notes who lives, who begins and who leaves.
pub(super) fn hear(memory: &mut Memory, fact: &Fact) {
    let now = memory.clock.time;
    if now == 0 || !SERVICES.contains(&fact.service.as_str()) {
        return;
    }
    let all = &mut memory.replicas.entry(fact.service.clone()).or_default().all;
    match &fact.what {
        What::Left { replica } => all.retain(|one| !one.epoch.is_empty() || one.name != *replica),
        What::Closed => all.retain(|one| one.epoch != fact.epoch),
        What::Opened { previous, replica, .. } => {
            // The same copy, started again.
            all.retain(|one| one.epoch.is_empty() || one.epoch != *previous);
            add(all, &fact.epoch, replica);
        }
        What::Heartbeat { replica } if !all.iter().any(|one| one.tells(fact)) => add(all, "", replica),
        _ => {}
    }
    for one in all.iter_mut().filter(|one| one.tells(fact)) {
        (one.heard, one.last_leaf, one.is_silent) = (now, fact.leaf, false);
        one.told = one.told.max(fact.time);
    }
}

/// Listens to one more. A program that does not say which copy it is cannot be told from others.
fn add(all: &mut Vec<Replica>, epoch: &str, name: &str) {
    if name.is_empty() {
        return;
    }
    if all.len() >= MOST_EMITTERS {
        // Whoever was heard longest ago.
        let oldest = all.iter().enumerate().min_by_key(|(_, one)| (!one.is_silent, one.heard));
        if let Some(at) = oldest.map(|(at, _)| at) {
            all.remove(at);
        }
    }
    all.push(Replica { epoch: epoch.to_owned(), name: name.to_owned(), ..Replica::default() });
}

/// Copies that told nothing for too long, while their service did. Where the whole service is silent, or the collector was not there,
/// nothing is said of its copies: they have as long again once it is heard.
pub(super) fn silent(memory: &mut Memory, fact: &Fact, was_away: bool, found: &mut Found) {
    let (now, spoken) = (memory.clock.time, &memory.clock.spoken);
    for (service, replicas) in &mut memory.replicas {
        let is_heard = spoken.iter().any(|one| one.service == *service && !one.is_silent);
        let epochs = memory.marks.get(service).map(|mark| mark.epochs.as_slice()).unwrap_or_default();
        let newest = epochs.iter().map(|one| one.time).max().unwrap_or(0);
        for one in replicas.all.iter_mut().filter(|one| !one.is_silent) {
            if was_away || !is_heard {
                one.heard = now;
            }
            // What waits in a shared outbox is told in its order: while older things come, its heartbeats may be behind them.
            let may_come = one.epoch.is_empty() && newest - one.told <= SILENCE;
            if now - one.heard <= SILENCE || may_come {
                continue;
            }
            one.is_silent = true;
            let summary = format!(
                "{service} at {} told nothing for 5 minutes, not even that it lives or leaves, while others of the service did",
                one.name
            );
            let about = format!("{service} {} {} {}", one.name, one.epoch, one.last_leaf);
            let silent = of_emitter(fact, AlertType::EmitterSilent, AlertSeverity::High, about, summary);
            found.add(Finding { leaves: vec![one.last_leaf, fact.leaf], ..silent });
        }
        replicas.all.retain(|one| !one.is_silent || now - one.heard <= KEEP);
    }
}
