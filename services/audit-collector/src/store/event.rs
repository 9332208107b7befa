//! Where each event is, by what is asked for.

use std::collections::BTreeMap;

use legate_clock::Timestamp;
use legate_db::rows::pieces;
use legate_db::{Tx, TxResult};
use legate_wire::audit::{AuditEvent, TrustClass};
use sea_orm::entity::prelude::*;
use sea_orm::{IntoActiveModel as _, QuerySelect as _};

use super::walk::{Part, Walk};
use crate::domain::attested::trust_of;
use crate::domain::posting::{Field, Postings};
use crate::domain::question::{Order, plain};
pub(crate) use crate::domain::text::key;

/// Rows in one statement; SQLite binds 32,766 values at most.
pub(super) const AT_ONCE: usize = 1_024;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "indexed_event")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) leaf: i64,
    pub(crate) time: i64,
    pub(crate) r#type: String,
    pub(crate) outcome: i32,
    pub(crate) emitter: String,
    pub(crate) namespace: Option<String>,
    pub(crate) actor: Option<String>,
    pub(crate) agent_id: Option<String>,
    pub(crate) instance_id: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) resource_type: Option<String>,
    pub(crate) resource_id: Option<String>,
    pub(crate) reason_code: Option<String>,
    pub(crate) trace_id: Option<String>,
    pub(crate) decision_id: Option<String>,
    /// How far its origin is proved, as the protobufs number it.
    pub(crate) trust: i32,
    /// The leaf with its emitter's signature.
    pub(crate) attested_by: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// A number of leaves as the database has it.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The reverse; the database never holds a negative one.
pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| key(text))
}

impl Model {
    /// The row of the event at `leaf`.
    pub(crate) fn of(leaf: u64, event: &AuditEvent, attested_by: Option<u64>) -> Self {
        let resource = event.resource.as_ref();
        let time = event.time.and_then(|t| Timestamp::try_from(t).ok()).unwrap_or_default();
        Self {
            leaf: signed(leaf),
            time: time.micros(),
            r#type: key(&event.r#type),
            outcome: event.outcome,
            emitter: key(event.emitter.as_ref().map_or("", |e| &e.spiffe_id)),
            namespace: some(&event.namespace),
            actor: some(&event.actor),
            agent_id: some(&event.agent_id),
            instance_id: some(&event.instance_id),
            subject: some(&plain(&event.subject)),
            action: some(&event.action),
            resource_type: resource.and_then(|r| some(&r.r#type)),
            resource_id: resource.and_then(|r| some(&r.id)),
            reason_code: some(&event.reason_code),
            trace_id: some(&event.trace_id),
            decision_id: event.decision.as_ref().and_then(|d| some(&d.decision_id)),
            trust: trust_of(event, attested_by.is_some()).into(),
            attested_by: attested_by.map(signed),
        }
    }

    /// Adds everything that it is found by.
    pub(crate) fn post(&self, postings: &mut Postings) {
        let some = [
            (Field::Type, Some(&self.r#type)),
            (Field::Namespace, self.namespace.as_ref()),
            (Field::Agent, self.agent_id.as_ref()),
            (Field::Instance, self.instance_id.as_ref()),
            (Field::Subject, self.subject.as_ref()),
            (Field::Action, self.action.as_ref()),
            (Field::ResourceType, self.resource_type.as_ref()),
            (Field::ResourceId, self.resource_id.as_ref()),
            (Field::Trace, self.trace_id.as_ref()),
            (Field::Actor, self.actor.as_ref()),
            (Field::Emitter, Some(&self.emitter)),
        ];
        for (field, text) in some {
            if let Some(text) = text {
                postings.entry((field, text.clone())).or_default().push(unsigned(self.leaf));
            }
        }
    }

    /// It is not signed after all: its batch was cut short.
    pub(super) fn unsign(&mut self) {
        (self.trust, self.attested_by) = (TrustClass::Authenticated.into(), None);
    }
}

/// Which of these leaves are signed, and by which leaf.
pub(crate) async fn attested<E>(tx: &Tx, leaves: &[u64]) -> TxResult<BTreeMap<u64, u64>, E> {
    let mut found = BTreeMap::new();
    for leaves in leaves.chunks(AT_ONCE) {
        let rows = Entity::find().select_only().columns([Column::Leaf, Column::AttestedBy]);
        let rows = rows.filter(Column::Leaf.is_in(leaves.iter().copied().map(signed)));
        let rows: Vec<(i64, Option<i64>)> = rows.filter(Column::AttestedBy.is_not_null()).into_tuple().all(tx).await?;
        found.extend(rows.into_iter().filter_map(|(leaf, by)| Some((unsigned(leaf), unsigned(by?)))));
    }
    Ok(found)
}

/// Of a batch that was cut short nothing is signed: what it was signed with is not all here.
pub(crate) async fn unsign<E>(tx: &Tx, attested_by: u64, until: u64) -> TxResult<(), E> {
    Entity::update_many()
        .col_expr(Column::Trust, Expr::value(i32::from(TrustClass::Authenticated)))
        .col_expr(Column::AttestedBy, Expr::value(None::<i64>))
        .filter(Column::Leaf.gt(signed(attested_by)))
        .filter(Column::Leaf.lt(signed(until)))
        .filter(Column::AttestedBy.eq(signed(attested_by)))
        .exec(tx)
        .await?;
    Ok(())
}

pub(crate) async fn insert<E>(tx: &Tx, rows: &[Model]) -> TxResult<(), E> {
    for rows in pieces(rows.to_vec()) {
        let rows = rows.into_iter().map(|row| row.into_active_model().reset_all());
        Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// Types of events, as far as this emitter tells them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voice<'a> {
    pub(crate) emitter: &'a str,
    pub(crate) types: &'a [&'a str],
}

/// Where, from a leaf on, these tell of something.
pub(crate) async fn told<E>(tx: &Tx, voices: &[Voice<'_>], from: u64, most: u64) -> TxResult<Vec<u64>, E> {
    let mut told = Vec::new();
    for voice in voices {
        let texts = |all: &[&str]| all.iter().map(|text| key(text)).collect();
        let parts = [(Field::Type, texts(voice.types)), (Field::Emitter, texts(&[voice.emitter]))];
        let walk = Walk { parts: parts.map(|part| Part::from([part])).into(), rest: None };
        told.extend(walk.all(tx, from..u64::MAX, Order::OldestFirst, most).await?);
    }
    told.sort_unstable();
    told.dedup();
    told.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(told)
}
