//! What a change takes away: whether it may go, and in which order it goes.

use std::collections::{BTreeMap, BTreeSet};

use legate_authority::Right;
use legate_db::TxResult;
use legate_rpc::Fault;
use legate_wire::registry::{ChangeAction, Declaration, DeclarationChange, Kind, ObjectName};

use super::stage::{self, Staged, Wanted};
use super::transition::{self, Step};
use super::write::Writing;
use super::{lineage, revoke};
use crate::domain::check;
use crate::domain::kind::{self, Key};
use crate::domain::lifecycle::Transition;
use crate::domain::lineage::MOST_BELOW;
use crate::domain::operators;
use crate::domain::problem::Problem;
use crate::error::{KIND_NOT_APPLICABLE, OBJECT_IN_USE, OBJECT_REPEATED};
use crate::store::{object, reference};

/// Objects that are named in a refusal.
const NAMED: usize = 5;

/// An object that is no longer wanted, and what there is of it.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    key: Key,
    current: Option<Declaration>,
}

impl Leaving {
    /// When it was last written; 0: nothing of this name is in force.
    pub(super) fn revision(&self) -> u64 {
        self.current.as_ref().and_then(Declaration::metadata).map_or(0, |metadata| metadata.revision)
    }

    /// What is told of it.
    pub(super) fn told(&self) -> DeclarationChange {
        let id = self.current.as_ref().and_then(Declaration::metadata).map(|m| m.id.clone()).unwrap_or_default();
        let action = if self.current.is_some() { ChangeAction::Removed } else { ChangeAction::Unchanged };
        DeclarationChange {
            action: action.into(),
            kind: self.key.kind.into(),
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
            id,
            fields: Vec::new(),
        }
    }
}

/// What a request of a list gives, with the place of each.
pub(super) fn given(list: &[Wanted]) -> BTreeMap<Key, String> {
    list.iter().enumerate().map(|(i, one)| (one.key.clone(), format!("declarations[{i}]"))).collect()
}

/// Whether the removals of a request are what they have to be, each for itself, and none of what it gives. They need a reason, as a
/// revocation does.
pub(super) fn read(removals: Vec<ObjectName>, given: BTreeMap<Key, String>) -> Result<Vec<Key>, Fault> {
    let mut problems = Vec::new();
    let mut seen = given;
    let mut keys = Vec::with_capacity(removals.len());
    for (i, ObjectName { kind, namespace, name }) in removals.into_iter().enumerate() {
        let path = format!("removals[{i}]");
        let key = match revoke::key(kind, &namespace, &name) {
            Ok(key) => key,
            Err(fault) => {
                problems.push(Problem { path, why: fault.to_string(), reason: &legate_rpc::INVALID_ARGUMENT });
                continue;
            }
        };
        if matches!(key.kind, Kind::SigningKey | Kind::Revocation | Kind::Approval | Kind::StopOrder) {
            let why =
                "signing keys and revocations are taken back by credential-issuer, approvals by `legate approval`, stops by `legate resume`"
                    .to_owned();
            problems.push(Problem { path, why, reason: &KIND_NOT_APPLICABLE });
        } else if let Some(first) = seen.insert(key.clone(), path.clone()) {
            let why = format!("is {} {key} again, as {first}", kind::kind_name(key.kind));
            problems.push(Problem { path, why, reason: &OBJECT_REPEATED });
        } else {
            keys.push(key);
        }
    }
    stage::refusal(problems)?;
    Ok(keys)
}

/// Refuses removals for which nobody says why.
pub(super) fn check_reason(removals: &[Key], reason: &str) -> Result<(), Fault> {
    if removals.is_empty() {
        return Ok(());
    }
    stage::refusal(check::check_reason(reason, true))
}

/// Refuses removals of objects that the caller may not take away, before anything of the registry shows.
pub(super) fn demand(writing: &mut Writing<'_>, removals: &[Key]) -> Result<(), Fault> {
    removals.iter().try_for_each(|key| {
        let right = match key.kind {
            Kind::Agent => Step::Transition(Transition::Retire).right(),
            kind => operators::to_write(kind),
        };
        writing.demand(right, operators::place(key))
    })
}

