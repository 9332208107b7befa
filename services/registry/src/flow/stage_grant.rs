//! Grants of delegation that pass on a part of others: no more than those give, and never round.

use std::collections::{BTreeMap, BTreeSet};

use legate_authority::MAX_DEPTH;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::{ChangeAction, Declaration, Kind};

use super::stage::{Staged, Wanted, differs};
use crate::domain::delegation::{Broken, Grant};
use crate::domain::kind::{self, Key};
use crate::domain::problem::Problem;
use crate::error::{GRANT_CHAIN_INVALID, GRANT_EXCEEDS_PARENT};
use crate::store::{object, reference};

/// The most grants after those of a list that are looked at.
const MOST: usize = 10_000;

/// The grants in force before and after those of a list that are new or changed.
#[derive(Debug, Default)]
pub(super) struct Chains {
    grants: BTreeMap<Key, Grant>,
    /// There are more after them than are looked at.
    is_cut: bool,
}

impl Chains {
    pub(super) async fn of(tx: &Tx, list: &[&Wanted], objects: &BTreeMap<Key, Declaration>) -> TxResult<Self, Fault> {
        let mut chains = Self::default();
        let touched = list.iter().filter(|w| w.key.kind == Kind::DelegationGrant && differs(w, objects));
        let (mut after, mut before) = (BTreeSet::new(), BTreeSet::new());
        for wanted in touched {
            // What is new has nothing after it.
            if objects.contains_key(&wanted.key) {
                after.insert(wanted.key.clone());
            }
            before.extend(parent(&wanted.key, Grant::read(&wanted.declaration).as_ref()));
        }
        let mut seen = after.clone();
        while !after.is_empty() && !chains.is_cut {
            let ids = reference::of_all(tx, after, MOST as u64).await?;
            after = BTreeSet::new();
            for row in object::by_ids(tx, ids).await?.into_iter().filter(|row| row.holds_name) {
                let declaration = row.declaration()?;
                let (Some(key), Some(grant)) = (kind::key_of(&declaration), Grant::read(&declaration)) else {
                    continue;
                };
                if seen.insert(key.clone()) {
                    // One that the list gives another parent has that one before it.
                    before.extend(parent(&key, Some(&grant)));
                    chains.grants.insert(key.clone(), grant);
                    after.insert(key);
                }
            }
            chains.is_cut = chains.grants.len() >= MOST;
        }
        // What the list gives may lead on from a grant in force, and back to one.
        before.extend(list.iter().filter_map(|w| parent(&w.key, Grant::read(&w.declaration).as_ref())));
        while !before.is_empty() {
            before.retain(|key| !chains.grants.contains_key(key));
            let mut next = BTreeSet::new();
            for (key, row) in object::by_keys(tx, before).await? {
                let Some(grant) = Grant::read(&row.declaration()?) else { continue };
                next.extend(parent(&key, Some(&grant)));
                chains.grants.insert(key, grant);
            }
            before = next;
        }
        Ok(chains)
    }
}

/// The grant that another passes on a part of.
fn parent(of: &Key, grant: Option<&Grant>) -> Option<Key> {
    let parent = grant.map(|grant| grant.parent.as_str()).filter(|parent| !parent.is_empty())?;
    Some(Key::new(Kind::DelegationGrant, &of.namespace, parent))
}

/// Whether each grant that is new or changed, and each that passes on a part of one, keeps within those before it.
pub(super) fn check(staged: &[Staged], given: &BTreeMap<&Key, &Declaration>, chains: &Chains) -> Vec<(usize, Problem)> {
    let mut problems = Vec::new();
    // The places in the list of what is changed: of a grant itself, or of one before it.
    let mut touched: Vec<(Key, usize)> = Vec::new();
    for (i, one) in staged.iter().enumerate() {
        if one.key.kind == Kind::DelegationGrant && one.action() != ChangeAction::Unchanged {
            touched.push((one.key.clone(), i));
        }
    }
    let Some((_, first)) = touched.first() else { return problems };
    if chains.is_cut {
        let why = format!("over {MOST} grants pass on a part of what is changed; take some of them back first");
        problems.push((*first, Problem::of(&GRANT_CHAIN_INVALID, "spec", why)));
        return problems;
    }
    let mut later: BTreeMap<Key, Grant> = chains.grants.clone();
    later.extend(given.iter().filter_map(|(key, given)| Some(((*key).clone(), Grant::read(given)?))));
    let mut after: BTreeMap<Key, Vec<&Key>> = BTreeMap::new();
    for (key, grant) in &later {
        if let Some(parent) = parent(key, Some(grant)) {
            after.entry(parent).or_default().push(key);
        }
    }
    let mut seen: BTreeSet<Key> = touched.iter().map(|(key, _)| key.clone()).collect();
    let changed = touched.len();
    let mut at = 0;
    while let Some((key, by)) = touched.get(at).cloned() {
        for key in after.get(&key).into_iter().flatten() {
            if seen.insert((*key).clone()) {
                touched.push(((*key).clone(), by));
            }
        }
        at += 1;
    }
    for (n, (key, by)) in touched.into_iter().enumerate() {
        let Some(grant) = later.get(&key) else { continue };
        let (reason, field, why) = match grant.keeps_within(&before(&later, &key, grant)) {
            Ok(()) => continue,
            Err(Broken::Wider(field, why)) => (&GRANT_EXCEEDS_PARENT, field, why),
            Err(Broken::Round(field, why)) => (&GRANT_CHAIN_INVALID, field, why),
        };
        problems.push(if n < changed {
            (by, Problem::of(reason, format!("spec.{field}"), why))
        } else {
            let why = format!("DelegationGrant {key} would not fit any more: {field}: {why}");
            (by, Problem::of(reason, "spec", why))
        });
    }
    problems
}

/// The grants before one, the nearest first; one more than may be, where it goes round.
fn before<'l>(later: &'l BTreeMap<Key, Grant>, of: &Key, grant: &Grant) -> Vec<&'l Grant> {
    let mut chain = Vec::new();
    let mut next = parent(of, Some(grant));
    while let Some(key) = next.filter(|_| chain.len() <= MAX_DEPTH as usize) {
        // One that is missing is told as a missing reference.
        let Some(found) = later.get(&key) else { break };
        next = parent(&key, Some(found));
        chain.push(found);
    }
    chain
}
