//! Under each text of a field, the leaves that have it: in segments, each of a stretch of the log, so that what comes is written behind
//! what is there and nothing is looked for.
//!
//! A segment of a field is of the leaves of one step of the index. Of those that lie side by side, some are put together from time to
//! time (`store/posting/together.rs`), so that a text is looked up in few of them however long the log is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use legate_db::rows::{insert, pieces};
use legate_db::{Tx, TxResult};
use sea_orm::ConnectionTrait as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait as _, Query};

use super::event::{signed, unsigned};
use crate::domain::posting::{Field, Postings, pack, unpack};

pub(crate) mod segment;
pub(crate) mod together;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, DeriveEntityModel)]
#[sea_orm(table_name = "posting")]
pub(crate) struct Model {
    /// Its first leaf.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) segment: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) field: i16,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) value: String,
    #[sea_orm(column_type = "Blob")]
    pub(crate) leaves: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    fn new(segment: i64, field: Field, value: String, leaves: &[u64]) -> Self {
        Self { segment, field: field.number(), value, leaves: pack(unsigned(segment), leaves) }
    }

    /// The leaves.
    pub(crate) fn unpacked(&self) -> Vec<u64> {
        unpack(unsigned(self.segment), &self.leaves)
    }
}

/// Writes what a stretch of the log is found by.
pub(crate) async fn add<E>(tx: &Tx, stretch: Range<u64>, postings: &Postings) -> TxResult<(), E> {
    let segment = signed(stretch.start);
    // In the order of their key, so that each is written behind the one before.
    let rows = postings.iter().map(|((field, value), leaves)| Model::new(segment, *field, value.clone(), leaves));
    let mut rows: Vec<Model> = rows.collect();
    rows.sort_by(|a, b| (a.field, &a.value).cmp(&(b.field, &b.value)));
    insert::<Entity>(tx, rows, None).await?;
    let fields: BTreeSet<Field> = postings.keys().map(|(field, _)| *field).collect();
    let until = signed(stretch.end);
    let new = |field: Field| segment::Model { field: field.number(), segment, until, width: until - segment, level: 0 };
    insert::<segment::Entity>(tx, fields.into_iter().map(new).collect(), None).await?;
    Ok(())
}

/// The rows of some texts of a field, of every segment that reaches into a stretch.
async fn rows<E>(tx: &Tx, field: Field, values: &[String], stretch: &Range<u64>) -> TxResult<Vec<Model>, E> {
    use segment::Column as Its;
    let mut found = Vec::new();
    for values in pieces(values.to_vec()) {
        let own = |column: Column| Expr::col((Entity, column));
        let its = |column: Its| Expr::col((segment::Entity, column));
        let mut select = Query::select();
        select.columns([Column::Segment, Column::Field, Column::Value, Column::Leaves].map(|column| (Entity, column)));
        // Segments come first: what is looked up is looked up in each.
        select.from(segment::Entity).cross_join(Entity);
        select.and_where(its(Its::Field).eq(field.number()));
        select
            .and_where(its(Its::Segment).lt(signed(stretch.end)))
            .and_where(its(Its::Until).gt(signed(stretch.start)));
        select.and_where(own(Column::Segment).equals((segment::Entity, Its::Segment)));
        select.and_where(own(Column::Field).eq(field.number())).and_where(own(Column::Value).is_in(values));
        for row in tx.query_all_raw(tx.get_database_backend().build(&select)).await? {
            found.push(Model {
                segment: row.try_get_by_index(0)?,
                field: row.try_get_by_index(1)?,
                value: row.try_get_by_index(2)?,
                leaves: row.try_get_by_index(3)?,
            });
        }
    }
    Ok(found)
}

/// The leaves of a stretch that have one of these texts, in order.
pub(crate) async fn having<E>(
    tx: &Tx,
    terms: &BTreeMap<Field, Vec<String>>,
    stretch: &Range<u64>,
) -> TxResult<Vec<u64>, E> {
    let mut leaves = Vec::new();
    for (field, values) in terms {
        for row in rows(tx, *field, values, stretch).await? {
            leaves.extend(row.unpacked().into_iter().filter(|leaf| stretch.contains(leaf)));
        }
    }
    leaves.sort_unstable();
    leaves.dedup();
    Ok(leaves)
}

/// Puts another text in the place of one, in some leaves.
pub(crate) async fn rename<E>(
    tx: &Tx,
    field: Field,
    (old, new): (&str, &str),
    leaves: &BTreeSet<u64>,
) -> TxResult<(), E> {
    let (Some(first), Some(last)) = (leaves.first(), leaves.last()) else { return Ok(()) };
    let stretch = *first..last.saturating_add(1);
    let mut there: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
    for row in rows(tx, field, &[new.to_owned()], &stretch).await? {
        there.insert(row.segment, row.unpacked());
    }
    for row in rows(tx, field, &[old.to_owned()], &stretch).await? {
        let (moved, kept): (Vec<u64>, Vec<u64>) = row.unpacked().into_iter().partition(|leaf| leaves.contains(leaf));
        if moved.is_empty() {
            continue;
        }
        let segment = row.segment;
        let mut grown = there.remove(&segment).unwrap_or_default();
        grown.extend(moved);
        grown.sort_unstable();
        grown.dedup();
        for (text, leaves) in [(old, kept), (new, grown)] {
            Entity::delete_by_id((segment, field.number(), text.to_owned())).exec(tx).await?;
            if !leaves.is_empty() {
                insert::<Entity>(tx, vec![Model::new(segment, field, text.to_owned(), &leaves)], None).await?;
            }
        }
    }
    Ok(())
}
