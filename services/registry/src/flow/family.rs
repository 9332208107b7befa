//! Who is below agents, and when they were last used: what an agent made stops with it, and what it did is done for it.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;

use crate::domain::kind::Key;
use crate::domain::lineage::{self, MOST_BELOW};
use crate::store::usage::{agent, permission};
use crate::store::{object, reference};

/// Names of those below an agent that are told.
pub(super) const NAMED: usize = 16;

/// Retired agents below those of some rows whose use is looked at, the newest.
const RETIRED: u64 = 5_000;

/// What is known of one agent beside its row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Family {
    /// The agents below it that are not retired, by name.
    pub(super) below: Vec<String>,
    /// When it, one below it, or another on behalf of one of these last obtained or used anything.
    pub(super) used: Option<Timestamp>,
}

impl Family {
    /// How many are below it, with the names of some: `3: a-bot, b-bot, c-bot`; empty: none.
    pub(super) fn told(&self) -> String {
        let more = self.below.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        match self.below.len() {
            0 => String::new(),
            many => format!("{many}: {}{more}", self.below.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ")),
        }
    }
}

/// The families of the agents of some rows, by id.
pub(super) async fn of(tx: &Tx, rows: &[&object::Model]) -> TxResult<BTreeMap<String, Family>, Fault> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let keys: BTreeSet<Key> = rows.iter().map(|row| lineage::below(&row.namespace, &row.id)).collect();
    let most = MOST_BELOW.saturating_mul(rows.len() as u64);
    let made = reference::of_all(tx, keys, most).await?;
    let mut above: BTreeMap<String, Vec<String>> =
        rows.iter().map(|row| (row.id.clone(), vec![row.id.clone()])).collect();
    for row in rows {
        families.insert(row.id.clone(), Family { below: Vec::new(), used: row.last_used() });
    }
    for row in object::by_ids(tx, made).await?.into_iter().filter(|row| row.holds_name) {
        let Some(Object::Agent(agent)) = row.declaration()?.object else { continue };
        let ancestors = agent.status.map(|status| status.ancestors).unwrap_or_default();
        for ancestor in &ancestors {
            if let Some(family) = families.get_mut(ancestor) {
                family.below.push(row.name.clone());
                family.used = family.used.max(row.last_used());
            }
        }
        above.entry(row.id).or_default().extend(ancestors);
    }
    // What is retired is told no more, and what it did was done for those above it all the same.
    let retired: BTreeMap<Key, String> =
        rows.iter().map(|row| (lineage::was_below(&row.namespace, &row.id), row.id.clone())).collect();
    let whose: BTreeMap<String, String> = retired.iter().map(|(key, id)| (key.name.clone(), id.clone())).collect();
    let mut used: BTreeSet<String> = BTreeSet::new();
    for (id, name) in reference::newest(tx, retired.into_keys().collect(), RETIRED).await? {
        above.entry(id.clone()).or_default().extend(whose.get(&name).cloned());
        used.insert(id);
    }
    for row in agent::of(tx, used.into_iter().collect()).await? {
        for family in above.get(&row.agent_id).into_iter().flatten() {
            if let Some(family) = families.get_mut(family) {
                family.used = family.used.max(row.used_at.map(Timestamp::from_micros));
            }
        }
    }
    for (id, last) in permission::last_through(tx, above.keys().cloned().collect()).await? {
        for whose in above.get(&id).into_iter().flatten() {
            if let Some(family) = families.get_mut(whose) {
                family.used = family.used.max(Some(Timestamp::from_micros(last)));
            }
        }
    }
    families.values_mut().for_each(|family| family.below.sort());
    Ok(families)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_named_and_all_are_counted() {
        let of = |many: usize| Family { below: (0..many).map(|n| format!("b{n:02}")).collect(), used: None };
        assert_eq!(of(0).told(), "");
        assert_eq!(of(2).told(), "2: b00, b01");
        assert!(of(20).told().starts_with("20: b00, ") && of(20).told().ends_with("b15 and 4 more"));
    }
}
