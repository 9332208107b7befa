//! What of a write concerns lifecycle policies: when the agents that it writes have to be looked at, and whom it makes look anew.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{AgentState, Declaration, Kind};

use super::lifecycle::policies;
use crate::domain::kind::Key;
use crate::domain::lifecycle_policy::{self, MOST, Plan, Policies};
use crate::domain::{lifecycle as life, subject};
use crate::error::LIFECYCLE_POLICIES_FULL;
use crate::store::{lifecycle, object, refuse};

/// Gathered while objects are written, and settled behind them.
#[derive(Debug, Default)]
pub(super) struct Policed {
    /// The policies of namespaces that agents were written in, as they were before the write. Where they change in it, every agent is
    /// reckoned anew later.
    policies: BTreeMap<String, Policies>,
    /// Namespaces of which a policy changed.
    changed: BTreeSet<String>,
    /// Namespaces of which a group changed.
    groups: BTreeSet<String>,
    /// Namespaces that have a policy more.
    added: BTreeSet<String>,
    /// Agents that are retired, by their ids.
    retired: Vec<String>,
    /// Policies that were taken back, by their ids.
    gone: Vec<String>,
}

impl Policed {
    /// Takes note of an object as it is written; when it has to be looked at.
    pub(super) async fn note(
        &mut self,
        tx: &Tx,
        key: &Key,
        declaration: &Declaration,
        before: Option<&Declaration>,
        revoked: bool,
        now: Timestamp,
    ) -> TxResult<Plan, Fault> {
        let id = || declaration.metadata().map(|m| m.id.clone()).unwrap_or_default();
        match &declaration.object {
            Some(Object::LifecyclePolicy(_)) => {
                self.changed.insert(key.namespace.clone());
                if before.is_none() {
                    self.added.insert(key.namespace.clone());
                }
                if revoked {
                    self.gone.push(id());
                }
            }
            Some(Object::Group(_)) => {
                self.groups.insert(key.namespace.clone());
            }
            Some(Object::Agent(agent)) if life::state_of(agent) == AgentState::Retired => self.retired.push(id()),
            Some(Object::Agent(_)) => return self.plan(tx, key, declaration, now).await,
            _ => {}
        }
        Ok(Plan::default())
    }

    async fn plan(&mut self, tx: &Tx, key: &Key, agent: &Declaration, now: Timestamp) -> TxResult<Plan, Fault> {
        if !self.policies.contains_key(&key.namespace) {
            self.policies.insert(key.namespace.clone(), policies(tx, &key.namespace).await?);
        }
        let policies = self.policies.get(&key.namespace).filter(|policies| !policies.is_empty());
        let dues = policies.map(|policies| policies.dues(agent, subject::last_used(agent))).unwrap_or_default();
        // What was told before is seen when it is looked at.
        Ok(lifecycle_policy::plan(&dues, now, |_, _| false))
    }

    /// What follows of it, once the objects are written.
    pub(super) async fn settle(&mut self, tx: &Tx) -> TxResult<(), Fault> {
        for namespace in std::mem::take(&mut self.added) {
            let there = object::in_namespace(tx, Kind::LifecyclePolicy, &namespace, MOST as u64 + 1).await?;
            if there.len() > MOST {
                let text = format!("there would be more than {MOST} lifecycle policies in {namespace}");
                return Err(refuse(Fault::refused(&LIFECYCLE_POLICIES_FULL, text)));
            }
        }
        let mut changed = std::mem::take(&mut self.changed);
        for namespace in std::mem::take(&mut self.groups) {
            let is_policed = !object::in_namespace(tx, Kind::LifecyclePolicy, &namespace, 1).await?.is_empty();
            if is_policed {
                changed.insert(namespace);
            }
        }
        lifecycle::begin(tx, changed).await?;
        lifecycle::forget(tx, std::mem::take(&mut self.retired), std::mem::take(&mut self.gone)).await
    }
}
