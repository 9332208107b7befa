//! Times as stretches of the log: of each block of leaves, between which times its events are.

use std::collections::BTreeMap;
use std::ops::Range;

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use sea_orm::IntoActiveModel as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::event::{self, AT_ONCE, unsigned};

/// Leaves of one block.
const BLOCK: i64 = 1_024;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "leaf_block")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) block: i64,
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The blocks of these events, each as far as they fill it.
pub(crate) fn of(events: &[event::Model]) -> Vec<Model> {
    let mut blocks: BTreeMap<i64, Model> = BTreeMap::new();
    for event in events {
        let (block, time) = (event.leaf / BLOCK, event.time);
        let row = blocks.entry(block).or_insert(Model { block, first_time: time, last_time: time });
        row.first_time = row.first_time.min(time);
        row.last_time = row.last_time.max(time);
    }
    blocks.into_values().collect()
}

/// Adds to what is known of blocks.
pub(crate) async fn add<E>(tx: &Tx, blocks: &[Model]) -> TxResult<(), E> {
    let widen = || {
        let mut widen = OnConflict::column(Column::Block);
        let first = "CASE WHEN excluded.first_time < leaf_block.first_time THEN excluded.first_time \
                     ELSE leaf_block.first_time END";
        let last = "CASE WHEN excluded.last_time > leaf_block.last_time THEN excluded.last_time \
                    ELSE leaf_block.last_time END";
        widen.value(Column::FirstTime, Expr::cust(first)).value(Column::LastTime, Expr::cust(last));
        widen
    };
    for rows in blocks.chunks(AT_ONCE) {
        let rows = rows.iter().cloned().map(|row| row.into_active_model().reset_all());
        Entity::insert_many(rows).on_conflict(widen()).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// The stretch of the log, of `size` leaves, outside of which no event is of this time.
pub(crate) async fn during<E>(
    tx: &Tx,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    size: u64,
) -> TxResult<Range<u64>, E> {
    let mut stretch = 0..size;
    if let Some(from) = from {
        let first = Entity::find().select_only().column(Column::Block).filter(Column::LastTime.gte(from.micros()));
        let first: Option<i64> = first.order_by_asc(Column::Block).into_tuple().one(tx).await?;
        stretch.start = first.map_or(size, |block| unsigned(block * BLOCK));
    }
    if let Some(to) = to {
        let last = Entity::find().select_only().column(Column::Block).filter(Column::FirstTime.lt(to.micros()));
        let last: Option<i64> = last.order_by_desc(Column::Block).into_tuple().one(tx).await?;
        stretch.end = last.map_or(0, |block| unsigned((block + 1) * BLOCK)).min(size);
    }
    Ok(stretch)
}

/// The first moment that any event is of.
pub(crate) async fn first_time<E>(tx: &Tx) -> TxResult<Option<Timestamp>, E> {
    let first = Entity::find().select_only().column(Column::FirstTime).order_by_asc(Column::FirstTime);
    let first: Option<i64> = first.into_tuple().one(tx).await?;
    Ok(first.map(Timestamp::from_micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_as_wide_as_its_events() {
        let at = |leaf, time| event::Model {
            time,
            ..event::Model::of(leaf, &legate_wire::audit::AuditEvent::default(), None)
        };
        let blocks = of(&[at(0, 5), at(1, 3), at(1_023, 9), at(1_024, 4)]);
        let wanted = [Model { block: 0, first_time: 3, last_time: 9 }, Model { block: 1, first_time: 4, last_time: 4 }];
        assert_eq!(blocks, wanted);
    }
}
