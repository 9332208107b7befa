//! What objects in force are found by: a row for each fact, in the order in which lists show them.

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::pieces;
use crate::domain::kind::Key;
use crate::domain::terms::Fact;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "term")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) kind: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) field: i16,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) value: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) namespace: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) object_id: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The row of an object's fact.
    pub(crate) fn of(key: &Key, object_id: &str, fact: Fact) -> Self {
        Self {
            kind: key.kind as i32,
            field: fact.field,
            value: fact.value,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            object_id: object_id.to_owned(),
        }
    }
}

/// Writes facts that were not there.
pub(crate) async fn insert(tx: &impl ConnectionTrait, rows: Vec<Model>) -> Result<(), DbErr> {
    for some in pieces(rows) {
        let rows = some.into_iter().map(|row| ActiveModel::from(row).reset_all());
        Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// The objects of a kind for which a fact holds, after a place in the order of names, `limit` at most.
pub(crate) async fn of(
    tx: &Tx,
    kind: i32,
    fact: &Fact,
    namespace: &str,
    after: [&str; 3],
    limit: u64,
) -> TxResult<Vec<Model>, Fault> {
    let mut find = Entity::find()
        .filter(Column::Kind.eq(kind))
        .filter(Column::Field.eq(fact.field))
        .filter(Column::Value.eq(&fact.value));
    if !namespace.is_empty() {
        find = find.filter(Column::Namespace.eq(namespace));
    }
    let place = [Column::Namespace, Column::Name, Column::ObjectId];
    let columns = Expr::tuple(place.map(|column| column.into_expr()));
    find = find.filter(columns.gt(Expr::tuple(after.map(Expr::val))));
    for column in place {
        find = find.order_by_asc(column);
    }
    Ok(find.limit(limit).all(tx).await?)
}

/// Takes facts away that no longer hold.
pub(crate) async fn remove(tx: &Tx, rows: Vec<Model>) -> TxResult<(), Fault> {
    for row in rows {
        let key = (row.kind, row.field, row.value, row.namespace, row.name, row.object_id);
        Entity::delete_by_id(key).exec(tx).await?;
    }
    Ok(())
}
