//! Legal holds in force, by the collector's own events: what they hold is found in the index.

use legate_db::{Tx, TxResult};
use sea_orm::entity::prelude::*;
use sea_orm::{IntoActiveModel as _, QueryOrder as _};

use super::custody::statement;
use super::event::{key, signed};
use crate::domain::entry::{Held, Link};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "legal_hold")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    /// The event that set it, which says the rest.
    pub(crate) leaf: i64,
    /// As the index has persons.
    pub(crate) subject: Option<String>,
    pub(crate) agent_id: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) from_time: Option<i64>,
    pub(crate) to_time: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    pub(crate) fn of(leaf: u64, held: Held) -> Self {
        let some = |text: String| (!text.is_empty()).then(|| key(&text));
        Self {
            id: key(&held.id),
            leaf: signed(leaf),
            subject: some(held.subject),
            agent_id: some(held.agent_id),
            namespace: some(held.namespace),
            from_time: held.from.map(|at| at.micros()),
            to_time: held.to.map(|at| at.micros()),
        }
    }
}

/// A hold is set, or ends.
pub(crate) async fn learn<E>(tx: &Tx, changes: &[(String, Option<Model>)]) -> TxResult<(), E> {
    for (id, row) in changes {
        Entity::delete_by_id(key(id)).exec(tx).await?;
        if let Some(row) = row {
            Entity::insert(row.clone().into_active_model().reset_all()).exec_without_returning(tx).await?;
        }
    }
    Ok(())
}

pub(crate) async fn all<E>(tx: &Tx) -> TxResult<Vec<Model>, E> {
    Ok(Entity::find().order_by_asc(Column::Leaf).all(tx).await?)
}

pub(crate) async fn count<E>(tx: &Tx) -> TxResult<u64, E> {
    Ok(Entity::find().count(tx).await?)
}

pub(crate) async fn get<E>(tx: &Tx, id: &str) -> TxResult<Option<Model>, E> {
    Ok(Entity::find_by_id(key(id)).one(tx).await?)
}

/// The holds under which events that name this person are.
pub(crate) async fn on<E>(tx: &Tx, person: &str) -> TxResult<Vec<String>, E> {
    let sql = format!(
        "SELECT h.id FROM legal_hold h WHERE (h.subject IS NULL OR h.subject = '{person}') AND EXISTS (SELECT 1 FROM event_link l \
         JOIN indexed_event e ON e.leaf = l.leaf WHERE l.link = {} AND l.value = '{person}' \
         AND (h.agent_id IS NULL OR e.agent_id = h.agent_id) AND (h.namespace IS NULL OR e.namespace = h.namespace) \
         AND (h.from_time IS NULL OR e.time >= h.from_time) AND (h.to_time IS NULL OR e.time < h.to_time)) ORDER BY h.leaf",
        Link::Person.number(),
        person = super::custody::literal(person),
    );
    let rows = tx.query_all_raw(statement(tx, sql)).await?;
    Ok(rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?)
}
