//! Where each emitter's events are, by the numbers that it gave them.

use legate_db::{Tx, TxResult};
use legate_wire::audit::Emitter;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ExprTrait as _, IntoActiveModel as _, QueryOrder as _, QuerySelect as _};

use super::event::{AT_ONCE, key, signed, unsigned};

/// A row ends where this many leaves end, so that the one before another is found among so many numbers.
const LONGEST: i64 = 4_096;

/// Events whose numbers and leaves follow one another.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "numbered")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) emitter: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) epoch: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) first_seq: i64,
    pub(crate) first_leaf: i64,
    pub(crate) count: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Puts the event at `leaf` behind those before it.
pub(crate) fn push(rows: &mut Vec<Model>, leaf: u64, emitter: &Emitter) {
    let (leaf, seq) = (signed(leaf), signed(emitter.seq));
    let (whose, epoch) = (key(&emitter.spiffe_id), key(&emitter.epoch));
    match rows.last_mut() {
        Some(row)
            if row.emitter == whose
                && row.epoch == epoch
                && row.first_seq + row.count == seq
                && row.first_leaf + row.count == leaf
                && row.first_leaf / LONGEST == leaf / LONGEST =>
        {
            row.count += 1;
        }
        _ => rows.push(Model { emitter: whose, epoch, first_seq: seq, first_leaf: leaf, count: 1 }),
    }
}

/// Adds rows. The first one goes on where the last leaf before it ended, so that the rows are the same however many leaves are taken
/// in at once. Where a number comes again, which is an alert, the first leaf counts.
pub(crate) async fn add<E>(tx: &Tx, rows: &[Model]) -> TxResult<(), E> {
    let Some(first) = rows.first() else { return Ok(()) };
    if first.first_leaf % LONGEST == 0 {
        return insert(tx, rows).await;
    }
    let ends_before = Expr::col(Column::FirstLeaf).add(Expr::col(Column::Count)).eq(first.first_leaf);
    let goes_on = Entity::update_many()
        .col_expr(Column::Count, Expr::col(Column::Count).add(first.count))
        .filter(Column::Emitter.eq(first.emitter.as_str()).and(Column::Epoch.eq(first.epoch.as_str())))
        .filter(Column::FirstSeq.gte(first.first_seq - LONGEST).and(Column::FirstSeq.lt(first.first_seq)))
        .filter(Expr::col(Column::FirstSeq).add(Expr::col(Column::Count)).eq(first.first_seq))
        .filter(ends_before)
        .exec(tx)
        .await?;
    insert(tx, if goes_on.rows_affected > 0 { &rows[1..] } else { rows }).await
}

async fn insert<E>(tx: &Tx, rows: &[Model]) -> TxResult<(), E> {
    for rows in rows.chunks(AT_ONCE) {
        let rows = rows.iter().cloned().map(|row| row.into_active_model().reset_all());
        let known = OnConflict::columns([Column::Emitter, Column::Epoch, Column::FirstSeq]).do_nothing().to_owned();
        Entity::insert_many(rows).on_conflict(known).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// The leaves of an emitter's events from a number on, `most` at most, up to the first that the index does not hold.
pub(crate) async fn leaves<E>(tx: &Tx, (emitter, epoch): (&str, &str), first: u64, most: u64) -> TxResult<Vec<u64>, E> {
    let its = || {
        let whose = Column::Emitter.eq(key(emitter)).and(Column::Epoch.eq(key(epoch)));
        Entity::find().filter(whose).order_by_desc(Column::FirstSeq)
    };
    let until = first.saturating_add(most);
    let within = Column::FirstSeq.gte(signed(first)).and(Column::FirstSeq.lt(signed(until)));
    let within = its().filter(within).all(tx).await?;
    let mut rows = Vec::new();
    if within.last().is_none_or(|row| unsigned(row.first_seq) != first) {
        rows.extend(its().filter(Column::FirstSeq.lt(signed(first))).limit(1).one(tx).await?);
    }
    rows.extend(within.into_iter().rev());
    let mut leaves = Vec::new();
    for row in rows {
        let next = first + leaves.len() as u64;
        let Some(skip) = next.checked_sub(unsigned(row.first_seq)) else { break };
        leaves.extend((skip..unsigned(row.count)).map(|at| unsigned(row.first_leaf) + at));
    }
    leaves.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(leaves)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_db::testing::{Fixture, on_each};

    use crate::schema::Migrator;

    fn told(who: &str, seq: u64) -> Emitter {
        Emitter { spiffe_id: format!("spiffe://example.org/legate/{who}"), epoch: "e".into(), seq }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn events_are_found_by_their_numbers_however_they_came_between_others() {
        on_each::<Migrator>(async |Fixture { db, .. }: Fixture| {
            let mut leaf = 0;
            // Stretches of two emitters in turn, some of them in transactions of their own.
            for (from, count, who) in [(1, 3, "ab"), (4, 1, "ab"), (5, 4, "ab"), (9, 1, "b"), (10, 1, "b"), (9, 2, "a")]
            {
                let mut rows = Vec::new();
                for who in who.split("").filter(|who| !who.is_empty()) {
                    for seq in from..from + count {
                        push(&mut rows, leaf, &told(who, seq));
                        leaf += 1;
                    }
                }
                let written = db.tx::<_, (), _>("write", move |tx| {
                    let rows = rows.clone();
                    Box::pin(async move { add(tx, &rows).await })
                });
                written.await.unwrap();
            }
            let of = async |who: &'static str, first: u64, most: u64| {
                let reading = db.read::<_, (), _>("read", move |tx| {
                    Box::pin(async move {
                        let told = told(who, 0);
                        leaves(tx, (&told.spiffe_id, &told.epoch), first, most).await
                    })
                });
                reading.await.unwrap()
            };
            assert_eq!(of("a", 1, 100).await, [0, 1, 2, 6, 8, 9, 10, 11, 18, 19]);
            assert_eq!(of("b", 2, 5).await, [4, 5, 7, 12, 13]);
            assert_eq!(of("b", 10, 5).await, [17]);
            let of_b = db.read::<_, (), _>("count", |tx| {
                Box::pin(async move {
                    let b = Entity::find().filter(Column::Emitter.ends_with("/b"));
                    Ok(b.order_by_asc(Column::FirstSeq).all(tx).await?)
                })
            });
            let of_b: Vec<(i64, i64)> = of_b.await.unwrap().iter().map(|row| (row.first_seq, row.count)).collect();
            assert_eq!(of_b, [(1, 3), (4, 1), (5, 6)], "what goes on goes on in its row");
            assert_eq!(of("b", 11, 5).await, [] as [u64; 0]);
            assert_eq!(of("c", 1, 5).await, [] as [u64; 0]);
        })
        .await;
    }
}
