//! Who names whom, so that nothing is taken back while others in force name it.

use std::collections::{BTreeMap, BTreeSet};

use legate_db::{Tx, TxResult, rows};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};

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
    let mut names: BTreeMap<(i32, String), Vec<String>> = BTreeMap::new();
    for key in keys {
        names.entry((key.kind as i32, key.namespace)).or_default().push(key.name);
    }
    let mut found = BTreeSet::new();
    for ((kind, namespace), names) in names {
        for some in pieces(names) {
            let find = Entity::find()
                .filter(Column::ToKind.eq(kind))
                .filter(Column::ToNamespace.eq(&namespace))
                .filter(rows::among(tx, Column::ToName, some));
            found.extend(find.limit(limit).all(tx).await?.into_iter().map(|row| row.object_id));
        }
    }
    Ok(found)
}
