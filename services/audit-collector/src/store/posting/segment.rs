//! Which segments there are: of each field, those that follow one another in the log.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, DeriveEntityModel)]
#[sea_orm(table_name = "posting_segment")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) field: i16,
    /// The first leaf.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) segment: i64,
    /// The leaf behind the last.
    pub(crate) until: i64,
    /// Leaves of the steps that it is of; between these there may be others.
    pub(crate) width: i64,
    /// How often it was put together of others.
    pub(crate) level: i16,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}
