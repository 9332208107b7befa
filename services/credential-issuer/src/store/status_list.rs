//! Status lists: who has which place in which.

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::credential;
use crate::domain::status_list::{PLACES, place};
use crate::error::flow;

/// One list.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "status_list")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) number: i64,
    /// In which order its places are given.
    #[sea_orm(column_type = "Blob")]
    pub(crate) shuffle: Vec<u8>,
    /// How many were given.
    pub(crate) given: i64,
    /// When the last credential in it ends.
    pub(crate) live_until: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// A list, by number.
pub(crate) async fn by_number(tx: &Tx, number: u32) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find_by_id(i64::from(number)).one(tx).await?)
}

/// The newest that has room, locked until the transaction ends; `shuffle` is the order of one that is begun.
pub(crate) async fn lock_with_room(tx: &Tx, shuffle: [u8; 32]) -> TxResult<Model, Fault> {
    // Begun at most once by us, and perhaps by somebody else at the same time.
    for _ in 0..4 {
        let newest = Entity::find().order_by_desc(Column::Number).limit(1).lock_exclusive().one(tx).await?;
        let number = match newest {
            Some(list) if list.given < i64::from(PLACES) => return Ok(list),
            Some(full) => full.number + 1,
            None => 0,
        };
        let list =
            ActiveModel { number: Set(number), shuffle: Set(shuffle.to_vec()), given: Set(0), live_until: Set(0) };
        Entity::insert(list)
            .on_conflict(OnConflict::column(Column::Number).do_nothing().to_owned())
            .exec_without_returning(tx)
            .await?;
    }
    Err(flow(Fault::broken("a status list that was begun is not there")))
}

/// Gives a credential the next place of a list that is locked and has room; the index over all lists.
pub(crate) async fn give(tx: &Tx, list: &mut Model, row: &credential::Model) -> TxResult<i64, Fault> {
    let nth = u16::try_from(list.given).map_err(|e| flow(Fault::broken(e)))?;
    let index = list.number * i64::from(PLACES) + i64::from(place(&list.shuffle, nth));
    list.given += 1;
    list.live_until = list.live_until.max(row.not_after);
    Entity::update_many()
        .col_expr(Column::Given, Expr::value(list.given))
        .col_expr(Column::LiveUntil, Expr::value(list.live_until))
        .filter(Column::Number.eq(list.number))
        .exec(tx)
        .await?;
    credential::Entity::update_many()
        .col_expr(credential::Column::StatusIndex, Expr::value(index))
        .filter(credential::Column::Id.eq(&row.id))
        .exec(tx)
        .await?;
    Ok(index)
}

/// Some credentials of a list after an index, those left out that had ended at `since`.
pub(crate) async fn page(
    tx: &Tx,
    number: u32,
    after: Option<i64>,
    since: Timestamp,
    limit: u64,
) -> TxResult<Vec<credential::Model>, Fault> {
    use credential::Column as Of;
    let first = i64::from(number) * i64::from(PLACES);
    let find = credential::Entity::find()
        .filter(Of::StatusIndex.gte(after.map_or(first, |after| after + 1)))
        .filter(Of::StatusIndex.lt(first + i64::from(PLACES)))
        .filter(Of::NotAfter.gt(since.micros()));
    Ok(find.order_by_asc(Of::StatusIndex).limit(limit).all(tx).await?)
}
