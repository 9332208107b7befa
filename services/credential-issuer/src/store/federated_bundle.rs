//! Bundles of other trust domains as they were last fetched: what a process that starts has until it has fetched them itself.

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "federated_bundle")]
pub(crate) struct Model {
    /// The FederatedTrustDomain, `NAMESPACE/NAME`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) source: String,
    pub(crate) trust_domain: String,
    /// SHA-256 of what it was declared as when this was fetched.
    #[sea_orm(column_type = "Blob")]
    pub(crate) declared: Vec<u8>,
    /// As it was served.
    #[sea_orm(column_type = "Blob")]
    pub(crate) body: Vec<u8>,
    pub(crate) fetched_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// What was last fetched of it.
pub(crate) async fn find(tx: &Tx, source: &str) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find_by_id(source.to_owned()).one(tx).await?)
}

/// Keeps what was fetched in the place of what there was; whether it is something else than before.
pub(crate) async fn keep(tx: &Tx, row: Model) -> TxResult<bool, Fault> {
    let before = find(tx, &row.source).await?;
    let is_new = before.is_none_or(|before| before.body != row.body || before.declared != row.declared);
    let all = [Column::TrustDomain, Column::Declared, Column::Body, Column::FetchedAt];
    let replaced = OnConflict::column(Column::Source).update_columns(all).to_owned();
    Entity::insert(ActiveModel::from(row).reset_all()).on_conflict(replaced).exec_without_returning(tx).await?;
    Ok(is_new)
}

/// Forgets those that are declared no more.
pub(crate) async fn forget(tx: &Tx, sources: Vec<String>) -> TxResult<(), Fault> {
    Entity::delete_many().filter(Column::Source.is_in(sources)).exec(tx).await?;
    Ok(())
}
