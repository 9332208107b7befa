//! The items of rounds, in the order of agents' names.
//!
//! What a column says counts, whatever the body says.

use std::collections::{BTreeMap, BTreeSet};

use legate_db::{Tx, TxResult, rows};
use legate_rpc::Fault;
use legate_wire::registry::{RemediationState, ReviewDecision, ReviewItem, ReviewProgress, ReviewState};
use prost::Message as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{JoinType, QueryOrder as _, QuerySelect as _};

use super::{broken, pieces, review, unsigned};

/// Nobody has looked whether it is as was decided.
const NOT_LOOKED: i32 = 0;
/// It is as was decided.
const VERIFIED: i32 = 1;
/// It is otherwise.
const DIFFERS: i32 = 2;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "review_item")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) review_id: String,
    /// Its number in the round, from 1.
    pub(crate) place: i64,
    pub(crate) namespace: String,
    pub(crate) agent_id: String,
    /// A [`legate_wire::registry::ReviewedThing`].
    pub(crate) reviewed: i32,
    pub(crate) granted_id: String,
    /// A [`ReviewDecision`].
    pub(crate) decision: i32,
    /// A [`RemediationState`].
    pub(crate) remediation: i32,
    pub(crate) verified: i32,
    /// Nobody has decided, and nobody is asked who may.
    pub(crate) unasked: bool,
    /// Counts its own writes.
    pub(crate) version: i64,
    #[sea_orm(column_type = "Blob")]
    pub(crate) body: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter)]
pub(crate) enum Relation {
    /// The round.
    Review,
}

impl RelationTrait for Relation {
    fn def(&self) -> RelationDef {
        Entity::belongs_to(review::Entity).from(Column::ReviewId).to(review::Column::Id).into()
    }
}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// A new item as a row.
    pub(crate) fn of(item: &ReviewItem, place: i64) -> Self {
        Self {
            id: item.id.clone(),
            review_id: item.review_id.clone(),
            place,
            namespace: item.namespace.clone(),
            agent_id: item.agent_id.clone(),
            reviewed: item.reviewed,
            granted_id: item.granted_id.clone(),
            decision: item.decision,
            remediation: 0,
            verified: NOT_LOOKED,
            unasked: is_unasked(item),
            version: 1,
            body: item.encode_to_vec(),
        }
    }

    /// The item.
    pub(crate) fn item(&self) -> TxResult<ReviewItem, Fault> {
        let mut item = ReviewItem::decode(self.body.as_slice()).map_err(broken)?;
        item.decision = self.decision;
        if self.remediation != 0 {
            item.remediation.get_or_insert_default().state = self.remediation;
        }
        item.etag = self.etag();
        Ok(item)
    }

    pub(crate) fn etag(&self) -> String {
        format!("{:x}", self.version)
    }

    /// Takes over what an item says, as its next version.
    pub(crate) fn take(&mut self, item: &ReviewItem) {
        self.version += 1;
        self.decision = item.decision;
        self.remediation = item.remediation.as_ref().map_or(0, |of| of.state);
        self.verified = match &item.verification {
            None => NOT_LOOKED,
            Some(of) if of.verified => VERIFIED,
            Some(_) => DIFFERS,
        };
        self.unasked = is_unasked(item);
        self.body = item.encode_to_vec();
    }
}

fn is_unasked(item: &ReviewItem) -> bool {
    item.reviewers.is_empty() && item.decision() == ReviewDecision::Unspecified
}

pub(crate) async fn insert(tx: &Tx, rows: Vec<Model>) -> TxResult<(), Fault> {
    Ok(rows::insert::<Entity>(tx, rows, None).await?)
}

/// Writes items as they are now.
pub(crate) async fn update(tx: &Tx, rows: Vec<Model>) -> TxResult<(), Fault> {
    for row in rows {
        Entity::update(ActiveModel::from(row).reset_all()).exec(tx).await?;
    }
    Ok(())
}

