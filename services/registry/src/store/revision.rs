//! Revisions: what stands for every change up to each of them, so that one who followed can tell whether it still does.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::QueryOrder as _;
use sea_orm::entity::prelude::*;

use super::{signed, unsigned};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "revision")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) revision: i64,
    #[sea_orm(column_type = "Blob")]
    pub(crate) history: Vec<u8>,
    /// When it was made, in Unix microseconds; never before the one that it follows.
    pub(crate) written_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The history that is being made: the one before, and each change.
pub(crate) struct History(Context);

impl History {
    /// What follows after `before`.
    pub(crate) fn after(before: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(before);
        Self(context)
    }

    /// One more change.
    pub(crate) fn add(&mut self, body: &[u8], revoked: bool) {
        // Length first, so that no two lists of changes are the same bytes.
        self.0.update(&(body.len() as u64).to_be_bytes());
        self.0.update(&[u8::from(revoked)]);
        self.0.update(body);
    }

    /// Stands for all of it.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

pub(super) async fn insert(tx: &Tx, revision: u64, history: Vec<u8>, written_at: i64) -> TxResult<(), Fault> {
    let row = Model { revision: signed(revision), history, written_at };
    Entity::insert(ActiveModel::from(row).reset_all()).exec_without_returning(tx).await?;
    Ok(())
}

/// The history up to `revision`; `None` where there is no such revision.
pub(crate) async fn history(tx: &Tx, revision: u64) -> TxResult<Option<Vec<u8>>, Fault> {
    Ok(Entity::find_by_id(signed(revision)).one(tx).await?.map(|row| row.history))
}

/// The last revision that was made at `time` or before; `None` where the first is later.
pub(crate) async fn at(tx: &Tx, time: i64) -> TxResult<Option<u64>, Fault> {
    let last = Entity::find()
        .filter(Column::WrittenAt.lte(time))
        .order_by_desc(Column::WrittenAt)
        .order_by_desc(Column::Revision)
        .one(tx)
        .await?;
    Ok(last.map(|row| unsigned(row.revision)))
}

/// The histories of the revisions from `first` to `last`.
pub(super) async fn histories(tx: &Tx, first: u64, last: u64) -> TxResult<BTreeMap<u64, Vec<u8>>, Fault> {
    let find = Entity::find().filter(Column::Revision.between(signed(first), signed(last)));
    Ok(find.all(tx).await?.into_iter().map(|row| (unsigned(row.revision), row.history)).collect())
}

/// Forgets all up to `last`.
pub(crate) async fn forget(tx: &Tx, last: i64) -> TxResult<(), Fault> {
    Entity::delete_many().filter(Column::Revision.lte(last)).exec(tx).await?;
    Ok(())
}

/// When a revision was made, in Unix microseconds; `None` where it is not kept.
pub(crate) async fn time(tx: &Tx, revision: u64) -> TxResult<Option<i64>, Fault> {
    Ok(Entity::find_by_id(signed(revision)).one(tx).await?.map(|row| row.written_at))
}
