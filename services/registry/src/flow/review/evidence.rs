//! How what is reviewed was used, by what the registry itself heard of the audit log.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind, ReviewItem, ReviewedThing};

use crate::domain::kind::Key;
use crate::domain::lineage;
use crate::domain::review::evidence::{Used, Uses, Window, evidence};
use crate::flow::Desk;
use crate::flow::heard::beyond;
use crate::store::usage::{gap, grant, head, permission};
use crate::store::{object, reference, unsigned};

/// Gaps that are looked at: as many as are told.
const GAPS: u64 = 100;
/// Agents below those of a page that are looked at; of more, nobody says what they use.
const BELOW: u64 = 5_000;

/// Fills in how each item was used that does not say so, if it has to be silent for so many days to be unused.
pub(super) async fn fill(tx: &Tx, desk: &Desk, items: &mut [ReviewItem], days: u32) -> TxResult<(), Fault> {
    let mut items: Vec<&mut ReviewItem> = items.iter_mut().filter(|item| item.evidence.is_none()).collect();
    if items.is_empty() {
        return Ok(());
    }
    let known = Known::of(tx, desk, &items).await?;
    for item in &mut items {
        let uses = known.uses(item);
        item.evidence = evidence(item, &uses, &known.window, known.available(item), days);
    }
    Ok(())
}

/// What bears on some items.
struct Known {
    window: Window,
    /// What each agent used, by its id.
    used: BTreeMap<String, Vec<Used>>,
    grants: BTreeMap<String, (u64, Timestamp)>,
    /// The agents below each, by its id.
    below: BTreeMap<String, Vec<String>>,
    /// Agents with so many below them that not all were looked at.
    open: BTreeSet<String>,
    /// Since when agents are in their state, and things as they are, by their ids.
    since: BTreeMap<String, Timestamp>,
}

impl Known {
    async fn of(tx: &Tx, desk: &Desk, items: &[&mut ReviewItem]) -> TxResult<Self, Fault> {
        let head = head::read(tx).await?;
        let (gaps, all_since) = gap::told(tx, GAPS).await?;
        let gaps = gaps.iter().map(|gap| (Timestamp::from_micros(gap.from_time), Timestamp::from_micros(gap.to_time)));
        let window = Window {
            from: head.from_time.map(|from| Timestamp::from_micros(from.max(all_since.unwrap_or(from)))),
            to: beyond(desk.heard.to(), head.to_time),
            gaps: gaps.collect(),
        };
        let agents: BTreeSet<String> = items.iter().map(|item| item.agent_id.clone()).collect();
        // What is retired used what its makers have, too.
        let under = |item: &&mut ReviewItem| {
            [lineage::below, lineage::was_below]
                .map(|under| (under(&item.namespace, &item.agent_id), item.agent_id.clone()))
        };
        let under: BTreeMap<Key, String> = items.iter().flat_map(under).collect();
        let keys: BTreeSet<Key> = under.keys().cloned().collect();
        let newest = reference::newest(tx, keys.clone(), BELOW + 1).await?;
        let mut open = BTreeSet::new();
        if newest.len() as u64 > BELOW {
            let named = reference::named(tx, keys).await?;
            open.extend(under.into_iter().filter(|(key, _)| named.contains(&key.name)).map(|(_, id)| id));
        }
        let made: BTreeSet<String> = newest.into_iter().map(|(id, _)| id).collect();
        let mut below: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in object::by_ids(tx, made).await? {
            if let Some(Object::Agent(agent)) = row.declaration()?.object {
                for above in agent.status.map(|status| status.ancestors).unwrap_or_default() {
                    below.entry(above).or_default().push(row.id.clone());
                }
            }
        }
        let mut all: BTreeSet<String> = agents.clone();
        all.extend(below.values().flatten().cloned());
        let mut used: BTreeMap<String, Vec<Used>> = BTreeMap::new();
        for row in permission::of(tx, all.into_iter().collect()).await? {
            let days = row.days();
            let whose = (row.agent_id.clone(), row.way);
            used.entry(row.agent_id).or_default().push(Used {
                whose,
                action: row.action,
                kind: row.resource_type,
                id: row.resource_id,
                count: unsigned(row.count),
                last: Timestamp::from_micros(row.last_time),
                days,
            });
        }
        let things = items.iter().map(|item| item.granted_id.clone());
        let grants = items.iter().filter(|item| item.reviewed() == ReviewedThing::DelegationGrant);
        let grants = grant::of(tx, grants.map(|item| item.granted_id.clone()).collect()).await?;
        let grants = grants.into_iter().filter(|row| row.count > 0);
        let grants =
            grants.map(|row| (row.grant_id, (unsigned(row.count), Timestamp::from_micros(row.last_time)))).collect();
        let mut since = BTreeMap::new();
        for row in object::by_ids(tx, things.chain(agents).collect()).await? {
            since.insert(row.id.clone(), begins(&row.declaration()?, row.kind));
        }
        Ok(Self { window, used, grants, below, open, since })
    }

    fn uses(&self, item: &ReviewItem) -> Uses {
        let below = self.below.get(&item.agent_id).into_iter().flatten();
        let whose = std::iter::once(&item.agent_id).chain(below);
        Uses {
            used: whose.filter_map(|id| self.used.get(id)).flatten().cloned().collect(),
            grant: self.grants.get(&item.granted_id).copied(),
            is_open: self.open.contains(&item.agent_id),
        }
    }

    /// Since when the agent has it as it is, and could use it.
    fn available(&self, item: &ReviewItem) -> Timestamp {
        let of = |id: &str| self.since.get(id).copied();
        let given = item.grant_time.and_then(|at| Timestamp::try_from(at).ok());
        of(&item.agent_id).max(of(&item.granted_id)).max(given).unwrap_or_default()
    }
}

/// Since when an agent is in the state that it is in, and anything else is as it is.
fn begins(declaration: &Declaration, kind: i32) -> Timestamp {
    let of = match &declaration.object {
        Some(Object::Agent(agent)) if kind == Kind::Agent as i32 => {
            agent.status.as_ref().and_then(|status| status.state_time)
        }
        _ => declaration.metadata().and_then(|metadata| metadata.update_time),
    };
    of.and_then(|at| Timestamp::try_from(at).ok()).unwrap_or_default()
}
