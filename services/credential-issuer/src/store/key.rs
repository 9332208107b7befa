//! Whose key is whose: the first holder for whom a key is certified keeps it.

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::ActiveValue::Set;
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, OnConflict};

use crate::error::{KEY_COMPROMISED, KEY_IN_USE, flow};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "certified_key")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub(crate) key_sha256: Vec<u8>,
    pub(crate) spiffe_id: String,
    pub(crate) compromised: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Binds the key to the holder, or refuses because it is another's or known to be compromised.
pub(crate) async fn bind(tx: &Tx, key_sha256: &[u8; 32], spiffe_id: &str) -> TxResult<(), Fault> {
    let row = ActiveModel {
        key_sha256: Set(key_sha256.to_vec()),
        spiffe_id: Set(spiffe_id.to_owned()),
        compromised: Set(false),
    };
    Entity::insert(row)
        .on_conflict(OnConflict::column(Column::KeySha256).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    // A second statement sees what a concurrent transaction committed first. Locked, so that whoever marks the key as
    // compromised finds what is certified for it here.
    let held = Entity::find_by_id(key_sha256.to_vec()).lock_exclusive().one(tx).await?;
    match held {
        Some(held) if held.compromised => {
            Err(flow(Fault::refused(&KEY_COMPROMISED, "the key of the request is known to be compromised")))
        }
        Some(held) if held.spiffe_id == spiffe_id => Ok(()),
        _ => Err(flow(Fault::refused(&KEY_IN_USE, "the key of the request is certified for another holder"))),
    }
}

/// The key will never be certified again; `false` when that was known. Nobody certifies it until the transaction ends.
pub(crate) async fn mark_compromised(tx: &Tx, key_sha256: &[u8]) -> TxResult<bool, Fault> {
    let done = Entity::update_many()
        .col_expr(Column::Compromised, Expr::value(true))
        .filter(Column::KeySha256.eq(key_sha256.to_vec()))
        .filter(Column::Compromised.eq(false))
        .exec(tx)
        .await?;
    Ok(done.rows_affected == 1)
}
