//! The head: one row that holds the newest revision, and the lock that every write takes first.

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;

use super::{broken, signed, unsigned};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "head")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: i32,
    pub(crate) revision: i64,
    /// Stands for every change up to the revision.
    #[sea_orm(column_type = "Blob")]
    pub(crate) history: Vec<u8>,
    #[sea_orm(column_type = "Blob")]
    pub(crate) pages_key: Vec<u8>,
    /// Stands for every change up to the last one of an operator binding; none as long as there was none.
    #[sea_orm(column_type = "Blob", nullable)]
    pub(crate) operators: Option<Vec<u8>>,
    /// When the newest revision was made, in Unix microseconds.
    pub(crate) written_at: i64,
    /// The oldest revision as of which anything can be read; 1 as long as nothing was forgotten.
    pub(crate) oldest: i64,
    /// Up to this revision, what a later write up to it superseded is gone.
    pub(crate) swept: i64,
    /// The last number that an object got; see [`super::term`].
    pub(crate) numbered: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The head, and no other write until the transaction ends: revisions are given in the order of commits.
pub(crate) async fn lock(tx: &Tx) -> TxResult<Model, Fault> {
    let row = Entity::find().lock_exclusive().one(tx).await?;
    row.ok_or_else(|| broken("the registry's head is gone"))
}

/// The head as it is.
pub(crate) async fn read_whole(tx: &Tx) -> TxResult<Model, Fault> {
    Entity::find().one(tx).await?.ok_or_else(|| broken("the registry's head is gone"))
}

/// The newest revision.
pub(crate) async fn read(tx: &Tx) -> TxResult<u64, Fault> {
    Ok(unsigned(read_whole(tx).await?.revision))
}

/// The last number that an object got.
pub(crate) async fn numbered(tx: &Tx) -> TxResult<u64, Fault> {
    Ok(unsigned(read_whole(tx).await?.numbered))
}

/// The key of page tokens.
pub(crate) async fn pages_key(tx: &Tx) -> TxResult<[u8; 32], Fault> {
    <[u8; 32]>::try_from(read_whole(tx).await?.pages_key.as_slice()).map_err(broken)
}

/// Makes `revision` the newest, with the history up to it, the time, and the last number that an object got; `operators`:
/// an operator binding is among its changes.
pub(crate) async fn advance(
    tx: &Tx,
    revision: u64,
    history: Vec<u8>,
    written_at: i64,
    numbered: i64,
    operators: bool,
) -> TxResult<(), Fault> {
    let mut update = Entity::update_many()
        .col_expr(Column::Numbered, Expr::value(numbered))
        .col_expr(Column::Revision, Expr::value(signed(revision)))
        .col_expr(Column::History, Expr::value(history.clone()))
        .col_expr(Column::WrittenAt, Expr::value(written_at));
    if operators {
        update = update.col_expr(Column::Operators, Expr::value(history.clone()));
    }
    update.exec(tx).await?;
    super::revision::insert(tx, revision, history, written_at).await
}

/// Keeps nothing that only a revision before `oldest` needs.
pub(crate) async fn keep_from(tx: &Tx, oldest: u64) -> TxResult<(), Fault> {
    let oldest = signed(oldest);
    let update = Entity::update_many().col_expr(Column::Oldest, Expr::value(oldest)).filter(Column::Oldest.lt(oldest));
    update.exec(tx).await?;
    Ok(())
}

/// What was superseded up to `revision` is gone.
pub(crate) async fn swept_to(tx: &Tx, revision: i64) -> TxResult<(), Fault> {
    let update =
        Entity::update_many().col_expr(Column::Swept, Expr::value(revision)).filter(Column::Swept.lt(revision));
    update.exec(tx).await?;
    Ok(())
}
