//! What events are found by that they have several of.

use std::collections::BTreeSet;

use legate_db::{Tx, TxResult};
use legate_wire::audit::AuditEvent;
use sea_orm::entity::prelude::*;

use super::event::{key, signed};
use crate::domain::entry::links;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, DeriveEntityModel)]
#[sea_orm(table_name = "event_link")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) leaf: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) link: i16,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) value: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The rows of the event at `leaf`.
pub(crate) fn of(leaf: u64, event: &AuditEvent) -> Vec<Model> {
    let row = |(link, value): (crate::domain::entry::Link, String)| Model {
        link: link.number(),
        value: key(&value),
        leaf: signed(leaf),
    };
    let mut rows: Vec<Model> = links(event).into_iter().map(row).collect();
    rows.sort();
    rows.dedup();
    rows
}

/// The rows of the persons that the event at `leaf` names.
pub(crate) fn persons(leaf: u64, persons: &BTreeSet<String>) -> Vec<Model> {
    let link = crate::domain::entry::Link::Person.number();
    persons.iter().map(|value| Model { link, value: value.clone(), leaf: signed(leaf) }).collect()
}

pub(crate) async fn insert<E>(tx: &Tx, rows: &[Model]) -> TxResult<(), E> {
    Ok(legate_db::rows::insert::<Entity>(tx, rows.to_vec(), None).await?)
}
