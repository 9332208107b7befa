//! Requests by CIBA that a client polls for: whose, for which approval, and when it asked last.

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::ActiveValue::Set;
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "backchannel")]
pub(crate) struct Model {
    /// SHA-256 of the `auth_req_id`.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub(crate) request: Vec<u8>,
    /// The client.
    pub(crate) agent_id: String,
    pub(crate) approval_id: String,
    pub(crate) audience: String,
    /// Actions, with a space between two.
    pub(crate) scope: String,
    /// When nobody can get a token by it any more.
    pub(crate) until: i64,
    /// When the client asked last; none: not yet.
    pub(crate) polled_at: Option<i64>,
    /// Seconds that have to lie between two times.
    pub(crate) wait: i32,
    /// A token was made of it.
    pub(crate) spent: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Notes a new request.
pub(crate) async fn insert(tx: &Tx, row: Model) -> TxResult<(), Fault> {
    Entity::insert(ActiveModel::from(row).reset_all()).exec_without_returning(tx).await?;
    Ok(())
}

/// How many polls wait, or waited, for the approval of this row, `limit` at most: all of them end at the same moment, and
/// are found by it.
pub(crate) async fn beside(tx: &Tx, row: &Model, limit: u64) -> TxResult<usize, Fault> {
    let of_request = Entity::find()
        .filter(Column::Until.eq(row.until))
        .filter(Column::AgentId.eq(&row.agent_id))
        .filter(Column::ApprovalId.eq(&row.approval_id));
    Ok(of_request.limit(limit).all(tx).await?.len())
}

/// The request of that client, where there is one of which no token was made.
pub(crate) async fn find(tx: &Tx, request: &[u8; 32], agent_id: &str) -> TxResult<Option<Model>, Fault> {
    let find = Entity::find_by_id(request.to_vec()).filter(Column::AgentId.eq(agent_id));
    Ok(find.filter(Column::Spent.eq(false)).one(tx).await?)
}

/// Notes that the client asked, and how long it has to wait from now on.
pub(crate) async fn polled(tx: &Tx, request: &[u8; 32], now: Timestamp, wait: i32) -> TxResult<(), Fault> {
    let row = ActiveModel {
        request: Set(request.to_vec()),
        polled_at: Set(Some(now.micros())),
        wait: Set(wait),
        ..<ActiveModel as sea_orm::ActiveModelTrait>::default()
    };
    Entity::update(row).exec(tx).await?;
    Ok(())
}

/// Takes it for a token, or gives it back: of all who try at once, one gets `true`.
pub(crate) async fn set_spent(tx: &Tx, request: &[u8; 32], spent: bool) -> TxResult<bool, Fault> {
    let done = Entity::update_many()
        .col_expr(Column::Spent, Expr::value(spent))
        .filter(Column::Request.eq(request.to_vec()))
        .filter(Column::Spent.eq(!spent))
        .exec(tx)
        .await?;
    Ok(done.rows_affected == 1)
}

/// Forgets what nobody can get a token by any more.
pub(crate) async fn forget(tx: &Tx, now: Timestamp) -> TxResult<(), Fault> {
    Entity::delete_many().filter(Column::Until.lt(now.micros())).exec(tx).await?;
    Ok(())
}
