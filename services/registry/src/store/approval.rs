//! Approvals among the objects, the latest first: their ids begin with the time.

use legate_authority::Reach;
use legate_db::{Tx, TxResult};
use legate_ids::Name;
use legate_rpc::Fault;
use legate_wire::registry::Kind;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::object::{Column, Entity, Model};

/// What approvals a list shows.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    /// Empty: all.
    pub(crate) namespace: String,
    /// Only those that are pending or approved.
    pub(crate) open_only: bool,
    /// Only of the namespaces that the caller may see.
    pub(crate) sees: Reach,
}

/// Approvals before one, the latest first, `limit` at most.
pub(crate) async fn page(tx: &Tx, which: &Which, before: Option<&str>, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let mut find = Entity::find().filter(Column::Kind.eq(Kind::Approval as i32));
    // All ids of approvals lie between these, so only they are looked at.
    find = find.filter(Column::Id.gt("apr_")).filter(Column::Id.lt(before.unwrap_or("apr_z")));
    if !which.namespace.is_empty() {
        find = find.filter(Column::Namespace.eq(&which.namespace));
    }
    if which.open_only {
        find = find.filter(Column::HoldsName.eq(true));
    }
    if let Reach::In(names) = &which.sees {
        find = find.filter(Column::Namespace.is_in(names.iter().map(Name::as_str)));
    }
    Ok(find.order_by_desc(Column::Id).limit(limit).all(tx).await?)
}

/// How many are pending or approved.
pub(crate) async fn census(tx: &Tx) -> TxResult<i64, Fault> {
    let count = Entity::find()
        .select_only()
        .column_as(Column::Id.count(), "count")
        .filter(Column::Kind.eq(Kind::Approval as i32))
        .filter(Column::HoldsName.eq(true));
    Ok(count.into_tuple().one(tx).await?.unwrap_or_default())
}
