//! What the index takes in at once: everything that some leaves say, in every table.

use std::collections::{BTreeMap, BTreeSet};

use legate_db::{Tx, TxResult};
use legate_wire::audit::PersonalPart;
use sea_orm::{ConnectionTrait as _, DbBackend};

use super::detect::{self, Looked};
use super::{custody, event, hold, link, made_by, numbered, posting, roles, stretch, told, usage};
use crate::domain::attested::{self, Open, Place};
use crate::domain::detect::fact::{Fact, Services};
use crate::domain::entry::{self, Count, Gone, Link, Roles, Use};
use crate::domain::otlp;
use crate::domain::posting::{Field, Postings};
use crate::personal::{Opened, Vault};

/// The rows that some leaves come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) events: Vec<event::Model>,
    pub(crate) links: Vec<link::Model>,
    /// What the events are found by.
    pub(crate) postings: Postings,
    pub(crate) blocks: Vec<stretch::Model>,
    pub(crate) made: Vec<(String, String)>,
    pub(crate) usage: Vec<usage::Model>,
    pub(crate) roles: Roles,
    /// What came by OTLP, by its id.
    pub(crate) told: Vec<(String, u64)>,
    /// Whose numbers are where.
    pub(crate) numbered: Vec<numbered::Model>,
    pub(crate) holds: Vec<(String, Option<hold::Model>)>,
    /// What the last leaf says is gone, of those before it. No more leaves than that one are taken together.
    pub(crate) gone: Option<(u64, Gone)>,
    /// What the rules look at.
    pub(crate) facts: Vec<Fact>,
    /// Signatures whose batch breaks off, and where.
    pub(crate) cut: Vec<(u64, u64)>,
    /// The signature that is of leaves behind these, too.
    pub(crate) open: Open,
    first: u64,
    leaves: u64,
    services: Services,
}

/// Whose word counts, by SPIFFE ID.
#[derive(Clone, Debug)]
pub(crate) struct Voices {
    /// About roles and makers.
    pub(crate) registry: String,
    /// About holds and erasures: the collector itself.
    pub(crate) me: String,
}

