//! Lets the rules look at some leaves: wakes what they remember, and keeps what they found.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};

use super::{alert, evidence, executed, remembered};
use crate::domain::detect::fact::{Action, Fact, Services, What};
use crate::domain::detect::memory::{self, Key, Memory, Rest};
use crate::domain::detect::{GRACE, Step, detect};

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Looked {
    /// How often something was found.
    pub(crate) findings: usize,
    /// Whether something waits for the log's time to go on.
    pub(crate) is_waiting: bool,
    /// Whether the silence of a service would be found, which takes time too.
    pub(crate) is_listening: bool,
}

/// Looks at the facts of leaves that were just indexed, in order. What comes of it hangs on the leaves alone, and not on how many
/// were taken at once.
pub(crate) async fn look<E>(tx: &Tx, facts: &[Fact], services: &Services) -> TxResult<Looked, E> {
    let keys = memory::touched(facts);
    let mut rests = remembered::named(tx, keys.clone()).await?;
    let clock = || facts.iter().filter(|fact| matches!(fact.what, What::Own(_))).map(|fact| fact.time);
    let own = clock().max();
    // What is not waiting yet is not judged within its grace.
    let is_long = own.zip(clock().min()).is_some_and(|(last, first)| last - first >= GRACE);
    if let Some(own) = own {
        let mut so_far = Memory::default();
        so_far.wake(&rests);
        let waiting = remembered::due(tx, own.max(so_far.clock.time)).await?;
        let known: BTreeSet<&Key> = keys.iter().collect();
        let more: BTreeSet<Key> = waiting
            .iter()
            .filter_map(memory::waiting)
            .flat_map(|action| memory::of_action(&action))
            .filter(|key| !known.contains(key))
            .collect();
        rests.extend(waiting);
        let more: Vec<Key> = more.into_iter().collect();
        rests.extend(remembered::named(tx, more).await?);
    }
    let mut memory = Memory::default();
    memory.wake(&rests);
    let evidence = match own {
        None => BTreeMap::new(),
        Some(_) => {
            let told = facts.iter().filter_map(|fact| match &fact.what {
                What::Executed(action) => Some((**action).clone()),
                _ => None,
            });
            let actions: Vec<Action> = memory.actions.values().cloned().chain(told).collect();
            let actions: Vec<Action> = actions.into_iter().filter(|one| one.since > 0 || is_long).collect();
            evidence::about(tx, &actions, &services.decision()).await?
        }
    };
    let found = detect(&mut memory, facts, &evidence);
    let is_listening = memory.is_listening();
    let before: BTreeMap<Key, Rest> = rests.into_iter().map(|rest| (rest.key.clone(), rest)).collect();
    let after = memory.rests();
    let gone = before.iter().filter(|(key, _)| !after.contains_key(key)).map(|(_, rest)| rest.clone()).collect();
    let changed = after.into_values().filter(|rest| before.get(&rest.key) != Some(rest)).collect();
    remembered::keep(tx, changed, gone).await?;
    executed::add(tx, &found.executed, &found.judged).await?;
    alert::take_in(tx, &found.steps).await?;
    Ok(Looked {
        findings: found.steps.iter().filter(|step| matches!(step, Step::Finding(_))).count(),
        is_waiting: remembered::is_any_due(tx).await?,
        is_listening,
    })
}

/// The log's own time; `None`: the collector has told nothing yet.
pub(crate) async fn log_time<E>(tx: &Tx) -> TxResult<Option<Timestamp>, E> {
    let mut memory = Memory::default();
    memory.wake(&remembered::named(tx, memory::touched(&[])).await?);
    Ok(Some(memory.clock.time).filter(|time| *time > 0).map(Timestamp::from_micros))
}

#[cfg(test)]
mod tests;
