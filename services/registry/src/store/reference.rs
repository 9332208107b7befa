//! Who names whom, so that nothing is taken back while others in force name it.

use std::collections::{BTreeMap, BTreeSet};

use legate_db::{Tx, TxResult, rows};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, QueryOrder as _, QuerySelect as _};

use super::pieces;
use crate::domain::kind::Key;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "reference")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) object_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) to_kind: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) to_namespace: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) to_name: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// What an object names, by its id.
pub(crate) type Names = (String, Vec<Key>);

/// Puts what objects name in the place of what they named. `new` are objects that named nothing before.
pub(crate) async fn replace(tx: &Tx, new: Vec<Names>, changed: Vec<Names>) -> TxResult<(), Fault> {
    for some in pieces(changed.iter().map(|(id, _)| id.clone()).collect()) {
        Entity::delete_many().filter(rows::among(tx, Column::ObjectId, some)).exec(tx).await?;
    }
    let all = new.into_iter().chain(changed).flat_map(|(object_id, mut names)| {
        names.sort();
        names.dedup();
        names.into_iter().map(move |key| Model {
            object_id: object_id.clone(),
            to_kind: key.kind as i32,
            to_namespace: key.namespace,
            to_name: key.name,
        })
    });
    Ok(rows::insert::<Entity>(tx, all.collect(), None).await?)
}

/// The ids of objects that name `key`, `limit` at most.
pub(crate) async fn from(tx: &Tx, key: &Key, limit: u64) -> TxResult<Vec<String>, Fault> {
    let rows = Entity::find()
        .filter(Column::ToKind.eq(key.kind as i32))
        .filter(Column::ToNamespace.eq(&key.namespace))
        .filter(Column::ToName.eq(&key.name))
        .order_by_asc(Column::ObjectId)
        .limit(limit)
        .all(tx)
        .await?;
    Ok(rows.into_iter().map(|row| row.object_id).collect())
}

/// The ids of objects that name any of these, `limit` at most for each piece of them.
pub(crate) async fn of_all(tx: &Tx, keys: BTreeSet<Key>, limit: u64) -> TxResult<BTreeSet<String>, Fault> {
    let mut found = BTreeSet::new();
    for some in naming(tx, keys) {
        let rows = Entity::find().filter(some).limit(limit).all(tx).await?;
        found.extend(rows.into_iter().map(|row| row.object_id));
    }
    Ok(found)
}

/// The same, each with the name, and those with the greatest ids first: ids of agents are in the order of time.
pub(crate) async fn newest(tx: &Tx, keys: BTreeSet<Key>, limit: u64) -> TxResult<Vec<(String, String)>, Fault> {
    let mut found = Vec::new();
    for some in naming(tx, keys) {
        let rows = Entity::find().filter(some).order_by_desc(Column::ObjectId).limit(limit).all(tx).await?;
        found.extend(rows.into_iter().map(|row| (row.object_id, row.to_name)));
    }
    Ok(found)
}

/// Which of these names anything names.
pub(crate) async fn named(tx: &Tx, keys: BTreeSet<Key>) -> TxResult<BTreeSet<String>, Fault> {
    let mut found = BTreeSet::new();
    for some in naming(tx, keys) {
        let find = Entity::find().select_only().column(Column::ToName).filter(some).distinct();
        found.extend(find.into_tuple::<String>().all(tx).await?);
    }
    Ok(found)
}

/// What names any of these, in pieces.
fn naming(tx: &Tx, keys: BTreeSet<Key>) -> Vec<Condition> {
    let mut names: BTreeMap<(i32, String), Vec<String>> = BTreeMap::new();
    for key in keys {
        names.entry((key.kind as i32, key.namespace)).or_default().push(key.name);
    }
    let each = names.into_iter().flat_map(|((kind, namespace), names)| {
        pieces(names).map(move |some| (kind, namespace.clone(), some)).collect::<Vec<_>>()
    });
    each.map(|(kind, namespace, some)| {
        Condition::all().add(Column::ToKind.eq(kind)).add(Column::ToNamespace.eq(namespace)).add(rows::among(
            tx,
            Column::ToName,
            some,
        ))
    })
    .collect()
}