impl Batch {
    /// The rows of these leaves, up to the first that says that names are gone. No row has a name that can be erased: what stands for
    /// it is there, or that it is erased.
    pub(crate) fn of(leaves: &[(u64, Vec<u8>)], voices: &Voices, vault: &Vault, open: Open) -> Self {
        let mut batch = Self {
            events: Vec::new(),
            links: Vec::new(),
            postings: Postings::new(),
            blocks: Vec::new(),
            made: Vec::new(),
            usage: Vec::new(),
            roles: Roles::default(),
            told: Vec::new(),
            numbered: Vec::new(),
            holds: Vec::new(),
            gone: None,
            facts: Vec::new(),
            cut: Vec::new(),
            open,
            first: leaves.first().map_or(0, |(leaf, _)| *leaf),
            leaves: 0,
            services: Services::beside(&voices.registry),
        };
        let mut used: BTreeMap<Use, Count> = BTreeMap::new();
        let mut known = BTreeSet::new();
        for ((leaf, _), Opened { event, mut parts }) in leaves.iter().zip(vault.opened(leaves)) {
            let named = parts.iter_mut().filter(|part| !legate_personal::is_erased(part));
            let persons: BTreeSet<String> = named.map(|part| alias(part, vault)).collect();
            let event = legate_personal::shown(event, &parts);
            batch.leaves += 1;
            let (place, cut) = attested::next(&mut batch.open, *leaf, &event, &voices.me);
            if let Some(cut) = cut {
                let its = batch.events.iter_mut().filter(|row| row.attested_by == Some(event::signed(cut)));
                its.for_each(event::Model::unsign);
                batch.cut.push((cut, *leaf));
            }
            let attested_by = if let Place::Signed(by) = place { Some(by) } else { None };
            batch.facts.push(Fact { is_signed: attested_by.is_some(), ..Fact::of(*leaf, &event, &batch.services) });
            if place == Place::Signature {
                // It proves something of others, and is nothing that happened: it is found by them.
                continue;
            }
            batch.events.push(event::Model::of(*leaf, &event, attested_by));
            batch.links.extend(link::of(*leaf, &event));
            batch.links.extend(link::persons(*leaf, &persons));
            if let Some((of, count)) = entry::used(&event) {
                let sum = used.entry(usage::keyed(of)).or_insert(Count { count: 0, ..count });
                *sum = sum.and(count);
            }
            let is_by = |who: &str| event.emitter.as_ref().is_some_and(|emitter| emitter.spiffe_id == who);
            match &event.emitter {
                Some(emitter) if emitter.epoch == otlp::EPOCH => batch.told.push((event.event_id.clone(), *leaf)),
                Some(emitter) if emitter.spiffe_id != voices.me => numbered::push(&mut batch.numbered, *leaf, emitter),
                _ => {}
            }
            if is_by(&voices.me) {
                let row =
                    |(id, held): (String, Option<entry::Held>)| (id, held.map(|held| hold::Model::of(*leaf, held)));
                batch.holds.extend(entry::held(&event).map(row));
                batch.gone = entry::gone(&event).map(|gone| (*leaf, gone));
            }
            if is_by(&voices.registry) {
                batch.roles.learn(&event);
                batch.made.extend(entry::made(&event).filter(|(agent, _)| known.insert(agent.clone())));
            }
            if batch.gone.is_some() {
                break;
            }
        }
        batch.events.iter().for_each(|event| event.post(&mut batch.postings));
        for link in &batch.links {
            if let Some(field) = Link::of(link.link).and_then(Field::of) {
                batch.postings.entry((field, link.value.clone())).or_default().push(event::unsigned(link.leaf));
            }
        }
        batch.blocks = stretch::of(&batch.events);
        batch.usage = used.iter().map(|(of, count)| usage::row(of, count)).collect();
        batch
    }

    /// How many leaves they are of.
    pub(crate) fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Writes them all, and lets the rules look at them.
    pub(crate) async fn insert<E>(&self, tx: &Tx, vault: &Vault) -> TxResult<Looked, E> {
        event::insert(tx, &self.events).await?;
        for (attested_by, until) in &self.cut {
            event::unsign(tx, *attested_by, *until).await?;
        }
        link::insert(tx, &self.links).await?;
        posting::add(tx, self.first..self.first + self.leaves, &self.postings).await?;
        stretch::add(tx, &self.blocks).await?;
        made_by::add(tx, &self.made).await?;
        usage::add(tx, &self.usage).await?;
        told::add(tx, &self.told).await?;
        numbered::add(tx, &self.numbered).await?;
        hold::learn(tx, &self.holds).await?;
        match &self.gone {
            None => {}
            Some((leaf, Gone::Person(person))) => custody::forget(tx, person, *leaf, None).await?,
            Some((leaf, Gone::Before(moment))) => {
                let kept = vault.weeks();
                for known in custody::known_weeks(tx, *moment).await? {
                    if !kept.contains(&known) {
                        custody::forget(tx, &known.0, *leaf, Some(known.1)).await?;
                    }
                }
            }
        }
        roles::learn(tx, &self.roles).await?;
        detect::look(tx, &self.facts, &self.services).await
    }
}

/// Puts what stands for a person in the place of the name; what it is.
fn alias(part: &mut PersonalPart, vault: &Vault) -> String {
    part.name = vault.alias(&part.name);
    part.name.clone()
}

/// Every table that leaves are written to.
const TABLES: [&str; 14] = [
    "indexed_event",
    "event_link",
    "posting",
    "posting_segment",
    "leaf_block",
    "made_by",
    "usage_hour",
    "operator_role",
    "told_by_otlp",
    "numbered",
    "legal_hold",
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
