//! What agents used, as the audit log told it: none of it is declared, so it rests beside the objects and has no revision.

pub(crate) mod agent;
pub(crate) mod gap;
pub(crate) mod grant;
pub(crate) mod head;
pub(crate) mod permission;

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;

use super::object;

/// Forgets everything that was heard.
pub(crate) async fn clear(tx: &Tx) -> TxResult<(), Fault> {
    permission::Entity::delete_many().exec(tx).await?;
    agent::Entity::delete_many().exec(tx).await?;
    grant::Entity::delete_many().exec(tx).await?;
    gap::emitter::Entity::delete_many().exec(tx).await?;
    object::Entity::update_many()
        .col_expr(object::Column::UsedAt, Expr::value(Option::<i64>::None))
        .filter(object::Column::UsedAt.is_not_null())
        .exec(tx)
        .await?;
    Ok(())
}
