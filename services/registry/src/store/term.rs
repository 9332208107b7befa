//! What a few objects in force have in common and are found by: a row for each fact of each.
//!
//! Objects are numbered as they are made, and so many of them make a block: the rows of a block lie together, so that new
//! ones land where the last ones did, however many there are, and whoever looks for a fact looks into every block.

use legate_db::{Tx, TxResult, rows};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;

use super::signed;
use crate::domain::kind::Key;
use crate::domain::terms::Fact;

/// Objects of one block, as a power of two. A look into a block costs some microseconds, so that a million objects are
/// looked through in a millisecond; the rows of the newest block are in memory.
const BLOCK: u32 = 12;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "term")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) block: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) kind: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) field: i16,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) value: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) namespace: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) number: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The row of a fact of the object of this number.
    pub(crate) fn of(key: &Key, number: i64, fact: Fact) -> Self {
        Self {
            block: number >> BLOCK,
            kind: key.kind as i32,
            field: fact.field,
            value: fact.value,
            namespace: key.namespace.clone(),
            number,
        }
    }
}

/// The blocks of so many objects.
pub(crate) fn blocks(numbered: u64) -> impl Iterator<Item = i64> {
    0..=(signed(numbered) >> BLOCK)
}

/// Writes facts that were not there.
pub(crate) async fn insert(tx: &impl ConnectionTrait, rows: Vec<Model>) -> Result<(), DbErr> {
    rows::insert::<Entity>(tx, rows, None).await
}

/// Takes facts away that no longer hold.
pub(crate) async fn remove(tx: &Tx, rows: Vec<Model>) -> TxResult<(), Fault> {
    Ok(rows::remove::<Entity>(tx, rows).await?)
}
