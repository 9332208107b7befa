//! What the index holds of decisions about executed actions.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_db::rows::{among, pieces};
use legate_db::{Tx, TxResult};
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, QueryOrder as _};

use super::event::{self, Column, Entity, signed, unsigned};
use super::walk::{Part, Walk};
use super::{link, stretch};
use crate::domain::detect::evidence::{Decision, Evidence};
use crate::domain::detect::fact::Action;
use crate::domain::detect::{TOLERANCE, WINDOW};
use crate::domain::entry::Link;
use crate::domain::posting::Field;
use crate::domain::question::Order;

/// Decisions that are looked at of those about one action that names none: the first in the log.
const MOST: u64 = 16;

const MADE: &str = "decision.made";
const WITHDRAWN: &str = "decision.withdrawn";

/// What is known about these; `teller` is the one whose decisions count.
pub(super) async fn about<E>(tx: &Tx, actions: &[Action], teller: &str) -> TxResult<Evidence, E> {
    let ids = actions.iter().map(|one| one.decision.clone()).filter(|id| !id.is_empty()).collect();
    let named = by_id(tx, ids, teller).await?;
    let mut found: BTreeMap<u64, Vec<event::Model>> = BTreeMap::new();
    let mut unnamed = BTreeSet::new();
    for action in actions {
        let rows = match action.decision.as_str() {
            "" => {
                let rows = like(tx, action, teller).await?;
                unnamed.extend(rows.iter().filter_map(|row| row.decision_id.clone()));
                rows
            }
            id => named.get(id).cloned().unwrap_or_default(),
        };
        found.insert(action.leaf, rows);
    }
    let mut withdrawn = withdrawals(&named);
    withdrawn.extend(withdrawals(&by_id(tx, unnamed.into_iter().collect(), teller).await?));
    let mut evidence = Evidence::new();
    for action in actions {
        let rows = found.remove(&action.leaf).unwrap_or_default();
        let mut links = chain(tx, action, &rows).await?;
        let made = rows.into_iter().filter(|row| row.r#type == MADE).map(|row| {
            let chain = links.remove(&row.leaf).unwrap_or_default();
            decision(row, &withdrawn, chain)
        });
        evidence.insert(action.leaf, made.collect());
    }
    Ok(evidence)
}

fn decision(row: event::Model, withdrawn: &BTreeMap<String, u64>, chain: BTreeSet<String>) -> Decision {
    let text = Option::unwrap_or_default;
    Decision {
        leaf: unsigned(row.leaf),
        time: row.time,
        is_allowed: row.outcome == i32::from(legate_wire::audit::Outcome::Success),
        withdrawn: row.decision_id.as_ref().and_then(|id| withdrawn.get(id)).copied(),
        agent: text(row.agent_id),
        action: text(row.action),
        resource_type: text(row.resource_type),
        resource_id: text(row.resource_id),
        chain,
    }
}

fn withdrawals(rows: &BTreeMap<String, Vec<event::Model>>) -> BTreeMap<String, u64> {
    let all = rows.iter().filter_map(|(id, rows)| {
        let gone = rows.iter().filter(|row| row.r#type == WITHDRAWN).map(|row| unsigned(row.leaf)).min()?;
        Some((id.clone(), gone))
    });
    all.collect()
}

/// What was told of decisions by their ids, in the log's order.
async fn by_id<E>(tx: &Tx, ids: Vec<String>, teller: &str) -> TxResult<BTreeMap<String, Vec<event::Model>>, E> {
    let mut found: BTreeMap<String, Vec<event::Model>> = BTreeMap::new();
    for ids in pieces(ids) {
        let rows = Entity::find()
            .filter(among(tx, Column::DecisionId, ids))
            .filter(Column::Type.is_in([MADE, WITHDRAWN]))
            .filter(Column::Emitter.eq(teller))
            .order_by_asc(Column::Leaf);
        for row in rows.all(tx).await? {
            found.entry(row.decision_id.clone().unwrap_or_default()).or_default().push(row);
        }
    }
    Ok(found)
}

/// The first decisions about the same, of about the same time: those that allowed it, and those that denied it.
async fn like<E>(tx: &Tx, action: &Action, teller: &str) -> TxResult<Vec<event::Model>, E> {
    let time = |micros: i64| Some(Timestamp::from_micros(micros));
    let (from, to) = (action.time - WINDOW, action.time + TOLERANCE);
    let stretch = stretch::during(tx, time(from), time(to + 1), u64::MAX).await?;
    let of = |field, text: &String| Part::from([(field, vec![text.clone()])]);
    let mut found = Vec::new();
    for outcome in [legate_wire::audit::Outcome::Success, legate_wire::audit::Outcome::Denied] {
        let rest = Condition::all()
            .add(Column::ResourceType.eq(&action.resource_type))
            .add(Column::Action.eq(&action.action))
            .add(Column::Type.eq(MADE))
            .add(Column::Outcome.eq(i32::from(outcome)))
            .add(Column::Emitter.eq(teller))
            .add(Column::Time.between(from, to));
        let parts = vec![of(Field::Agent, &action.agent), of(Field::ResourceId, &action.resource_id)];
        let walk = Walk { parts, rest: Some(rest) };
        let leaves = walk.all(tx, stretch.clone(), Order::OldestFirst, MOST).await?;
        let rows = Entity::find().filter(Column::Leaf.is_in(leaves.into_iter().map(signed)));
        found.extend(rows.all(tx).await?);
    }
    found.sort_by_key(|row| row.leaf);
    Ok(found)
}

/// Which links of the action's chain each decision has.
async fn chain<E>(tx: &Tx, action: &Action, rows: &[event::Model]) -> TxResult<BTreeMap<i64, BTreeSet<String>>, E> {
    let mut found: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    if action.chain.is_empty() || rows.is_empty() {
        return Ok(found);
    }
    let links = link::Entity::find()
        .filter(link::Column::Link.eq(Link::Chain.number()))
        .filter(link::Column::Value.is_in(action.chain.clone()))
        .filter(link::Column::Leaf.is_in(rows.iter().map(|row| row.leaf)));
    for row in links.all(tx).await? {
        found.entry(row.leaf).or_default().insert(row.value);
    }
    // Who asks is in every chain that he asks for.
    for row in rows {
        found.entry(row.leaf).or_default().extend(row.agent_id.clone());
    }
    Ok(found)
}
