//! Puts segments of a field together that lie side by side.

use std::collections::BTreeMap;

use legate_db::rows::insert;
use legate_db::{Tx, TxResult};
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::segment::{self, Column};
use super::{Model, unsigned};
use crate::domain::posting::{pack, unpack};

/// So many segments of one level become one of the next.
const MANY: usize = 16;
/// A segment of the steps of so many leaves stays as it is.
const WIDE: i64 = 32_768;
/// No more leaves are put together at once, so that it takes a moment.
const WIDEST: i64 = 131_072;
/// The level of what stays as it is.
const LAST: i16 = i16::MAX;

/// Segments to be put together, in the log's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Together(Vec<segment::Model>);

/// The next that are to be put together; `None`: there are few enough.
pub(crate) async fn next<E>(tx: &Tx) -> TxResult<Option<Together>, E> {
    // Not a bound value: the index is of these rows alone, and is used where the statement says so.
    let all = segment::Entity::find().filter(Expr::cust(format!("level < {LAST}")));
    Ok(chosen(all.order_by_asc(Column::Field).order_by_asc(Column::Segment).all(tx).await?))
}

/// Of all that may be put together, by field and in the log's order: the newest of one level, where they are many.
fn chosen(all: Vec<segment::Model>) -> Option<Together> {
    let runs = all.chunk_by(|a, b| (a.field, a.level) == (b.field, b.level));
    let many = runs.into_iter().find(|run| run.len() >= MANY)?;
    let mut width = 0;
    let fit = many.iter().take_while(|one| {
        width += one.width;
        width <= WIDEST
    });
    // Each is less than a quarter as wide as all may be, so there are some.
    Some(Together(fit.take(MANY).cloned().collect()))
}

/// Puts them together. Where they are not there any more as they were, nothing is changed.
pub(crate) async fn put<E>(tx: &Tx, together: &Together) -> TxResult<(), E> {
    let [first, .., last] = together.0.as_slice() else { return Ok(()) };
    let keys: Vec<i64> = together.0.iter().map(|one| one.segment).collect();
    let of_field = Column::Field.eq(first.field);
    let there = segment::Entity::find().filter(of_field.clone()).filter(Column::Segment.is_in(keys.clone()));
    if there.order_by_asc(Column::Segment).all(tx).await? != together.0 {
        return Ok(());
    }
    let mut merged: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for key in &keys {
        let rows = super::Entity::find().select_only().columns([super::Column::Value, super::Column::Leaves]);
        let rows = rows.filter(super::Column::Segment.eq(*key)).filter(super::Column::Field.eq(first.field));
        let rows: Vec<(String, Vec<u8>)> = rows.into_tuple().all(tx).await?;
        for (value, leaves) in rows {
            merged.entry(value).or_default().extend(unpack(unsigned(*key), &leaves));
        }
    }
    let gone = super::Entity::delete_many().filter(super::Column::Segment.is_in(keys.clone()));
    gone.filter(super::Column::Field.eq(first.field)).exec(tx).await?;
    segment::Entity::delete_many().filter(of_field).filter(Column::Segment.is_in(keys)).exec(tx).await?;
    let row = |(value, leaves): (String, Vec<u64>)| Model {
        segment: first.segment,
        field: first.field,
        value,
        leaves: pack(unsigned(first.segment), &leaves),
    };
    insert::<super::Entity>(tx, merged.into_iter().map(row).collect(), None).await?;
    let width = together.0.iter().map(|one| one.width).sum();
    let level = if width >= WIDE { LAST } else { first.level.saturating_add(1) };
    insert::<segment::Entity>(tx, vec![segment::Model { until: last.until, width, level, ..first.clone() }], None)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(field: i16, segment: i64, until: i64, level: i16) -> segment::Model {
        segment::Model { field, segment, until, width: until - segment, level }
    }

    #[test]
    fn many_of_one_level_that_lie_side_by_side_are_put_together() {
        let small = |n: i64| one(1, n * 10, n * 10 + 10, 0);
        assert_eq!(chosen((0..15).map(small).collect()), None);
        let Some(Together(found)) = chosen((0..40).map(small).collect()) else { panic!("they are many") };
        assert_eq!(
            found,
            (0..16).map(small).collect::<Vec<_>>(),
            "the first of them, so that what is put together is older"
        );
        // Those of other fields and levels lie elsewhere.
        let mut mixed: Vec<_> = (0..10).map(|n| one(1, n * 10, n * 10 + 10, 1)).collect();
        mixed.extend((10..20).map(small));
        mixed.extend((0..10).map(|n| one(2, n * 10, n * 10 + 10, 0)));
        assert_eq!(chosen(mixed), None);
    }

    #[test]
    fn no_more_is_put_together_than_takes_a_moment() {
        let wide = |n: i64| one(1, n * 30_000, (n + 1) * 30_000, 0);
        let Some(Together(found)) = chosen((0..16).map(wide).collect()) else { panic!("they are many") };
        assert_eq!(found.len(), 4);
        assert!((WIDE..=WIDEST).contains(&found.iter().map(|one| one.width).sum::<i64>()));
        // What is rare is put together however far apart it lies.
        let rare = |n: i64| one(1, n * 1_000_000, n * 1_000_000 + 5, 0);
        let Some(Together(found)) = chosen((0..16).map(rare).collect()) else { panic!("they are many") };
        assert_eq!(found.len(), MANY);
    }
}
