//! Every change there was, in the order of revisions: the stream that others follow, and the history.

use legate_db::{Tx, TxResult, rows};
use legate_rpc::Fault;
use legate_wire::registry::{Change, Declaration, RevisionChanges};
use prost::Message as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SelectStatement, UnionType};
use sea_orm::{Order, QueryOrder as _, QuerySelect as _};

use super::{broken, head, listed, object, revision, signed, unsigned};
use crate::domain::kind::Key;

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

/// Rows that are read at once.
const ROWS: u64 = 2_000;

pub(crate) async fn insert(tx: &Tx, rows: Vec<Model>) -> TxResult<(), Fault> {
    Ok(rows::insert::<Entity>(tx, rows, None).await?)
}

/// What came after a revision.
#[derive(Debug)]
pub(crate) enum Since {
    /// Some of the revisions after it, whole and in order; none when there are no more.
    Whole(Vec<RevisionChanges>),
    /// They are no longer kept.
    Compacted,
}

/// The revisions after `revision`.
pub(crate) async fn since(tx: &Tx, revision: u64) -> TxResult<Since, Fault> {
    // All that was written at the oldest revision that is kept and later is there, and of what was written before only a part.
    if revision + 1 < unsigned(head::read_whole(tx).await?.oldest) {
        return Ok(Since::Compacted);
    }
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
    Ok(Since::Whole(all))
}

/// The writes after a place up to a revision, in order, `limit` at most.
pub(crate) async fn written(tx: &Tx, after: Place, up_to: i64, limit: u64) -> TxResult<Vec<Written>, Fault> {
    let columns = Expr::tuple([Column::Revision.into_expr(), Column::Place.into_expr()]);
    let find = Entity::find()
        .select_only()
        .columns([Column::Revision, Column::Place, Column::ObjectId, Column::Revoked])
        .filter(columns.gt(Expr::tuple([Expr::val(after.0), Expr::val(after.1)])))
        .filter(Column::Revision.lte(up_to))
        .order_by_asc(Column::Revision)
        .order_by_asc(Column::Place);
    let rows: Vec<(i64, i32, String, bool)> = find.limit(limit).into_tuple().all(tx).await?;
    let written = |(revision, place, object_id, revoked)| Written { place: (revision, place), object_id, revoked };
    Ok(rows.into_iter().map(written).collect())
}

/// One write, without what was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) place: Place,
    pub(crate) object_id: String,
    pub(crate) revoked: bool,
}

/// Forgets the writes of an object before one, and `with_it` that one too; how many.
pub(crate) async fn forget_before(tx: &Tx, last: &Written, with_it: bool) -> TxResult<u64, Fault> {
    let columns = Expr::tuple([Column::Revision.into_expr(), Column::Place.into_expr()]);
    let place = Expr::tuple([Expr::val(last.place.0), Expr::val(last.place.1)]);
    let before = if with_it { columns.lte(place) } else { columns.lt(place) };
    let gone = Entity::delete_many().filter(Column::ObjectId.eq(&last.object_id)).filter(before).exec(tx).await?;
    Ok(gone.rows_affected)
}

/// A place in an object's history: revision, and place in it.
pub(crate) type Place = (i64, i32);

/// The writes of an object after a place, in order, `limit` at most.
pub(crate) async fn of_object(
    tx: &Tx,
    object_id: &str,
    after: Option<Place>,
    oldest_first: bool,
    limit: u64,
) -> TxResult<Vec<Model>, Fault> {
    let mut find = Entity::find().filter(Column::ObjectId.eq(object_id));
    if let Some((revision, place)) = after {
        let columns = Expr::tuple([Column::Revision.into_expr(), Column::Place.into_expr()]);
        let place = Expr::tuple([Expr::val(revision), Expr::val(place)]);
        find = find.filter(if oldest_first { columns.gt(place) } else { columns.lt(place) });
    }
    let order = if oldest_first { Order::Asc } else { Order::Desc };
    let ordered = find.order_by(Column::Revision, order.clone()).order_by(Column::Place, order);
    Ok(ordered.limit(limit).all(tx).await?)
}

/// One write of an object.
pub(crate) async fn at(tx: &Tx, object_id: &str, (revision, place): Place) -> TxResult<Option<Model>, Fault> {
    let find = Entity::find_by_id((revision, place)).filter(Column::ObjectId.eq(object_id));
    Ok(find.one(tx).await?)
}

/// What held a name at `revision`, as it was then. A name has one holder at a time, so whoever of them all was written last
/// is the one, or there was none: the last write of a holder is the one that gives the name up.
pub(crate) async fn holder(tx: &Tx, key: &Key, revision: u64) -> TxResult<Option<Declaration>, Fault> {
    let last = last_of_any(holders(key), revision).one(tx).await?;
    last.filter(|row| !row.revoked).map(|row| row.declaration()).transpose()
}

/// Whatever held a name ever.
pub(super) fn holders(key: &Key) -> SelectStatement {
    let holder = Query::select()
        .column(listed::Column::ObjectId)
        .from(listed::Entity)
        .and_where(listed::Column::Kind.eq(key.kind as i32))
        .and_where(listed::Column::Namespace.eq(&key.namespace))
        .and_where(listed::Column::Name.eq(&key.name))
        .take();
    Query::select()
        .column(object::Column::Id)
        .from(object::Entity)
        .and_where(object::Column::Kind.eq(key.kind as i32))
        .and_where(object::Column::Namespace.eq(&key.namespace))
        .and_where(object::Column::Name.eq(&key.name))
        .and_where(object::Column::HoldsName.into_expr().not())
        .union(UnionType::All, holder)
        .take()
}

/// The last write of any of several objects up to a revision. What is reckoned is in no index, so that no database takes the order
/// of all changes for the shorter way.
pub(super) fn last_of_any(objects: SelectStatement, revision: u64) -> Select<Entity> {
    Entity::find()
        .filter(Column::ObjectId.in_subquery(objects))
        .filter(Column::Revision.lte(signed(revision)))
        .order_by_desc(Column::Revision.into_expr().add(0))
        .order_by_desc(Column::Place)
        .limit(1)
}

/// The last write of an object up to a revision.
pub(super) fn last_of(object_id: &str, revision: u64) -> Select<Entity> {
    Entity::find()
        .filter(Column::ObjectId.eq(object_id))
        .filter(Column::Revision.lte(signed(revision)))
        .order_by_desc(Column::Revision)
        .order_by_desc(Column::Place)
        .limit(1)
}

/// An object as it was at `revision`; `None` when it was not in force then.
pub(crate) async fn as_of(tx: &Tx, object_id: &str, revision: u64) -> TxResult<Option<Declaration>, Fault> {
    let body = body_as_of(tx, object_id, revision).await?;
    body.map(|body| Declaration::decode(body.as_slice()).map_err(broken)).transpose()
}

/// The same as the bytes of its `Declaration`.
pub(crate) async fn body_as_of(tx: &Tx, object_id: &str, revision: u64) -> TxResult<Option<Vec<u8>>, Fault> {
    let last = last_of(object_id, revision).one(tx).await?;
    Ok(last.filter(|row| !row.revoked).map(|row| row.body))
}
