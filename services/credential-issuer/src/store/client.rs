//! What OAuth clients prove themselves with, credentials like certificates: secrets as HMACs, and public keys.

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ActiveValue::Set, QueryOrder as _, QuerySelect as _};

use super::credential::{self, Column as Of, ISSUED, KEY, REVOKED, SECRET};

/// One client, whose row is its lock.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "client")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) agent_id: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Nobody else gives the client anything until the transaction ends.
pub(crate) async fn lock(tx: &Tx, agent_id: &str) -> TxResult<(), Fault> {
    Entity::insert(ActiveModel { agent_id: Set(agent_id.to_owned()) })
        .on_conflict(OnConflict::column(Column::AgentId).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    Entity::find_by_id(agent_id).lock_exclusive().one(tx).await?;
    Ok(())
}

/// Those of one type that work at a moment, first the one that works longest.
pub(crate) async fn live(
    tx: &Tx,
    agent_id: &str,
    kind: i32,
    now: Timestamp,
) -> TxResult<Vec<credential::Model>, Fault> {
    Ok(credential::Entity::find()
        .filter(Of::AgentId.eq(agent_id))
        .filter(Of::Kind.eq(kind))
        .filter(Of::State.eq(ISSUED))
        .filter(Of::NotAfter.gt(now.micros()))
        .order_by_desc(Of::NotAfter)
        .order_by_desc(Of::Id)
        .all(tx)
        .await?)
}

/// Every key that a client ever registered and that has not been forgotten, newest first; of those that work no longer
/// the last few, so that their use can be told from a stranger's.
pub(crate) async fn keys(db: &impl ConnectionTrait, agent_id: &str) -> TxResult<Vec<credential::Model>, Fault> {
    let find = credential::Entity::find().filter(Of::AgentId.eq(agent_id)).filter(Of::Kind.eq(KEY));
    Ok(find.order_by_desc(Of::Id).limit(16).all(db).await?)
}

/// The secrets of the HMACs, whether or not they still work.
pub(crate) async fn secrets(db: &impl ConnectionTrait, macs: Vec<Vec<u8>>) -> TxResult<Vec<credential::Model>, Fault> {
    let find = credential::Entity::find().filter(Of::KeySha256.is_in(macs)).filter(Of::Kind.eq(SECRET));
    Ok(find.all(db).await?)
}

/// Brings the end of a credential forward; it is never put off.
pub(crate) async fn end_at(tx: &Tx, id: &str, at: Timestamp) -> TxResult<(), Fault> {
    credential::Entity::update_many()
        .col_expr(Of::NotAfter, Expr::value(at.micros()))
        .filter(Of::Id.eq(id))
        .filter(Of::NotAfter.gt(at.micros()))
        .filter(Of::State.ne(REVOKED))
        .exec(tx)
        .await?;
    Ok(())
}
