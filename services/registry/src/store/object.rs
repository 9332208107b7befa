//! Objects as they are now: their protobuf bytes, and beside them what is searched by.

use std::collections::{BTreeMap, BTreeSet};

use legate_authority::Reach;
use legate_db::{Tx, TxResult};
use legate_ids::Name;
use legate_rpc::Fault;
use legate_wire::registry::{AgentState, Declaration, Kind};
use prost::Message as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{Condition, QueryOrder as _, QuerySelect as _};

use super::{broken, pieces, signed};
use crate::domain::kind::Key;

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
    let changing = [Column::HoldsName, Column::Revoked, Column::State, Column::EndsAt, Column::Revision, Column::Body];
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

/// Which objects a list shows.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    pub(crate) kind: Kind,
    /// Empty: all.
    pub(crate) namespace: String,
    /// Only of the namespaces that the caller may see.
    pub(crate) sees: Reach,
    /// Agents in one of these states; none: all but the retired.
    pub(crate) states: Vec<AgentState>,
}

/// A place in a list: namespace, name, id.
pub(crate) type Place = (String, String, String);

/// One page in the order of namespace, name and id; one row more than `limit` where there is one.
pub(crate) async fn page(tx: &Tx, which: &Which, after: Option<&Place>, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let mut find = Entity::find().filter(Column::Kind.eq(which.kind as i32)).filter(Column::Revoked.eq(false));
    if !which.namespace.is_empty() {
        find = find.filter(Column::Namespace.eq(&which.namespace));
    }
    if let Reach::In(names) = &which.sees {
        // A namespace is known by its own name; what belongs to none is seen by those who see everything.
        let column = if which.kind == Kind::Namespace { Column::Name } else { Column::Namespace };
        find = find.filter(column.is_in(names.iter().map(Name::as_str)));
    }
    if which.kind == Kind::Agent {
        find = if which.states.is_empty() {
            find.filter(Column::State.ne(AgentState::Retired as i32))
        } else {
            find.filter(Column::State.is_in(which.states.iter().map(|state| *state as i32)))
        };
    }
    if let Some((namespace, name, id)) = after {
        let later_id = Condition::all().add(Column::Name.eq(name)).add(Column::Id.gt(id));
        let later_name = Condition::any().add(Column::Name.gt(name)).add(later_id);
        let same_namespace = Condition::all().add(Column::Namespace.eq(namespace)).add(later_name);
        find = find.filter(Condition::any().add(Column::Namespace.gt(namespace)).add(same_namespace));
    }
    let ordered = find.order_by_asc(Column::Namespace).order_by_asc(Column::Name).order_by_asc(Column::Id);
    Ok(ordered.limit(limit + 1).all(tx).await?)
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

/// Everything there ever was, in the order of ids, for snapshots.
pub(crate) async fn page_by_id(tx: &Tx, after: &str, limit: u64) -> TxResult<Vec<Model>, Fault> {
    Ok(Entity::find().filter(Column::Id.gt(after)).order_by_asc(Column::Id).limit(limit).all(tx).await?)
}

/// Objects whose time is over.
pub(crate) async fn due(tx: &Tx, now: i64, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let find = Entity::find().filter(Column::EndsAt.lte(now)).order_by_asc(Column::EndsAt);
    Ok(find.limit(limit).all(tx).await?)
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

/// The row's revision and those before it: whether a snapshot of `revision` can use the row as it is.
pub(crate) fn is_of(row: &Model, revision: u64) -> bool {
    row.revision <= signed(revision)
}
