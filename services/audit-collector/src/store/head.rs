//! How far the index has come: over how many leaves of which log, and the root over those.

use legate_db::{Tx, TxResult};
use legate_merkle::Hash;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;

use super::event::{signed, unsigned};

/// The one row.
const ONE: i32 = 1;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "index_head")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: i32,
    /// The log's name.
    pub(crate) origin: String,
    pub(crate) size: i64,
    #[sea_orm(column_type = "Blob")]
    pub(crate) root: Vec<u8>,
    /// Whether the registry has said in these leaves what operators may do.
    pub(crate) roles_stated: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Somebody else has written to the index meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the index is not where it was left: somebody else writes to it")]
pub(crate) struct Moved;

impl Model {
    pub(crate) fn size(&self) -> u64 {
        unsigned(self.size)
    }
}

pub(crate) async fn get<E>(tx: &Tx) -> TxResult<Option<Model>, E> {
    Ok(Entity::find_by_id(ONE).one(tx).await?)
}

/// Forgets everything that was indexed, and begins at 0.
pub(crate) async fn begin<E>(tx: &Tx, origin: &str) -> TxResult<(), E> {
    Entity::delete_many().exec(tx).await?;
    let row = ActiveModel {
        id: Set(ONE),
        origin: Set(origin.to_owned()),
        size: Set(0),
        root: Set(legate_merkle::empty_root().to_vec()),
        roles_stated: Set(false),
    };
    Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// From one size to the next; `stated`: the registry says in between what operators may do.
pub(crate) async fn advance(tx: &Tx, from: u64, to: u64, root: Hash, stated: bool) -> TxResult<(), Moved> {
    let mut moving = Entity::update_many();
    if stated {
        moving = moving.col_expr(Column::RolesStated, Expr::value(true));
    }
    let moved = moving
        .col_expr(Column::Size, Expr::value(signed(to)))
        .col_expr(Column::Root, Expr::value(root.to_vec()))
        .filter(Column::Id.eq(ONE))
        .filter(Column::Size.eq(signed(from)))
        .exec(tx)
        .await?;
    if moved.rows_affected == 1 { Ok(()) } else { Err(legate_db::TxError::Flow(Moved)) }
}