/// Items of one round, by their ids.
pub(crate) async fn by_ids(tx: &Tx, review_id: &str, ids: Vec<String>) -> TxResult<BTreeMap<String, Model>, Fault> {
    let mut found = BTreeMap::new();
    for some in pieces(ids) {
        let find = Entity::find().filter(Column::ReviewId.eq(review_id)).filter(rows::among(tx, Column::Id, some));
        found.extend(find.all(tx).await?.into_iter().map(|row| (row.id.clone(), row)));
    }
    Ok(found)
}

/// Whether there are items of a round at which policy-decision has not looked.
pub(crate) async fn is_any_unverified(tx: &Tx, review_id: &str) -> TxResult<bool, Fault> {
    let find = Entity::find().select_only().column(Column::Place).filter(Column::ReviewId.eq(review_id));
    let find = find.filter(Column::Verified.eq(NOT_LOOKED)).limit(1);
    Ok(find.into_tuple::<i64>().one(tx).await?.is_some())
}

/// Which items a list shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Which {
    pub(crate) review_id: String,
    /// None: whatever was decided.
    pub(crate) decisions: BTreeSet<i32>,
    /// Empty: everybody's.
    pub(crate) agent_id: String,
}

/// Items after a place, in order, `limit` at most.
pub(crate) async fn page(tx: &Tx, which: &Which, after: i64, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let mut find = Entity::find().filter(Column::ReviewId.eq(&which.review_id)).filter(Column::Place.gt(after));
    if !which.decisions.is_empty() {
        find = find.filter(Column::Decision.is_in(which.decisions.iter().copied()));
    }
    if !which.agent_id.is_empty() {
        find = find.filter(Column::AgentId.eq(&which.agent_id));
    }
    Ok(find.order_by_asc(Column::Place).limit(limit).all(tx).await?)
}

/// Items of a round of which nothing has come yet, after those of a thing and in the order of things, `limit` at most.
pub(crate) async fn to_write(
    tx: &Tx,
    review_id: &str,
    (reviewed, granted_id, place): (i32, &str, i64),
    limit: u64,
) -> TxResult<Vec<Model>, Fault> {
    let order = [Column::Reviewed, Column::GrantedId, Column::Place];
    let columns = Expr::tuple(order.map(|column| column.into_expr()));
    let after = Expr::tuple([Expr::val(reviewed), Expr::val(granted_id), Expr::val(place)]);
    let find = Entity::find()
        .filter(Column::ReviewId.eq(review_id))
        .filter(Column::Remediation.eq(RemediationState::Unspecified as i32))
        .filter(Column::Decision.ne(ReviewDecision::Certify as i32))
        .filter(sea_orm::sea_query::ExprTrait::gt(columns, after));
    let ordered = order.into_iter().fold(find, |find, column| find.order_by_asc(column));
    Ok(ordered.limit(limit).all(tx).await?)
}

/// Certified items of a round that nobody has settled, `limit` at most.
pub(crate) async fn certified(tx: &Tx, review_id: &str, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let find = Entity::find()
        .filter(Column::ReviewId.eq(review_id))
        .filter(Column::Decision.eq(ReviewDecision::Certify as i32))
        .filter(Column::Remediation.eq(RemediationState::Unspecified as i32));
    Ok(find.order_by_asc(Column::Place).limit(limit).all(tx).await?)
}

