//! Enrolment tokens, as HMACs: made once, spent once.

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "enrolment")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    #[sea_orm(column_type = "Blob")]
    pub(crate) mac: Vec<u8>,
    pub(crate) pepper: i32,
    pub(crate) spiffe_id: String,
    pub(crate) namespace: String,
    /// Empty for an enforcement point and for a node.
    pub(crate) agent_id: String,
    /// Empty for an agent and for a node.
    pub(crate) enforcer: String,
    /// Empty for an agent and for an enforcement point.
    pub(crate) node: String,
    pub(crate) created_by: String,
    pub(crate) created_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) spent_at: Option<i64>,
    #[sea_orm(column_type = "Blob", nullable)]
    pub(crate) csr_sha256: Option<Vec<u8>>,
    pub(crate) credential_id: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

pub(crate) async fn insert(tx: &Tx, row: Model) -> TxResult<(), Fault> {
    Entity::insert(ActiveModel::from(row).reset_all()).exec_without_returning(tx).await?;
    Ok(())
}

/// The token of one of the HMACs.
pub(crate) async fn find(tx: &Tx, macs: Vec<Vec<u8>>) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find().filter(Column::Mac.is_in(macs)).one(tx).await?)
}

/// Spends the token: of all who try, one gets `true`, since the row is its own lock.
pub(crate) async fn spend(
    tx: &Tx,
    id: &str,
    now: Timestamp,
    csr_sha256: &[u8; 32],
    credential_id: &str,
) -> TxResult<bool, Fault> {
    let done = Entity::update_many()
        .col_expr(Column::SpentAt, Expr::value(now.micros()))
        .col_expr(Column::CsrSha256, Expr::value(csr_sha256.to_vec()))
        .col_expr(Column::CredentialId, Expr::value(credential_id))
        .filter(Column::Id.eq(id))
        .filter(Column::SpentAt.is_null())
        .filter(Column::ExpiresAt.gt(now.micros()))
        .exec(tx)
        .await?;
    Ok(done.rows_affected == 1)
}

/// Ends a token that was not spent; `false` when it was, or had ended.
pub(crate) async fn end(tx: &Tx, id: &str, now: Timestamp) -> TxResult<bool, Fault> {
    let done = Entity::update_many()
        .col_expr(Column::ExpiresAt, Expr::value(now.micros()))
        .filter(Column::Id.eq(id))
        .filter(Column::SpentAt.is_null())
        .filter(Column::ExpiresAt.gt(now.micros()))
        .exec(tx)
        .await?;
    Ok(done.rows_affected == 1)
}
