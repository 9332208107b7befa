//! Where each event is, by what is asked for.

use std::convert::Infallible;

use aws_lc_rs::digest::{SHA256, digest};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_wire::audit::AuditEvent;
use sea_orm::entity::prelude::*;
use sea_orm::{DbBackend, IntoActiveModel as _, QueryOrder as _, QuerySelect as _};

use crate::domain::question::{Question, TypeFilter};

/// Rows in one statement; SQLite binds 32,766 values at most.
const AT_ONCE: usize = 1_024;

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
    pub(crate) action: Option<String>,
    pub(crate) resource_type: Option<String>,
    pub(crate) resource_id: Option<String>,
    pub(crate) trace_id: Option<String>,
    pub(crate) credential_id: Option<String>,
    pub(crate) decision_id: Option<String>,
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

/// A text as it is indexed and asked for. PostgreSQL takes no NUL, and neither database an index entry without bound;
/// the hash keeps long texts apart.
pub(crate) fn key(text: &str) -> String {
    const LONGEST: usize = 256;
    if text.len() <= LONGEST && !text.contains('\0') {
        return text.to_owned();
    }
    let hash: String = digest(&SHA256, text.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let beginning: String = text.chars().take(32).filter(|c| *c != '\0').collect();
    format!("{beginning}\u{2026}{hash}")
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| key(text))
}

impl Model {
    /// The row of the event at `leaf`.
    pub(crate) fn of(leaf: u64, event: &AuditEvent) -> Self {
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
            action: some(&event.action),
            resource_type: resource.and_then(|r| some(&r.r#type)),
            resource_id: resource.and_then(|r| some(&r.id)),
            trace_id: some(&event.trace_id),
            credential_id: some(&event.credential_id),
            decision_id: event.decision.as_ref().and_then(|d| some(&d.decision_id)),
        }
    }
}

pub(crate) async fn insert<E>(tx: &Tx, rows: &[Model]) -> TxResult<(), E> {
    for rows in rows.chunks(AT_ONCE) {
        let rows = rows.iter().cloned().map(|row| row.into_active_model().reset_all());
        Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// Forgets every row.
pub(crate) async fn clear<E>(tx: &Tx) -> TxResult<(), E> {
    let sql = match tx.get_database_backend() {
        DbBackend::Postgres => "TRUNCATE indexed_event",
        _ => "DELETE FROM indexed_event",
    };
    tx.execute_unprepared(sql).await?;
    Ok(())
}

/// The leaves that answer a question, newest first, those below `before`.
pub(crate) async fn page(
    tx: &Tx,
    question: &Question,
    before: Option<u64>,
    limit: u64,
) -> TxResult<Vec<u64>, Infallible> {
    let mut select = Entity::find().select_only().column(Column::Leaf);
    let texts = [
        (Column::AgentId, &question.agent_id),
        (Column::Actor, &question.actor),
        (Column::Namespace, &question.namespace),
        (Column::Action, &question.action),
        (Column::ResourceType, &question.resource_type),
        (Column::ResourceId, &question.resource_id),
        (Column::TraceId, &question.trace_id),
        (Column::CredentialId, &question.credential_id),
        (Column::DecisionId, &question.decision_id),
        (Column::Emitter, &question.emitter),
    ];
    for (column, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        select = select.filter(column.eq(key(text)));
    }
    select = match &question.kind {
        TypeFilter::Any => select,
        TypeFilter::Exactly(kind) => select.filter(Column::Type.eq(key(kind))),
        // `/` is the character after `.`: this is the range of everything that begins so.
        TypeFilter::Under(noun) => {
            select.filter(Column::Type.gte(format!("{noun}."))).filter(Column::Type.lt(format!("{noun}/")))
        }
    };
    if question.outcome != 0 {
        select = select.filter(Column::Outcome.eq(question.outcome));
    }
    if let Some(from) = question.from {
        select = select.filter(Column::Time.gte(from.micros()));
    }
    if let Some(to) = question.to {
        select = select.filter(Column::Time.lt(to.micros()));
    }
    if let Some(before) = before {
        select = select.filter(Column::Leaf.lt(signed(before)));
    }
    let leaves: Vec<i64> = select.order_by_desc(Column::Leaf).limit(limit).into_tuple().all(tx).await?;
    Ok(leaves.into_iter().map(unsigned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_are_bounded_hold_no_nul_and_keep_texts_apart(a in "[\\x00a-c\u{e9}]{0,600}", b in "[\\x00a-c\u{e9}]{0,600}") {
            let (x, y) = (key(&a), key(&b));
            prop_assert!(x.len() <= 256 && !x.contains('\0'));
            prop_assert_eq!(x == y, a == b);
        }
    }
}