/// Nothing has to come of these.
pub(crate) async fn settle(tx: &Tx, ids: Vec<String>) -> TxResult<(), Fault> {
    for some in pieces(ids) {
        Entity::update_many()
            .col_expr(Column::Remediation, Expr::val(RemediationState::NotNeeded as i32))
            .filter(rows::among(tx, Column::Id, some))
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// Where the items of some rounds stand; of a round without items nothing.
pub(crate) async fn progress(tx: &Tx, reviews: Vec<String>) -> TxResult<BTreeMap<String, ReviewProgress>, Fault> {
    let mut all: BTreeMap<String, ReviewProgress> = BTreeMap::new();
    for some in pieces(reviews) {
        let count = Entity::find()
            .select_only()
            .columns([Column::ReviewId, Column::Decision, Column::Remediation, Column::Verified, Column::Unasked])
            .column_as(Column::Id.count(), "count")
            .filter(rows::among(tx, Column::ReviewId, some))
            .group_by(Column::ReviewId)
            .group_by(Column::Decision)
            .group_by(Column::Remediation)
            .group_by(Column::Verified)
            .group_by(Column::Unasked);
        for (review, decision, remediation, verified, unasked, count) in
            count.into_tuple::<(String, i32, i32, i32, bool, i64)>().all(tx).await?
        {
            let (progress, count) = (all.entry(review).or_default(), unsigned(count));
            add(progress, (decision, remediation, verified), count);
            progress.unasked += if unasked { count } else { 0 };
        }
    }
    Ok(all)
}

fn add(progress: &mut ReviewProgress, (decision, remediation, verified): (i32, i32, i32), count: u64) {
    progress.items += count;
    match ReviewDecision::try_from(decision).unwrap_or_default() {
        ReviewDecision::Certify => progress.certified += count,
        ReviewDecision::Reduce => progress.reduced += count,
        ReviewDecision::Revoke => progress.revoked += count,
        ReviewDecision::Unspecified | ReviewDecision::Reassign => progress.pending += count,
    }
    match RemediationState::try_from(remediation).unwrap_or_default() {
        RemediationState::Applied => progress.remediated += count,
        RemediationState::Failed => progress.failed += count,
        RemediationState::Outgrown => progress.outgrown += count,
        RemediationState::NotNeeded | RemediationState::Unspecified => {}
    }
    match verified {
        VERIFIED => progress.verified += count,
        DIFFERS => progress.differing += count,
        _ => {}
    }
}

/// Who decided about items of a round, of whose decisions the round keeps no list: one who is not `actor`, where there is one.
pub(crate) async fn is_decided_by_another(tx: &Tx, review_id: &str, actor: &str) -> TxResult<bool, Fault> {
    let mut after = 0;
    loop {
        let which = Which { review_id: review_id.to_owned(), ..Which::default() };
        let rows = page(tx, &which, after, 500).await?;
        let Some(last) = rows.last() else { return Ok(false) };
        after = last.place;
        for row in &rows {
            if row.item()?.decided_by != actor {
                return Ok(true);
            }
        }
    }
}

/// What was decided about things of these agents in rounds that came to their end, as (agent, thing): the latest of each.
pub(crate) async fn earlier(tx: &Tx, agents: Vec<String>) -> TxResult<BTreeMap<(String, String), ReviewItem>, Fault> {
    let mut found: BTreeMap<(String, String), ReviewItem> = BTreeMap::new();
    for some in pieces(agents) {
        let find = Entity::find()
            .join(JoinType::InnerJoin, Relation::Review.def())
            .filter(rows::among(tx, Column::AgentId, some))
            .filter(review::Column::State.eq(ReviewState::Closed as i32))
            .order_by_asc(Column::ReviewId);
        for row in find.all(tx).await? {
            found.insert((row.agent_id.clone(), row.granted_id.clone()), row.item()?);
        }
    }
    Ok(found)
}

/// How many items nobody has decided about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) pending: i64,
    /// How many of them are overdue.
    pub(crate) overdue: i64,
    /// About how many of them nobody is asked who may decide.
    pub(crate) unasked: i64,
}

pub(crate) async fn census(tx: &Tx, now: i64) -> TxResult<Census, Fault> {
    let open = || {
        Entity::find()
            .select_only()
            .column_as(Column::Id.count(), "count")
            .join(JoinType::InnerJoin, Relation::Review.def())
            .filter(review::Column::State.eq(ReviewState::Open as i32))
            .filter(Column::Decision.eq(ReviewDecision::Unspecified as i32))
    };
    let overdue = open().filter(review::Column::DueAt.lte(now));
    let unasked = open().filter(Column::Unasked.eq(true));
    Ok(Census {
        pending: open().into_tuple().one(tx).await?.unwrap_or_default(),
        overdue: overdue.into_tuple().one(tx).await?.unwrap_or_default(),
        unasked: unasked.into_tuple().one(tx).await?.unwrap_or_default(),
    })
}

pub(super) async fn forget_in(tx: &Tx, namespace: &str) -> TxResult<(), Fault> {
    Entity::delete_many().filter(Column::Namespace.eq(namespace)).exec(tx).await?;
    Ok(())
}
