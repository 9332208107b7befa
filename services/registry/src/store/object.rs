//! Objects as they are now: their protobuf bytes, and beside them what is searched by.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult, rows};
use legate_filter::{Field, Subject as _};
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind};
use prost::Message as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ArrayType, Expr, ExprTrait as _, Func, IntoCondition as _, OnConflict, Query, Value};
use sea_orm::{Condition, DbBackend, FromQueryResult as _, Iterable as _, JoinType, QueryOrder as _, QuerySelect as _};

use super::search::{Place, Which};
use super::{broken, condition, listed, pieces, signed, unsigned, way};
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
    /// Objects are numbered as they are made; see [`super::term`].
    pub(crate) number: i64,
    /// When the sweep looks what lifecycle policies say of an agent.
    pub(crate) look_at: Option<i64>,
    /// When one that is carried out does something to it, as of the last look.
    pub(crate) due_at: Option<i64>,
    /// By when it has to be confirmed.
    pub(crate) attest_at: Option<i64>,
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

#[derive(Copy, Clone, Debug, EnumIter)]
pub(crate) enum Relation {
    /// The row of an object that holds its name.
    Listed,
}

impl RelationTrait for Relation {
    fn def(&self) -> RelationDef {
        Entity::belongs_to(listed::Entity).from(Column::Number).to(listed::Column::Number).into()
    }
}

impl ActiveModelBehavior for ActiveModel {}

/// Objects that hold their names, found by them.
fn listed() -> Select<Entity> {
    Entity::find().join(JoinType::InnerJoin, Relation::Listed.def())
}

/// Objects of these that hold no name any more; as a bare column, so that an index of those serves.
fn unlisted(kind: Kind) -> Select<Entity> {
    Entity::find().filter(Column::Kind.eq(kind as i32)).filter(Column::HoldsName.into_expr().not())
}

impl Model {
    /// The object.
    pub(crate) fn declaration(&self) -> TxResult<Declaration, Fault> {
        Declaration::decode(self.body.as_slice()).map_err(broken)
    }

    /// The object as it is shown: with what is known of it and not declared, which is never written back.
    pub(crate) fn shown(&self) -> TxResult<Declaration, Fault> {
        let mut shown = self.declaration()?;
        let is_known = self.used_at.is_some() || self.due_at.is_some() || self.attest_at.is_some();
        if let Some(Object::Agent(agent)) = &mut shown.object
            && is_known
        {
            let status = agent.status.get_or_insert_default();
            let at = |micros: i64| prost_types::Timestamp::from(Timestamp::from_micros(micros));
            status.last_used_time = self.used_at.map(at);
            status.next_attestation_time = self.attest_at.map(at);
            status.lifecycle_due_time = self.due_at.map(at);
        }
        Ok(shown)
    }

    /// When an agent last obtained or used anything, as far as is known.
    pub(crate) fn last_used(&self) -> Option<Timestamp> {
        self.used_at.map(Timestamp::from_micros)
    }
}

/// Writes objects as they are now; none of them twice. When an agent was last used is told elsewhere, and stays.
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
        Column::OrphanedAt,
        Column::LookAt,
        Column::DueAt,
        Column::AttestAt,
    ];
    let known = OnConflict::column(Column::Id).update_columns(changing).to_owned();
    Ok(rows::insert::<Entity>(tx, rows, Some(&known)).await?)
}

/// The object that holds this name.
pub(crate) async fn by_key(tx: &Tx, key: &Key) -> TxResult<Option<Model>, Fault> {
    let find = listed()
        .filter(listed::Column::Kind.eq(key.kind as i32))
        .filter(listed::Column::Namespace.eq(&key.namespace))
        .filter(listed::Column::Name.eq(&key.name));
    Ok(find.one(tx).await?)
}

/// The objects that hold these names.
pub(crate) async fn by_keys(tx: &Tx, keys: BTreeSet<Key>) -> TxResult<BTreeMap<Key, Model>, Fault> {
    let mut found = BTreeMap::new();
    for ((kind, namespace), names) in by_place(keys) {
        for some in pieces(names) {
            for row in held(tx, kind as i32, &namespace, some).await? {
                let kind = Kind::try_from(row.kind).map_err(broken)?;
                found.insert(Key::new(kind, &row.namespace, &row.name), row);
            }
        }
    }
    Ok(found)
}

