//! Rounds of review campaigns, the latest first: their ids begin with the time.

use legate_authority::Reach;
use legate_db::{Tx, TxResult};
use legate_ids::Name;
use legate_rpc::Fault;
use legate_wire::registry::{Review, ReviewState};
use prost::Message as _;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::{broken, review_item};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "review")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) campaign_id: String,
    pub(crate) campaign: String,
    pub(crate) namespace: String,
    /// Which round of the campaign, from 1.
    pub(crate) number: i64,
    /// A [`ReviewState`].
    pub(crate) state: i32,
    /// When it was due to start by the clock; none: somebody started it.
    pub(crate) slot_at: Option<i64>,
    pub(crate) due_at: i64,
    pub(crate) closes_at: i64,
    /// Of agents up to this name items are made.
    pub(crate) at_name: String,
    /// How many items are made.
    pub(crate) made: i64,
    /// It is CLOSED, and there are items at which policy-decision has not looked.
    pub(crate) unverified: bool,
    /// Counts its own writes.
    pub(crate) version: i64,
    /// What does not stand in the columns.
    #[sea_orm(column_type = "Blob")]
    pub(crate) body: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    pub(crate) fn state(&self) -> ReviewState {
        ReviewState::try_from(self.state).unwrap_or_default()
    }

    /// The round, without where its items stand.
    pub(crate) fn review(&self) -> TxResult<Review, Fault> {
        let review = Review::decode(self.body.as_slice()).map_err(broken)?;
        Ok(Review { state: self.state, etag: self.etag(), ..review })
    }

    pub(crate) fn etag(&self) -> String {
        format!("{:x}", self.version)
    }
}

pub(crate) async fn insert(tx: &Tx, row: Model) -> TxResult<(), Fault> {
    Entity::insert(ActiveModel::from(row).reset_all()).exec_without_returning(tx).await?;
    Ok(())
}

/// Writes a round as it is now, as its next version.
pub(crate) async fn update(tx: &Tx, row: &mut Model, body: &Review) -> TxResult<(), Fault> {
    row.version += 1;
    row.body = body.encode_to_vec();
    Entity::update(ActiveModel::from(row.clone()).reset_all()).exec(tx).await?;
    Ok(())
}

pub(crate) async fn by_id(tx: &Tx, id: &str) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find_by_id(id).one(tx).await?)
}

/// Those that are not CLOSED, after one and in the order of their ids, `limit` at most.
pub(crate) async fn under_way(tx: &Tx, after: &str, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let find = Entity::find().filter(Column::State.lt(ReviewState::Closed as i32)).filter(Column::Id.gt(after));
    Ok(find.order_by_asc(Column::Id).limit(limit).all(tx).await?)
}

/// The latest round of a campaign.
pub(crate) async fn latest(tx: &Tx, campaign_id: &str) -> TxResult<Option<Model>, Fault> {
    let find = Entity::find().filter(Column::CampaignId.eq(campaign_id));
    Ok(find.order_by_desc(Column::Number).limit(1).one(tx).await?)
}

/// The last moment by the clock for which a campaign had a round.
pub(crate) async fn last_slot(tx: &Tx, campaign_id: &str) -> TxResult<Option<i64>, Fault> {
    let find = Entity::find().select_only().column_as(Column::SlotAt.max(), "slot");
    let find = find.filter(Column::CampaignId.eq(campaign_id)).filter(Column::SlotAt.is_not_null());
    Ok(find.into_tuple::<Option<i64>>().one(tx).await?.flatten())
}

/// At how many rounds policy-decision has yet to look.
pub(crate) async fn unverified(tx: &Tx) -> TxResult<i64, Fault> {
    let count = Entity::find().select_only().column_as(Column::Id.count(), "count").filter(Column::Unverified.eq(true));
    Ok(count.into_tuple().one(tx).await?.unwrap_or_default())
}

/// Which rounds a list shows.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    /// Empty: all.
    pub(crate) namespace: String,
    /// Empty: of all.
    pub(crate) campaign: String,
    /// Only those that are not CLOSED.
    pub(crate) open_only: bool,
    /// Only those at which policy-decision has yet to look.
    pub(crate) unverified_only: bool,
    /// Only of the namespaces that the caller may see.
    pub(crate) sees: Reach,
}

/// Rounds before one, the latest first, `limit` at most.
pub(crate) async fn page(tx: &Tx, which: &Which, before: Option<&str>, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let mut find = Entity::find();
    if !which.namespace.is_empty() {
        find = find.filter(Column::Namespace.eq(&which.namespace));
    }
    if !which.campaign.is_empty() {
        find = find.filter(Column::Campaign.eq(&which.campaign));
    }
    if which.open_only {
        find = find.filter(Column::State.lt(ReviewState::Closed as i32));
    }
    if which.unverified_only {
        find = find.filter(Column::Unverified.eq(true));
    }
    if let Reach::In(names) = &which.sees {
        find = find.filter(Column::Namespace.is_in(names.iter().map(Name::as_str)));
    }
    if let Some(before) = before {
        find = find.filter(Column::Id.lt(before));
    }
    Ok(find.order_by_desc(Column::Id).limit(limit).all(tx).await?)
}

/// Forgets the rounds of a namespace that is taken back: its name can be another one's later. What was decided stays in the audit
/// log.
pub(crate) async fn forget_in(tx: &Tx, namespace: &str) -> TxResult<(), Fault> {
    review_item::forget_in(tx, namespace).await?;
    Entity::delete_many().filter(Column::Namespace.eq(namespace)).exec(tx).await?;
    Ok(())
}