/// Holds the removals against what stays in force after the change: nothing of that may name one of them.
pub(super) async fn stage(tx: &legate_db::Tx, keys: &[Key], staged: &[Staged]) -> TxResult<Vec<Leaving>, Fault> {
    let mut going: BTreeSet<Key> = keys.iter().cloned().collect();
    let changing: BTreeMap<&Key, &Declaration> = staged.iter().map(|one| (&one.key, &one.wanted)).collect();
    let mut there = object::by_keys(tx, going.clone()).await?;
    // Whoever was made by an agent is retired with it.
    for (key, row) in there.iter().filter(|(key, _)| key.kind == Kind::Agent) {
        let below = lineage::below(tx, &key.namespace, &row.id, MOST_BELOW).await?;
        going.extend(below.iter().filter_map(kind::key_of));
    }
    let mut named_by: BTreeMap<Key, Vec<&Key>> = BTreeMap::new();
    for (by, wanted) in &changing {
        for (_, to) in kind::references(wanted).into_iter().filter(|(_, to)| going.contains(to)) {
            named_by.entry(to).or_default().push(by);
        }
    }
    // Whatever else the request speaks of may name it as well; beyond that, a few are enough to say no.
    let limit = (going.len() + staged.len() + NAMED) as u64;
    let mut problems = Vec::new();
    let mut leaving = Vec::with_capacity(keys.len());
    for (i, key) in keys.iter().enumerate() {
        let current = there.remove(key).map(|row| row.declaration()).transpose()?;
        let mut named = Vec::new();
        if current.is_some() {
            for id in reference::from(tx, key, limit).await? {
                let by = object::by_id(tx, &id).await?.map(|row| row.declaration()).transpose()?;
                let Some(by) = by.as_ref().and_then(kind::key_of) else { continue };
                // What is written anew is judged by what it will name.
                if !going.contains(&by) && !changing.contains_key(&by) {
                    named.push(format!("{} {by}", kind::kind_name(by.kind)));
                }
            }
        }
        let still: BTreeSet<&&Key> = named_by.get(key).into_iter().flatten().collect();
        named.extend(still.into_iter().map(|by| format!("{} {by}", kind::kind_name(by.kind))));
        if !named.is_empty() {
            let more = named.len().saturating_sub(NAMED);
            named.truncate(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let why = format!(
                "{} {key} cannot be removed: it is named by {}{more}, which stays in force",
                kind::kind_name(key.kind),
                named.join(", ")
            );
            problems.push(Problem { path: format!("removals[{i}]"), why, reason: &OBJECT_IN_USE });
        }
        leaving.push(Leaving { key: key.clone(), current });
    }
    stage::refusal(problems).map_err(crate::store::refuse)?;
    Ok(leaving)
}

/// Refuses removals that take more than to write the object.
pub(super) fn demand_more(writing: &mut Writing<'_>, leaving: &[Leaving]) -> Result<(), Fault> {
    let guarded = leaving.iter().filter(|one| one.current.as_ref().is_some_and(operators::asks_for_an_approver));
    guarded.map(|one| operators::place(&one.key)).try_for_each(|place| writing.demand(Right::Administer, place))
}

/// Takes them away: first what names others, then the agents, then the namespaces.
pub(super) async fn take(writing: &mut Writing<'_>, leaving: &[Leaving]) -> TxResult<(), Fault> {
    let mut order: Vec<&Leaving> = leaving.iter().collect();
    order.sort_by_key(|one| match one.key.kind {
        Kind::Namespace => 2,
        Kind::Agent => 1,
        _ => 0,
    });
    for one in order {
        let Some(current) = one.current.clone() else { continue };
        if one.key.kind == Kind::Agent {
            // It may have been retired with whoever made it.
            let Some(row) = object::by_key(writing.tx, &one.key).await? else { continue };
            let current = row.declaration()?;
            Box::pin(transition::take(writing, current, Step::Transition(Transition::Retire))).await?;
        } else {
            writing.take_back(current, "revoked").await?;
        }
    }
    Ok(())
}
