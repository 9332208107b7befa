//! What the rules remember from leaf to leaf.

use std::collections::BTreeMap;

use legate_db::rows::{among, insert, pieces, remove};
use legate_db::{Tx, TxResult};
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

use crate::domain::detect::memory::{Key, Rest, WAITING};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, DeriveEntityModel)]
#[sea_orm(table_name = "remembered")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) kind: i16,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) name: String,
    pub(crate) due: Option<i64>,
    #[sea_orm(column_type = "Blob")]
    pub(crate) value: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

fn rest(row: Model) -> Rest {
    Rest { key: (row.kind, row.name), due: row.due, value: row.value }
}

fn row(rest: Rest) -> Model {
    Model { kind: rest.key.0, name: rest.key.1, due: rest.due, value: rest.value }
}

/// What rests under these names.
pub(super) async fn named<E>(tx: &Tx, keys: Vec<Key>) -> TxResult<Vec<Rest>, E> {
    let mut by_kind: BTreeMap<i16, Vec<String>> = BTreeMap::new();
    for (kind, name) in keys {
        by_kind.entry(kind).or_default().push(name);
    }
    let mut found = Vec::new();
    for (kind, names) in by_kind {
        for names in pieces(names) {
            let some = Entity::find().filter(Column::Kind.eq(kind)).filter(among(tx, Column::Name, names));
            found.extend(some.all(tx).await?.into_iter().map(rest));
        }
    }
    Ok(found)
}

/// What waits for this moment of the log's time, or an earlier one.
pub(super) async fn due<E>(tx: &Tx, now: i64) -> TxResult<Vec<Rest>, E> {
    Ok(Entity::find().filter(Column::Due.lte(now)).all(tx).await?.into_iter().map(rest).collect())
}

/// Whether anything waits to be judged.
pub(super) async fn is_any_due<E>(tx: &Tx) -> TxResult<bool, E> {
    let one = Entity::find().select_only().column(Column::Kind).filter(Column::Kind.eq(WAITING));
    let one: Option<i16> = one.into_tuple().one(tx).await?;
    Ok(one.is_some())
}

/// Lets rest what has changed, and forgets what is gone.
pub(super) async fn keep<E>(tx: &Tx, changed: Vec<Rest>, gone: Vec<Rest>) -> TxResult<(), E> {
    let mut known = OnConflict::columns([Column::Kind, Column::Name]);
    known.update_columns([Column::Due, Column::Value]);
    insert::<Entity>(tx, changed.into_iter().map(row).collect(), Some(&known)).await?;
    remove::<Entity>(tx, gone.into_iter().map(row).collect()).await?;
    Ok(())
}
