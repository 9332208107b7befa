//! Tokens of issuers outside that were used: each makes one credential, once.

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "used_identity_token")]
pub(crate) struct Model {
    /// What the token is known by: see `ForeignVerified::once`.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub(crate) once: Vec<u8>,
    pub(crate) used_at: i64,
    /// When the token itself ends, and the row is of no more use.
    pub(crate) expires_at: i64,
    /// SHA-256 of the request that it was used with; empty where there was none.
    #[sea_orm(column_type = "Blob")]
    pub(crate) request_sha256: Vec<u8>,
    /// The credential that came of it; empty for a token, which has no row.
    pub(crate) credential_id: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Uses a token: of all who try, one gets `true`, since the key of the row is its lock.
pub(crate) async fn spend(tx: &Tx, row: Model) -> TxResult<bool, Fault> {
    let row = ActiveModel {
        once: Set(row.once),
        used_at: Set(row.used_at),
        expires_at: Set(row.expires_at),
        request_sha256: Set(row.request_sha256),
        credential_id: Set(row.credential_id),
    };
    let inserted = Entity::insert(row)
        .on_conflict(OnConflict::column(Column::Once).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(inserted == 1)
}

/// The use of a token, where it was used.
pub(crate) async fn find(tx: &Tx, once: &[u8; 32]) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find_by_id(once.to_vec()).one(tx).await?)
}

/// Forgets the tokens that ended before a moment; how many.
pub(crate) async fn forget(tx: &Tx, before: Timestamp) -> TxResult<u64, Fault> {
    let done = Entity::delete_many().filter(Column::ExpiresAt.lt(before.micros())).exec(tx).await?;
    Ok(done.rows_affected)
}
