//! What the index takes in at once: everything that some leaves say, in every table.

use std::collections::{BTreeMap, BTreeSet};

use legate_db::{Tx, TxResult};
use legate_wire::audit::PersonalPart;
use sea_orm::{ConnectionTrait as _, DbBackend};

use super::{event, link, made_by, roles, stretch, usage};
use crate::domain::entry::{self, Count, Roles, Use};
use crate::personal::{Opened, Vault};

/// The rows that some leaves come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) events: Vec<event::Model>,
    pub(crate) links: Vec<link::Model>,
    pub(crate) blocks: Vec<stretch::Model>,
    pub(crate) made: Vec<(String, String)>,
    pub(crate) usage: Vec<usage::Model>,
    pub(crate) roles: Roles,
}

impl Batch {
    /// The rows of these leaves; `registry` is the SPIFFE ID of the one emitter whose word about roles and makers counts. No row has
    /// a name that can be erased: what stands for it is, and where it is erased that it is.
    pub(crate) fn of(leaves: &[(u64, Vec<u8>)], registry: &str, vault: &Vault) -> Self {
        let mut batch = Self::default();
        let mut used: BTreeMap<Use, Count> = BTreeMap::new();
        let mut known = BTreeSet::new();
        for ((leaf, _), Opened { event, mut parts }) in leaves.iter().zip(vault.opened(leaves)) {
            let named = parts.iter_mut().filter(|part| !legate_personal::is_erased(part));
            let persons: BTreeSet<String> = named.map(|part| alias(part, vault)).collect();
            let event = legate_personal::shown(event, &parts);
            batch.events.push(event::Model::of(*leaf, &event));
            batch.links.extend(link::of(*leaf, &event));
            batch.links.extend(link::persons(*leaf, &persons));
            if let Some((of, count)) = entry::used(&event) {
                let sum = used.entry(usage::keyed(of)).or_insert(Count { count: 0, ..count });
                *sum = sum.and(count);
            }
            if event.emitter.as_ref().is_some_and(|emitter| emitter.spiffe_id == registry) {
                batch.roles.learn(&event);
                batch.made.extend(entry::made(&event).filter(|(agent, _)| known.insert(agent.clone())));
            }
        }
        batch.blocks = stretch::of(&batch.events);
        batch.usage = used.iter().map(|(of, count)| usage::row(of, count)).collect();
        batch
    }

    /// Writes them all.
    pub(crate) async fn insert<E>(&self, tx: &Tx) -> TxResult<(), E> {
        event::insert(tx, &self.events).await?;
        link::insert(tx, &self.links).await?;
        stretch::add(tx, &self.blocks).await?;
        made_by::add(tx, &self.made).await?;
        usage::add(tx, &self.usage).await?;
        roles::learn(tx, &self.roles).await
    }
}

/// Puts what stands for a person in the place of the name; what it is.
fn alias(part: &mut PersonalPart, vault: &Vault) -> String {
    part.name = vault.alias(&part.name);
    part.name.clone()
}

/// Every table that leaves are written to.
const TABLES: [&str; 6] = ["indexed_event", "event_link", "leaf_block", "made_by", "usage_hour", "operator_role"];

/// Forgets every row.
pub(crate) async fn clear<E>(tx: &Tx) -> TxResult<(), E> {
    let verb = match tx.get_database_backend() {
        DbBackend::Postgres => "TRUNCATE",
        _ => "DELETE FROM",
    };
    for table in TABLES {
        tx.execute_unprepared(&format!("{verb} {table}")).await?;
    }
    Ok(())
}
