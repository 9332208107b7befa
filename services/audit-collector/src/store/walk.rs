//! Walks through a stretch of the log by what events are found by, a bounded part of it at a time.

use std::collections::BTreeMap;
use std::ops::Range;

use legate_db::{Tx, TxResult};
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, QueryOrder as _, QuerySelect as _};

use super::event::{Column, Entity, signed, unsigned};
use super::posting;
use crate::domain::posting::{Field, common};
use crate::domain::question::Order;

/// Texts of fields, one of which an event has.
pub(crate) type Part = BTreeMap<Field, Vec<String>>;

/// Rows of the index that one page looks at.
pub(crate) const WORK: u64 = 20_000;

/// Leaves whose rows are looked at together.
const TOGETHER: usize = 512;
/// Leaves of the first part of the stretch for each row that may be looked at; each further part is four times as long.
const PART: u64 = 4;
/// Leaves that are found under texts, for each row that may be looked at.
const FOUND: usize = 50;

/// What events have to have, all of it.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    /// One text of each; never empty.
    pub(crate) parts: Vec<Part>,
    /// What else has to hold of the row; `None`: nothing.
    pub(crate) rest: Option<Condition>,
}

/// What a walk has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// In the order that was asked for.
    pub(crate) leaves: Vec<u64>,
    /// There may be more behind this leaf, which need not answer itself.
    pub(crate) more_behind: Option<u64>,
}

impl Walk {
    /// The first `limit` leaves of a stretch; fewer where `work` rows were looked at.
    pub(crate) async fn page<E>(
        &self,
        tx: &Tx,
        stretch: Range<u64>,
        order: Order,
        (limit, work): (u64, u64),
    ) -> TxResult<Found, E> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut looked, mut found_under) = (0u64, 0usize);
        let mut found = Found::default();
        let (mut rest, mut width) = (stretch, work.saturating_mul(PART).max(1));
        while !rest.is_empty() {
            let part = first_of(&rest, order, width);
            let (mut candidates, count) = self.candidates(tx, &part).await?;
            found_under += count;
            if order == Order::NewestFirst {
                candidates.reverse();
            }
            let mut left = candidates.as_slice();
            while !left.is_empty() {
                let room = usize::try_from(work.saturating_sub(looked)).unwrap_or(usize::MAX).max(1);
                let (these, later) = left.split_at(left.len().min(TOGETHER).min(room));
                looked += these.len() as u64;
                found.leaves.extend(self.holding(tx, these, order).await?);
                if found.leaves.len() >= most {
                    found.leaves.truncate(most);
                    found.more_behind = found.leaves.last().copied();
                    return Ok(found);
                }
                left = later;
                if looked >= work && !(left.is_empty() && rest == part) {
                    found.more_behind = these.last().copied();
                    return Ok(found);
                }
            }
            let last = match order {
                Order::NewestFirst => part.start,
                Order::OldestFirst => part.end - 1,
            };
            rest = order.behind(last, rest);
            width = width.saturating_mul(4);
            if !rest.is_empty() && found_under / FOUND >= usize::try_from(work).unwrap_or(usize::MAX) {
                found.more_behind = Some(last);
                return Ok(found);
            }
        }
        Ok(found)
    }

    /// The first `limit` leaves of a stretch, however many rows are looked at.
    pub(crate) async fn all<E>(&self, tx: &Tx, stretch: Range<u64>, order: Order, limit: u64) -> TxResult<Vec<u64>, E> {
        let (mut all, mut rest) = (Vec::new(), stretch);
        loop {
            let left = limit.saturating_sub(all.len() as u64);
            let found = self.page(tx, rest.clone(), order, (left, WORK)).await?;
            all.extend(found.leaves);
            match found.more_behind {
                Some(last) if (all.len() as u64) < limit => rest = order.behind(last, rest),
                _ => return Ok(all),
            }
        }
    }

    /// The leaves that have one text of each part, in the log's order, and how many were found under texts.
    async fn candidates<E>(&self, tx: &Tx, stretch: &Range<u64>) -> TxResult<(Vec<u64>, usize), E> {
        let mut both: Option<Vec<u64>> = None;
        let mut count = 0;
        for part in &self.parts {
            let found = posting::having(tx, part, stretch).await?;
            count += found.len();
            let left = match both {
                None => found,
                Some(before) => common(&before, &found),
            };
            if left.is_empty() {
                return Ok((left, count));
            }
            both = Some(left);
        }
        Ok((both.unwrap_or_default(), count))
    }

    /// Those of these leaves of whose rows the rest holds, in order.
    async fn holding<E>(&self, tx: &Tx, leaves: &[u64], order: Order) -> TxResult<Vec<u64>, E> {
        let Some(rest) = &self.rest else { return Ok(leaves.to_vec()) };
        let rows = Entity::find().select_only().column(Column::Leaf);
        let rows = rows.filter(Column::Leaf.is_in(leaves.iter().copied().map(signed))).filter(rest.clone());
        let rows = match order {
            Order::NewestFirst => rows.order_by_desc(Column::Leaf),
            Order::OldestFirst => rows.order_by_asc(Column::Leaf),
        };
        let found: Vec<i64> = rows.into_tuple().all(tx).await?;
        Ok(found.into_iter().map(unsigned).collect())
    }
}

/// The part of a stretch that comes first, so many leaves long.
fn first_of(stretch: &Range<u64>, order: Order, width: u64) -> Range<u64> {
    match order {
        Order::NewestFirst => stretch.end.saturating_sub(width).max(stretch.start)..stretch.end,
        Order::OldestFirst => stretch.start..stretch.start.saturating_add(width).min(stretch.end),
    }
}