/// Which of these names an object gave up after a revision, and at which.
pub(crate) async fn given_up_since(tx: &Tx, keys: BTreeSet<Key>, revision: u64) -> TxResult<BTreeMap<Key, u64>, Fault> {
    let mut found = BTreeMap::new();
    for ((kind, namespace), names) in by_place(keys) {
        for some in pieces(names) {
            let find = unlisted(kind).select_only().columns([Column::Name, Column::Revision]);
            let find = find.filter(Column::Namespace.eq(&namespace)).filter(rows::among(tx, Column::Name, some));
            let find = find.filter(Column::Revision.gt(signed(revision)));
            for (name, at) in find.into_tuple::<(String, i64)>().all(tx).await? {
                found.insert(Key::new(kind, &namespace, &name), unsigned(at));
            }
        }
    }
    Ok(found)
}

/// Names by the kind and namespace that they are of.
fn by_place(keys: BTreeSet<Key>) -> BTreeMap<(Kind, String), Vec<String>> {
    let mut names: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for key in keys {
        names.entry((key.kind, key.namespace)).or_default().push(key.name);
    }
    names
}

/// Those that hold these names of one kind and namespace. PostgreSQL looks each of them up: where it knows nothing of the table it
/// would rather read the whole namespace.
async fn held(tx: &Tx, kind: i32, namespace: &str, names: Vec<String>) -> TxResult<Vec<Model>, Fault> {
    let within = Condition::all().add(listed::Column::Kind.eq(kind)).add(listed::Column::Namespace.eq(namespace));
    let backend = tx.get_database_backend();
    if backend != DbBackend::Postgres {
        let find = listed().filter(within).filter(rows::among(tx, listed::Column::Name, names));
        return Ok(find.all(tx).await?);
    }
    let names = Value::Array(ArrayType::String, Some(Box::new(names.into_iter().map(Value::from).collect())));
    let mut wanted = Query::select();
    wanted.expr_as(Func::cust("UNNEST").arg(names), "name");
    let mut select = Query::select();
    select.from_subquery(wanted, "wanted");
    let own = within.add(listed::Column::Name.into_expr().equals(("wanted", "name")));
    way::look_up(&mut select, listed::Entity, own, backend);
    let own = Column::Number.into_expr().equals((listed::Entity, listed::Column::Number));
    way::look_up(&mut select, Entity, own.into_condition(), backend);
    for column in Column::iter() {
        select.expr(column.into_expr());
    }
    let found = tx.query_all(&select).await?;
    Ok(found.iter().map(|row| Model::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// The numbers of objects, by their ids.
pub(crate) async fn numbers(tx: &Tx, ids: Vec<String>) -> TxResult<BTreeMap<String, i64>, Fault> {
    let mut found = BTreeMap::new();
    for some in pieces(ids) {
        let find = Entity::find().select_only().columns([Column::Id, Column::Number]);
        let find = find.filter(rows::among(tx, Column::Id, some));
        found.extend(find.into_tuple::<(String, i64)>().all(tx).await?);
    }
    Ok(found)
}

/// Any objects, by their ids; those no longer in force too.
pub(crate) async fn by_ids(tx: &Tx, ids: BTreeSet<String>) -> TxResult<Vec<Model>, Fault> {
    let mut found = Vec::new();
    for some in pieces(ids.into_iter().collect()) {
        found.extend(Entity::find().filter(rows::among(tx, Column::Id, some)).all(tx).await?);
    }
    Ok(found)
}

/// Any object, by id; those no longer in force too.
pub(crate) async fn by_id(tx: &Tx, id: &str) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find_by_id(id).one(tx).await?)
}

/// Those of a kind that are in force, in the order of namespace and name.
pub(crate) async fn in_force(tx: &Tx, kind: Kind, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let find = listed().filter(listed::Column::Kind.eq(kind as i32));
    let ordered = find.order_by_asc(listed::Column::Namespace).order_by_asc(listed::Column::Name);
    Ok(ordered.limit(limit).all(tx).await?)
}

/// Objects of a kind after a place, in the order of names, those no longer in force too.
pub(crate) async fn ever(tx: &Tx, which: &Which, after: Option<&Place>, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let held = listed().filter(condition::listed_within(which));
    let mut all =
        by_name(held, listed::Column::Namespace, listed::Column::Name, listed::Column::ObjectId, which, after)
            .limit(limit)
            .all(tx)
            .await?;
    let given_up = unlisted(which.kind).filter(condition::placed(which, Column::Kind, Column::Namespace, Column::Name));
    let given_up = by_name(given_up, Column::Namespace, Column::Name, Column::Id, which, after).limit(limit);
    all.extend(given_up.all(tx).await?);
    all.sort_by_cached_key(|row| (row.namespace.clone(), row.name.clone(), row.id.clone()));
    all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(all)
}

/// What is found, in the order of names after a place; a namespace that is the same for all of it is left out.
fn by_name<C: ColumnTrait>(
    find: Select<Entity>,
    namespace: C,
    name: C,
    id: C,
    which: &Which,
    after: Option<&Place>,
) -> Select<Entity> {
    let mut columns = vec![name, id];
    if which.namespace.is_empty() {
        columns.insert(0, namespace);
    }
    let mut find = find;
    if let Some(Place::Name { namespace: in_space, name, id }) = after {
        let mut place = vec![Expr::val(name), Expr::val(id)];
        if which.namespace.is_empty() {
            place.insert(0, Expr::val(in_space));
        }
        let columns = columns.iter().map(|column| column.into_expr());
        find = find.filter(Expr::tuple(columns).gt(Expr::tuple(place)));
    }
    columns.into_iter().fold(find, |find, column| find.order_by_asc(column))
}

/// The ids of all that ever held a name, the newest first.
pub(crate) async fn holders(tx: &Tx, key: &Key, limit: u64) -> TxResult<Vec<String>, Fault> {
    let given_up = unlisted(key.kind)
        .select_only()
        .columns([Column::CreatedAt, Column::Id])
        .filter(Column::Namespace.eq(&key.namespace))
        .filter(Column::Name.eq(&key.name))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .limit(limit);
    let mut all: Vec<(i64, String)> = given_up.into_tuple().all(tx).await?;
    all.extend(by_key(tx, key).await?.map(|row| (row.created_at, row.id)));
    all.sort_unstable();
    all.reverse();
    all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(all.into_iter().map(|(_, id)| id).collect())
}

/// The objects of a kind and namespace that are in force, in the order of names, `limit` at most.
pub(crate) async fn in_namespace(tx: &Tx, kind: Kind, namespace: &str, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let find = listed()
        .filter(listed::Column::Kind.eq(kind as i32))
        .filter(listed::Column::Namespace.eq(namespace))
        .order_by_asc(listed::Column::Name);
    Ok(find.limit(limit).all(tx).await?)
}

/// How many bytes those of a kind take that are in force in a namespace, as they rest.
pub(crate) async fn bytes_in_namespace(tx: &Tx, kind: Kind, namespace: &str) -> TxResult<u64, Fault> {
    let sum = listed()
        .select_only()
        // What it is a sum of is of another type on each database.
        .column_as(Expr::cust("CAST(COALESCE(SUM(LENGTH(body)), 0) AS BIGINT)"), "bytes")
        .filter(listed::Column::Kind.eq(kind as i32))
        .filter(listed::Column::Namespace.eq(namespace));
    Ok(sum.into_tuple::<i64>().one(tx).await?.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default())
}

/// Those of a kind that are in force after a place in the order of names, of one namespace or (empty) of all; `limit` at most.
pub(crate) async fn after(
    tx: &Tx,
    kind: Kind,
    namespace: &str,
    [in_space, name, id]: [&str; 3],
    limit: u64,
) -> TxResult<Vec<Model>, Fault> {
    let mut find = listed().filter(listed::Column::Kind.eq(kind as i32));
    if !namespace.is_empty() {
        find = find.filter(listed::Column::Namespace.eq(namespace));
    }
    let columns = [listed::Column::Namespace, listed::Column::Name, listed::Column::ObjectId];
    let columns = Expr::tuple(columns.map(|column| column.into_expr()));
    let place = Expr::tuple([in_space, name, id].map(Expr::val));
    let ordered = find.filter(columns.gt(place)).order_by_asc(listed::Column::Namespace);
    Ok(ordered.order_by_asc(listed::Column::Name).limit(limit).all(tx).await?)
}

/// What rests of the objects with numbers after one, up to another and that one too, in their order: of those in force that
/// were not written after `revision`, for snapshots.
pub(crate) async fn bodies(tx: &Tx, after: i64, up_to: i64, revision: u64) -> TxResult<Vec<Vec<u8>>, Fault> {
    // A row is read and copied for each of its columns, and there are a million.
    let find = numbered(after, up_to).select_only().column(Column::Body);
    let find = find.filter(Column::Revision.lte(signed(revision))).filter(Column::Revoked.into_expr().not());
    Ok(find.into_tuple().all(tx).await?)
}

/// The ids of the others of them: of those that were written after `revision`.
pub(crate) async fn written_after(tx: &Tx, after: i64, up_to: i64, revision: u64) -> TxResult<Vec<String>, Fault> {
    let find = numbered(after, up_to).select_only().column(Column::Id);
    Ok(find.filter(Column::Revision.gt(signed(revision))).into_tuple().all(tx).await?)
}

fn numbered(after: i64, up_to: i64) -> Select<Entity> {
    let find = Entity::find().filter(Column::Number.gt(after)).filter(Column::Number.lte(up_to));
    find.order_by_asc(Column::Number)
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
