//! What operators were given, by what the registry's events said last.

use legate_authority::{Appointment, OperatorRole, Window};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::Name;
use sea_orm::entity::prelude::*;
use sea_orm::{IntoActiveModel as _, QuerySelect as _};

use super::event::AT_ONCE;
use crate::domain::entry::{Binding, Given, Roles};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, DeriveEntityModel)]
#[sea_orm(table_name = "operator_role")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) namespace: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) binding: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) operator: String,
    pub(crate) role: String,
    pub(crate) not_before: Option<i64>,
    pub(crate) not_after: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Roles of one operator that are looked at; more of them give nothing more.
const MOST: u64 = 1_000;

/// The rows of a binding.
pub(crate) fn of(binding: &Binding, given: &Given) -> Vec<Model> {
    let row = |operator: &Name| Model {
        namespace: binding.namespace.clone(),
        binding: binding.name.clone(),
        operator: operator.to_string(),
        role: given.role.word().to_owned(),
        not_before: given.not_before.map(Timestamp::micros),
        not_after: given.not_after.map(Timestamp::micros),
    };
    let mut rows: Vec<Model> = given.operators.iter().map(row).collect();
    rows.sort();
    rows.dedup();
    rows
}

/// Takes in what has changed.
pub(crate) async fn learn<E>(tx: &Tx, roles: &Roles) -> TxResult<(), E> {
    if roles.is_anew {
        Entity::delete_many().exec(tx).await?;
    }
    let mut rows = Vec::new();
    for (binding, given) in &roles.bindings {
        if !roles.is_anew {
            let gone = Entity::delete_many().filter(Column::Namespace.eq(&binding.namespace));
            gone.filter(Column::Binding.eq(&binding.name)).exec(tx).await?;
        }
        rows.extend(given.iter().flat_map(|given| of(binding, given)));
    }
    for rows in rows.chunks(AT_ONCE) {
        let rows = rows.iter().cloned().map(|row| row.into_active_model().reset_all());
        Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// What an operator was given.
pub(crate) async fn appointments<E>(tx: &Tx, operator: &Name) -> TxResult<Vec<Appointment>, E> {
    let rows = Entity::find().filter(Column::Operator.eq(operator.as_str())).limit(MOST).all(tx).await?;
    Ok(rows.iter().filter_map(appointment).collect())
}

fn appointment(row: &Model) -> Option<Appointment> {
    let namespace = match row.namespace.as_str() {
        "" => None,
        name => Some(Name::parse(name).ok()?),
    };
    let role = OperatorRole::ALL.into_iter().find(|role| role.word() == row.role)?;
    Some(Appointment { role, namespace, window: Window::new(row.not_before, row.not_after).ok()? })
}
