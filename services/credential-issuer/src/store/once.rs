//! What may be shown only once: the names (`jti`) of client assertions and DPoP proofs, until nobody could show them again.

use std::collections::{BTreeMap, HashSet};

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "shown_once")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub(crate) what: Vec<u8>,
    pub(crate) until: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// What may be shown once, by a hash of its kind, whose it is and its name; and until when it is to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Once {
    pub(crate) what: [u8; 32],
    pub(crate) until: Timestamp,
}

/// Notes that these were shown; those that nobody had shown before. Of all who show one, on whatever replica, one is first,
/// since the row is its own lock.
pub(crate) async fn show(tx: &Tx, shown: impl IntoIterator<Item = Once> + Send) -> TxResult<HashSet<[u8; 32]>, Fault> {
    // In the order of their keys, so that two replicas never wait for each other.
    let shown: BTreeMap<[u8; 32], Timestamp> = shown.into_iter().map(|once| (once.what, once.until)).collect();
    let rows =
        shown.into_iter().map(|(what, until)| ActiveModel { what: Set(what.to_vec()), until: Set(until.micros()) });
    let inserted = Entity::insert_many(rows)
        .on_conflict(OnConflict::column(Column::What).do_nothing().to_owned())
        .exec_with_returning(tx)
        .await?;
    Ok(hashes(inserted))
}

/// Those of them that were shown before.
pub(crate) async fn those(
    db: &impl ConnectionTrait,
    whats: impl IntoIterator<Item = [u8; 32]> + Send,
) -> TxResult<HashSet<[u8; 32]>, Fault> {
    let whats: Vec<Vec<u8>> = whats.into_iter().map(Vec::from).collect();
    if whats.is_empty() {
        return Ok(HashSet::new());
    }
    Ok(hashes(Entity::find().filter(Column::What.is_in(whats)).all(db).await?))
}

fn hashes(rows: Vec<Model>) -> HashSet<[u8; 32]> {
    rows.into_iter().filter_map(|row| row.what.try_into().ok()).collect()
}

/// Forgets what nobody could show any more.
pub(crate) async fn forget(tx: &Tx, now: Timestamp) -> TxResult<(), Fault> {
    Entity::delete_many().filter(Column::Until.lt(now.micros())).exec(tx).await?;
    Ok(())
}
