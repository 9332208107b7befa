//! Objects as they are now: their protobuf bytes, and beside them what is searched by.

use std::collections::{BTreeMap, BTreeSet};

use legate_db::{Tx, TxResult};
use legate_filter::{Field, Subject as _};
use legate_rpc::Fault;
use legate_wire::registry::{Declaration, Kind};
use prost::Message as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::condition;
use super::search::{Place, Which};
use super::{broken, pieces, signed};
use crate::domain::kind::Key;
use crate::domain::subject::Seen;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "object")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) kind: i32,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Nobody else of this kind and namespace can have the name.
    pub(crate) holds_name: bool,
    /// No longer in force.
    pub(crate) revoked: bool,
    /// The state of an agent; 0 for everything else.
    pub(crate) state: i32,
    /// When the sweep has to look at it.
    pub(crate) ends_at: Option<i64>,
    pub(crate) revision: i64,
    #[sea_orm(column_type = "Blob")]
    pub(crate) body: Vec<u8>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    /// When an agent ends by itself.
    pub(crate) expires_at: Option<i64>,
    /// When an agent last obtained or used anything.
    pub(crate) used_at: Option<i64>,
    /// Since when nobody who is here is accountable for an agent.
    pub(crate) orphaned_at: Option<i64>,
}

/// The times that objects are searched and ordered by, in Unix microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) created: i64,
    pub(crate) updated: i64,
    pub(crate) expires: Option<i64>,
    pub(crate) used: Option<i64>,
    pub(crate) orphaned: Option<i64>,
}

impl Times {
    pub(crate) fn of(declaration: &Declaration) -> Self {
        let seen = Seen::of(declaration);
        let at = |field| seen.moment(&field);
        Self {
            created: at(Field::CreateTime).unwrap_or_default(),
            updated: at(Field::UpdateTime).unwrap_or_default(),
            expires: at(Field::ExpireTime),
            used: at(Field::LastUsedTime),
            orphaned: at(Field::OrphanedTime),
        }
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The object.
    pub(crate) fn declaration(&self) -> TxResult<Declaration, Fault> {
        Declaration::decode(self.body.as_slice()).map_err(broken)
    }
}

/// Writes objects as they are now; none of them twice.
pub(crate) async fn put(tx: &Tx, rows: Vec<Model>) -> TxResult<(), Fault> {
    let changing = [
        Column::HoldsName,
        Column::Revoked,
        Column::State,
        Column::EndsAt,
        Column::Revision,
        Column::Body,
        Column::UpdatedAt,
        Column::ExpiresAt,
        Column::UsedAt,
        Column::OrphanedAt,
    ];
    for some in pieces(rows) {
        Entity::insert_many(some.into_iter().map(|row| ActiveModel::from(row).reset_all()))
            .on_conflict(OnConflict::column(Column::Id).update_columns(changing).to_owned())
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

/// The object that holds this name.
pub(crate) async fn by_key(tx: &Tx, key: &Key) -> TxResult<Option<Model>, Fault> {
    let find = Entity::find()
        .filter(Column::Kind.eq(key.kind as i32))
        .filter(Column::Namespace.eq(&key.namespace))
        .filter(Column::Name.eq(&key.name))
        .filter(Column::HoldsName.eq(true));
    Ok(find.one(tx).await?)
}

/// The objects that hold these names.
pub(crate) async fn by_keys(tx: &Tx, keys: BTreeSet<Key>) -> TxResult<BTreeMap<Key, Model>, Fault> {
    let mut names: BTreeMap<(i32, String), Vec<String>> = BTreeMap::new();
    for key in keys {
        names.entry((key.kind as i32, key.namespace)).or_default().push(key.name);
    }
    let mut found = BTreeMap::new();
    for ((kind, namespace), names) in names {
        for some in pieces(names) {
            let find = Entity::find()
                .filter(Column::Kind.eq(kind))
                .filter(Column::Namespace.eq(&namespace))
                .filter(Column::Name.is_in(some))
                .filter(Column::HoldsName.eq(true));
            for row in find.all(tx).await? {
                let kind = Kind::try_from(row.kind).map_err(broken)?;
                found.insert(Key::new(kind, &row.namespace, &row.name), row);
            }
        }
    }
    Ok(found)
}

/// Any objects, by their ids; those no longer in force too.
pub(crate) async fn by_ids(tx: &Tx, ids: BTreeSet<String>) -> TxResult<Vec<Model>, Fault> {
    let mut found = Vec::new();
    for some in pieces(ids.into_iter().collect()) {
        found.extend(Entity::find().filter(Column::Id.is_in(some)).all(tx).await?);
    }
    Ok(found)
}

/// Any object, by id; those no longer in force too.
pub(crate) async fn by_id(tx: &Tx, id: &str) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find_by_id(id).one(tx).await?)
}

/// Those of a kind that are in force, in the order of namespace and name.
pub(crate) async fn in_force(tx: &Tx, kind: Kind, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let find = Entity::find().filter(Column::Kind.eq(kind as i32)).filter(Column::HoldsName.eq(true));
    Ok(find.order_by_asc(Column::Namespace).order_by_asc(Column::Name).limit(limit).all(tx).await?)
}

/// Objects of a kind after a place, in the order of names, those no longer in force too.
pub(crate) async fn ever(tx: &Tx, which: &Which, after: Option<&Place>, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let namespace = &which.namespace;
    let mut find = Entity::find().filter(Column::Kind.eq(which.kind as i32));
    find = find.filter(condition::seen(which, Column::Namespace, Column::Name));
    let mut columns = vec![Column::Name.into_expr(), Column::Id.into_expr()];
    if namespace.is_empty() {
        columns.insert(0, Column::Namespace.into_expr());
    } else {
        find = find.filter(Column::Namespace.eq(namespace));
    }
    if let Some(Place::Name { namespace: in_space, name, id }) = after {
        let mut place = vec![Expr::val(name), Expr::val(id)];
        if namespace.is_empty() {
            place.insert(0, Expr::val(in_space));
        }
        find = find.filter(Expr::tuple(columns).gt(Expr::tuple(place)));
    }
    let ordered = find.order_by_asc(Column::Namespace).order_by_asc(Column::Name).order_by_asc(Column::Id);
    Ok(ordered.limit(limit).all(tx).await?)
}

/// The ids of all that ever held a name, the newest first.
pub(crate) async fn holders(tx: &Tx, key: &Key, limit: u64) -> TxResult<Vec<String>, Fault> {
    let ids = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::Kind.eq(key.kind as i32))
        .filter(Column::Namespace.eq(&key.namespace))
        .filter(Column::Name.eq(&key.name))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .limit(limit);
    Ok(ids.into_tuple().all(tx).await?)
}

