//! Every change there was, in the order of revisions: the stream that others follow, and the history.

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::{Change, Declaration, RevisionChanges};
use prost::Message as _;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::{broken, pieces, revision, signed, unsigned};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "change")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) revision: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) place: i32,
    pub(crate) object_id: String,
    pub(crate) revoked: bool,
    #[sea_orm(column_type = "Blob")]
    pub(crate) body: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The object as it was then.
    pub(crate) fn declaration(&self) -> TxResult<Declaration, Fault> {
        Declaration::decode(self.body.as_slice()).map_err(broken)
    }
}

/// Versions of one object that are read at once.
const VERSIONS: u64 = 100;
/// Rows that are read at once.
const ROWS: u64 = 2_000;

pub(crate) async fn insert(tx: &Tx, rows: Vec<Model>) -> TxResult<(), Fault> {
    for some in pieces(rows) {
        let rows = some.into_iter().map(|row| ActiveModel::from(row).reset_all());
        Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// The revisions after `revision`, whole and in order: some of them, or none when there are no more.
pub(crate) async fn since(tx: &Tx, revision: u64) -> TxResult<Vec<RevisionChanges>, Fault> {
    let ordered = |find: Select<Entity>| find.order_by_asc(Column::Revision).order_by_asc(Column::Place);
    let later = Entity::find().filter(Column::Revision.gt(signed(revision)));
    let mut rows = ordered(later).limit(ROWS).all(tx).await?;
    if rows.len() as u64 == ROWS {
        // The last one may be cut: it comes with the next read, or alone when it is all there is.
        let last = rows.last().map_or(0, |row| row.revision);
        if rows.first().is_some_and(|row| row.revision == last) {
            rows = ordered(Entity::find().filter(Column::Revision.eq(last))).all(tx).await?;
        } else {
            rows.retain(|row| row.revision != last);
        }
    }
    let mut all: Vec<RevisionChanges> = Vec::new();
    for row in rows {
        let revision = unsigned(row.revision);
        let object = Some(Declaration::decode(row.body.as_slice()).map_err(broken)?);
        let change = Change { object, revoked: row.revoked };
        match all.last_mut() {
            Some(last) if last.revision == revision => last.changes.push(change),
            _ => all.push(RevisionChanges { revision, changes: vec![change], history: Vec::new() }),
        }
    }
    if let (Some(first), Some(last)) = (all.first(), all.last()) {
        let mut histories = revision::histories(tx, first.revision, last.revision).await?;
        for one in &mut all {
            one.history = histories.remove(&one.revision).ok_or_else(|| broken("a revision has no history"))?;
        }
    }
    Ok(all)
}

/// The versions of an object after `revision`, in order: some of them, or none when there are no more. For objects that
/// are written once in a revision, such as agents.
pub(crate) async fn versions(tx: &Tx, object_id: &str, revision: i64) -> TxResult<Vec<Model>, Fault> {
    let later = Entity::find().filter(Column::ObjectId.eq(object_id)).filter(Column::Revision.gt(revision));
    Ok(later.order_by_asc(Column::Revision).limit(VERSIONS).all(tx).await?)
}

/// An object as it was at `revision`; `None` when it was not in force then.
pub(crate) async fn as_of(tx: &Tx, object_id: &str, revision: u64) -> TxResult<Option<Declaration>, Fault> {
    let last = Entity::find()
        .filter(Column::ObjectId.eq(object_id))
        .filter(Column::Revision.lte(signed(revision)))
        .order_by_desc(Column::Revision)
        .order_by_desc(Column::Place)
        .one(tx)
        .await?;
    match last {
        Some(row) if !row.revoked => Ok(Some(Declaration::decode(row.body.as_slice()).map_err(broken)?)),
        _ => Ok(None),
    }
}
