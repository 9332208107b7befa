//! Which acts are in the log that came by OTLP: what comes again is known by its id.

use std::collections::BTreeSet;

use legate_db::{Tx, TxResult};
use sea_orm::ActiveValue::Set;
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

use super::event::{AT_ONCE, key, signed};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "told_by_otlp")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) event_id: String,
    pub(crate) leaf: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Adds ids and their leaves.
pub(crate) async fn add<E>(tx: &Tx, told: &[(String, u64)]) -> TxResult<(), E> {
    for rows in told.chunks(AT_ONCE) {
        let row = |(id, leaf): &(String, u64)| ActiveModel { event_id: Set(key(id)), leaf: Set(signed(*leaf)) };
        let known = OnConflict::column(Column::EventId).do_nothing().to_owned();
        Entity::insert_many(rows.iter().map(row)).on_conflict(known).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// Those of these ids that are there.
pub(crate) async fn known<E>(tx: &Tx, ids: &[String]) -> TxResult<BTreeSet<String>, E> {
    let mut found = BTreeSet::new();
    for ids in ids.chunks(AT_ONCE) {
        let rows = Entity::find()
            .select_only()
            .column(Column::EventId)
            .filter(Column::EventId.is_in(ids.iter().map(String::as_str)));
        let rows: Vec<String> = rows.into_tuple().all(tx).await?;
        found.extend(rows);
    }
    Ok(found)
}
