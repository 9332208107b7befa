//! What is in force, in the order of lists: the holder of each name, and all its facts in one row of bytes.
//!
//! A list that is searched by what many objects have in common walks here, and looks up those that fit alone.

use std::collections::BTreeSet;

use legate_db::{Tx, TxResult, rows};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

use crate::domain::kind::Key;
use crate::domain::terms::{Fact, packed};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "listed")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) kind: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) namespace: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) name: String,
    pub(crate) object_id: String,
    pub(crate) number: i64,
    /// See [`packed`].
    #[sea_orm(column_type = "Blob")]
    pub(crate) facts: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The row of the object that holds a name.
    pub(crate) fn of(key: &Key, object_id: &str, number: i64, facts: &BTreeSet<Fact>) -> Self {
        Self {
            kind: key.kind as i32,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            object_id: object_id.to_owned(),
            number,
            facts: packed(facts),
        }
    }
}

/// Writes the rows of objects that hold no name yet: that another one holds it breaks the transaction.
pub(crate) async fn insert(tx: &impl ConnectionTrait, rows: Vec<Model>) -> Result<(), DbErr> {
    rows::insert::<Entity>(tx, rows, None).await
}

/// Puts other facts in the place of those that objects had.
pub(crate) async fn change(tx: &Tx, rows: Vec<Model>) -> TxResult<(), Fault> {
    let key =
        OnConflict::columns([Column::Kind, Column::Namespace, Column::Name]).update_column(Column::Facts).to_owned();
    Ok(rows::insert::<Entity>(tx, rows, Some(&key)).await?)
}

/// Gives up the names of objects.
pub(crate) async fn remove(tx: &Tx, rows: Vec<Model>) -> TxResult<(), Fault> {
    Ok(rows::remove::<Entity>(tx, rows).await?)
}
