//! What the index takes in at once: everything that some leaves say, in every table.

use std::collections::{BTreeMap, BTreeSet};

use legate_db::{Tx, TxResult};
use legate_wire::audit::AuditEvent;
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, DbBackend};

use super::detect::{self, Looked};
use super::{event, link, made_by, roles, stretch, usage};
use crate::domain::detect::fact::{Fact, Services};
use crate::domain::entry::{self, Count, Roles, Use};

/// The rows that some leaves come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) events: Vec<event::Model>,
    pub(crate) links: Vec<link::Model>,
    pub(crate) blocks: Vec<stretch::Model>,
    pub(crate) made: Vec<(String, String)>,
    pub(crate) usage: Vec<usage::Model>,
    pub(crate) roles: Roles,
    /// What the rules look at.
    pub(crate) facts: Vec<Fact>,
    services: Services,
}

impl Batch {
    /// The rows of these leaves; `registry` is the SPIFFE ID of the one emitter whose word about roles and makers counts.
    pub(crate) fn of(leaves: &[(u64, Vec<u8>)], registry: &str) -> Self {
        let mut batch = Self {
            events: Vec::new(),
            links: Vec::new(),
            blocks: Vec::new(),
            made: Vec::new(),
            usage: Vec::new(),
            roles: Roles::default(),
            facts: Vec::new(),
            services: Services::beside(registry),
        };
        let mut used: BTreeMap<Use, Count> = BTreeMap::new();
        let mut known = BTreeSet::new();
        for (leaf, bytes) in leaves {
            // Every leaf was decoded before it became one.
            let event = match AuditEvent::decode(bytes.as_slice()) {
                Ok(event) => event,
                Err(error) => {
                    tracing::error!(leaf, %error, "a leaf cannot be decoded, and is not indexed");
                    continue;
                }
            };
            batch.facts.push(Fact::of(*leaf, &event, &batch.services));
            batch.events.push(event::Model::of(*leaf, &event));
            batch.links.extend(link::of(*leaf, &event));
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

    /// Writes them all, and lets the rules look at them.
    pub(crate) async fn insert<E>(&self, tx: &Tx) -> TxResult<Looked, E> {
        event::insert(tx, &self.events).await?;
        link::insert(tx, &self.links).await?;
        stretch::add(tx, &self.blocks).await?;
        made_by::add(tx, &self.made).await?;
        usage::add(tx, &self.usage).await?;
        roles::learn(tx, &self.roles).await?;
        detect::look(tx, &self.facts, &self.services).await
    }
}

/// Every table that leaves are written to.
const TABLES: [&str; 9] = [
    "indexed_event",
    "event_link",
    "leaf_block",
    "made_by",
    "usage_hour",
    "operator_role",
    "remembered",
    "alert",
    "executed_action",
];

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