/// The objects of a kind and namespace that are in force, in the order of names, `limit` at most.
pub(crate) async fn in_namespace(tx: &Tx, kind: Kind, namespace: &str, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let find = Entity::find()
        .filter(Column::Kind.eq(kind as i32))
        .filter(Column::Namespace.eq(namespace))
        .filter(Column::HoldsName.eq(true))
        .order_by_asc(Column::Name);
    Ok(find.limit(limit).all(tx).await?)
}

/// Those of a kind that are in force after a place in the order of names, of one namespace or (empty) of all; `limit` at most.
pub(crate) async fn after(
    tx: &Tx,
    kind: Kind,
    namespace: &str,
    [in_space, name, id]: [&str; 3],
    limit: u64,
) -> TxResult<Vec<Model>, Fault> {
    let mut find = Entity::find().filter(Column::Kind.eq(kind as i32)).filter(Column::HoldsName.eq(true));
    if !namespace.is_empty() {
        find = find.filter(Column::Namespace.eq(namespace));
    }
    let columns = Expr::tuple([Column::Namespace, Column::Name, Column::Id].map(|column| column.into_expr()));
    let place = Expr::tuple([in_space, name, id].map(Expr::val));
    let ordered = find.filter(columns.gt(place)).order_by_asc(Column::Namespace).order_by_asc(Column::Name);
    Ok(ordered.order_by_asc(Column::Id).limit(limit).all(tx).await?)
}

/// An object as it rests, without what it is searched by.
#[derive(Debug)]
pub(crate) struct Resting {
    pub(crate) id: String,
    pub(crate) revision: i64,
    pub(crate) revoked: bool,
    pub(crate) body: Vec<u8>,
}

/// Everything there ever was, in the order of ids, for snapshots.
pub(crate) async fn page_by_id(tx: &Tx, after: &str, limit: u64) -> TxResult<Vec<Resting>, Fault> {
    let find = Entity::find()
        .select_only()
        .columns([Column::Id, Column::Revision, Column::Revoked, Column::Body])
        .filter(Column::Id.gt(after))
        .order_by_asc(Column::Id);
    let rows: Vec<(String, i64, bool, Vec<u8>)> = find.limit(limit).into_tuple().all(tx).await?;
    let resting = |(id, revision, revoked, body)| Resting { id, revision, revoked, body };
    Ok(rows.into_iter().map(resting).collect())
}

/// Objects whose time is over.
pub(crate) async fn due(tx: &Tx, now: i64, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let find = Entity::find().filter(Column::EndsAt.lte(now)).order_by_asc(Column::EndsAt);
    Ok(find.limit(limit).all(tx).await?)
}

/// Forgets an object that was taken back.
pub(crate) async fn forget(tx: &Tx, id: &str) -> TxResult<(), Fault> {
    Entity::delete_many().filter(Column::Id.eq(id)).filter(Column::Revoked.eq(true)).exec(tx).await?;
    Ok(())
}

/// How many agents there are in each state.
pub(crate) async fn census(tx: &Tx) -> TxResult<Vec<(i32, i64)>, Fault> {
    let count = Entity::find()
        .select_only()
        .column(Column::State)
        .column_as(Column::State.count(), "count")
        .filter(Column::Kind.eq(Kind::Agent as i32))
        .group_by(Column::State);
    Ok(count.into_tuple().all(tx).await?)
}

/// How many agents there are for which nobody who is here is accountable, and since when there is the first of them.
pub(crate) async fn orphans(tx: &Tx) -> TxResult<(i64, Option<i64>), Fault> {
    let find = Entity::find()
        .select_only()
        .column_as(Column::OrphanedAt.count(), "count")
        .column_as(Column::OrphanedAt.min(), "oldest")
        .filter(Column::Kind.eq(Kind::Agent as i32))
        .filter(Column::OrphanedAt.is_not_null());
    Ok(find.into_tuple().one(tx).await?.unwrap_or_default())
}

/// The row's revision and those before it: whether a snapshot of `revision` can use the row as it is.
pub(crate) fn is_of(row: &Model, revision: u64) -> bool {
    row.revision <= signed(revision)
}
