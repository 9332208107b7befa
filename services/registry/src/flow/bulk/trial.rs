//! What a stream of items each for itself would do, told without doing it: what came before is taken for written.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;

use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, BulkAction, BulkApplyResponse, BulkOutcome, Declaration, Kind, Metadata};
use prost::Message as _;

use super::batch::{self, Batch, Place};
use super::{MOST_BYTES, Start};
use crate::domain::kind::{self, Key};
use crate::error::BULK_TOO_LARGE;
use crate::flow::desk::Look;
use crate::flow::stage::{Known, Wanted};
use crate::flow::{Desk, plan};

/// Agents that are remembered: as many as a plan of manifests reads documents.
const MOST_AGENTS: usize = 250_000;

/// What the items before would have written.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// Agents, which are very many: a hash of what is wanted of each.
    agents: BTreeMap<Key, u64>,
    /// Everything else.
    others: BTreeMap<Key, Declaration>,
    /// Bytes of those.
    bytes: usize,
}

impl Trial {
    /// Answers a batch, and remembers what it would have written.
    #[tracing::instrument(skip_all, fields(legate.objects = batch.len()))]
    pub(super) async fn plan(
        &mut self,
        desk: &Arc<Desk>,
        start: &Start,
        batch: Batch,
    ) -> Result<BulkApplyResponse, Fault> {
        let (now, is_found, mut trial) = (desk.clock.now(), start.origin.is_some(), std::mem::take(self));
        let read = desk.look("try_bulk", &start.call.by, move |look| {
            Box::pin(async move {
                let (good, mut refused) = batch::sort(&batch.items, |wanted| plan::demand(&look, wanted))?;
                let list: Vec<&Wanted> = good.iter().map(|(_, wanted)| *wanted).collect();
                let mut known = Known::of(look.tx, &list).await?;
                trial.suppose(&mut known, &list);
                let is_there = |key: &Key| known.get(key).is_some() || trial.agents.contains_key(key);
                let (there, mut rest): (Vec<Place<'_>>, _) =
                    good.into_iter().partition(|(_, wanted)| is_found && is_there(&wanted.key));
                let by = (look.by.actor.as_str(), "");
                let staged = batch::hold_each(&mut rest, &mut refused, &known, now, by, |_| Ok(()))?;
                let mut outcomes: Vec<(usize, BulkOutcome)> = Vec::with_capacity(batch.len());
                for ((i, wanted), one) in rest.into_iter().zip(&staged) {
                    let mut outcome = super::plan::planned(one);
                    // One that was given before may be given back as it is in force.
                    let moves = outcome.action() != BulkAction::Unchanged || trial.agents.contains_key(&wanted.key);
                    if moves && let Some(again) = trial.remember(wanted) {
                        outcome.set_action(again);
                    }
                    outcomes.push((i, outcome));
                }
                outcomes.extend(there.into_iter().map(|(i, wanted)| (i, left_alone(&look, &known, wanted))));
                let revision = look.revision;
                Ok((batch::answer(&batch, outcomes, refused, Vec::new(), revision)?, trial))
            })
        });
        let (answer, trial) = read.await?;
        *self = trial;
        if self.agents.len() > MOST_AGENTS || self.bytes > MOST_BYTES {
            let text = "over 250,000 agents, or 16 MiB of other objects, that would be written; plan them in parts";
            return Err(Fault::refused(&BULK_TOO_LARGE, text));
        }
        Ok(answer)
    }

    /// Puts what would have been written where a list looks for what is in force.
    fn suppose(&self, known: &mut Known, list: &[&Wanted]) {
        let named = list.iter().flat_map(|w| {
            let named = kind::references(&w.declaration).into_iter().chain(kind::elsewhere(&w.declaration));
            named.map(|(_, key)| key).collect::<Vec<_>>()
        });
        for key in list.iter().map(|wanted| wanted.key.clone()) {
            if let Some(before) = self.others.get(&key) {
                known.suppose(key, before.clone());
            }
        }
        for key in named {
            if let Some(before) = self.others.get(&key) {
                known.suppose(key, before.clone());
            } else if self.agents.contains_key(&key) && known.get(&key).is_none() {
                let agent = named_alone(&key);
                known.suppose(key, agent);
            }
        }
    }

    /// Takes an object for written; what becomes of an agent that was before.
    fn remember(&mut self, wanted: &Wanted) -> Option<BulkAction> {
        let bytes = wanted.declaration.encode_to_vec();
        if wanted.key.kind != Kind::Agent {
            self.bytes += bytes.len();
            self.others.insert(wanted.key.clone(), wanted.declaration.clone());
            return None;
        }
        let mut hash = DefaultHasher::new();
        hash.write(&bytes);
        let before = self.agents.insert(wanted.key.clone(), hash.finish())?;
        Some(if before == hash.finish() { BulkAction::Unchanged } else { BulkAction::Updated })
    }
}

/// An agent of which nothing matters but that it is there.
fn named_alone(key: &Key) -> Declaration {
    let (namespace, name) = (key.namespace.clone(), key.name.clone());
    let metadata = Some(Metadata { namespace, name, ..Metadata::default() });
    Declaration { object: Some(Object::Agent(Agent { metadata, ..Agent::default() })) }
}

/// What is known already: it is left as it is, whatever was found says of it.
fn left_alone(look: &Look<'_>, known: &Known, wanted: &Wanted) -> BulkOutcome {
    let Some(current) = known.get(&wanted.key) else {
        return BulkOutcome { action: BulkAction::Unchanged.into(), revision: look.revision, ..BulkOutcome::default() };
    };
    BulkOutcome { fields: wanted.differing(current), ..super::plan::unchanged(current) }
}
