//! Times of which records may be missing, and when each service that tells of use was last heard.

use legate_db::{Tx, TxResult, rows};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{QueryOrder as _, QuerySelect as _};

/// One time of which records may be missing.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_gap")]
pub(crate) struct Model {
    /// Whose records; empty: the log's own.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) emitter: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) to_time: i64,
    pub(crate) from_time: i64,
    /// For people.
    pub(crate) cause: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// When services were last heard.
pub(crate) mod emitter {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "usage_emitter")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) spiffe_id: String,
        pub(crate) last_time: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Notes gaps; one that is noted already stays as it is.
pub(crate) async fn add(tx: &Tx, gaps: Vec<Model>) -> TxResult<(), Fault> {
    let known = OnConflict::columns([Column::Emitter, Column::ToTime]).do_nothing().to_owned();
    Ok(rows::insert::<Entity>(tx, gaps, Some(&known)).await?)
}

/// The newest of them.
pub(crate) async fn newest(tx: &Tx, limit: u64) -> TxResult<Vec<Model>, Fault> {
    Ok(Entity::find().order_by_desc(Column::ToTime).order_by_asc(Column::Emitter).limit(limit).all(tx).await?)
}

/// The newest of them, and since when these are all: older than that nothing is vouched for, where there are more.
pub(crate) async fn told(tx: &Tx, limit: u64) -> TxResult<(Vec<Model>, Option<i64>), Fault> {
    let mut gaps = newest(tx, limit + 1).await?;
    let is_more = gaps.len() as u64 > limit;
    let since = if is_more { gaps.pop().map(|gap| gap.to_time) } else { None };
    Ok((gaps, since))
}

/// When these services were last heard.
pub(crate) async fn last_heard(tx: &Tx, names: Vec<String>) -> TxResult<Vec<emitter::Model>, Fault> {
    Ok(emitter::Entity::find().filter(emitter::Column::SpiffeId.is_in(names)).all(tx).await?)
}

/// They were heard, at these times at the latest.
pub(crate) async fn heard(tx: &Tx, emitters: Vec<emitter::Model>) -> TxResult<(), Fault> {
    let later = OnConflict::column(emitter::Column::SpiffeId).update_column(emitter::Column::LastTime).to_owned();
    Ok(rows::insert::<emitter::Entity>(tx, emitters, Some(&later)).await?)
}
