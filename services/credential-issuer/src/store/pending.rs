//! Revocations that the registry has not confirmed yet; they outlive a crash.

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::PublishRevocationRequest;
use prost::Message as _;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "pending_revocation")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) credential_id: String,
    /// The request that is sent until it is confirmed.
    #[sea_orm(column_type = "Blob")]
    pub(crate) request: Vec<u8>,
    pub(crate) created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

pub(crate) async fn insert(
    tx: &Tx,
    credential_id: &str,
    request: &PublishRevocationRequest,
    now: Timestamp,
) -> TxResult<(), Fault> {
    let row = ActiveModel {
        credential_id: Set(credential_id.to_owned()),
        request: Set(request.encode_to_vec()),
        created_at: Set(now.micros()),
    };
    Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// The oldest of them.
pub(crate) async fn oldest(tx: &Tx, limit: u64) -> TxResult<Vec<Model>, Fault> {
    Ok(Entity::find().order_by_asc(Column::CreatedAt).limit(limit).all(tx).await?)
}

/// The one of a credential.
pub(crate) async fn of(tx: &Tx, credential_id: &str) -> TxResult<Option<PublishRevocationRequest>, Fault> {
    let row = Entity::find_by_id(credential_id).one(tx).await?;
    row.map(|row| PublishRevocationRequest::decode(row.request.as_slice()))
        .transpose()
        .map_err(|e| crate::error::flow(Fault::broken(e)))
}

/// The registry has confirmed it.
pub(crate) async fn done(tx: &Tx, credential_id: &str) -> TxResult<(), Fault> {
    Entity::delete_by_id(credential_id).exec(tx).await?;
    Ok(())
}
