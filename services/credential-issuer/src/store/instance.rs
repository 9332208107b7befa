//! Instances: one row for each running copy of an agent, from its enrolment until long after its end.

use std::collections::BTreeSet;

use legate_authority::Reach;
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::Name;
use legate_rpc::Fault;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, Query, SelectStatement};
use sea_orm::{Condition, QueryOrder as _, QuerySelect as _};

use super::credential;
use crate::domain::certificate::CertificatePlan;
use crate::domain::instance::Proof;
use crate::error::{CREDENTIAL_NOT_GOOD, INSTANCES_FULL, flow};

/// By an enrolment token.
pub(crate) const BY_TOKEN: i32 = 1;
/// By a token of an issuer outside.
pub(crate) const BY_ISSUER: i32 = 2;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "instance")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) agent_id: String,
    pub(crate) spiffe_id: String,
    /// How it proved itself.
    pub(crate) method: i32,
    /// What with.
    pub(crate) proof: String,
    pub(crate) started_at: i64,
    /// When it was last given a certificate.
    pub(crate) renewed_at: i64,
    /// When its last certificate ends.
    pub(crate) ends_at: i64,
    /// Of its agent, when it was last given a certificate.
    pub(crate) lifecycle_version: i64,
    pub(crate) revoked_at: Option<i64>,
    pub(crate) revocation_reason: Option<i32>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// How many instances each agent ever had; the row is the lock under which its live ones are counted.
mod copies {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "copies")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) agent_id: String,
        pub(crate) started: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// The limit on an agent's live instances, and what makes one count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) most: u32,
    /// What was given at this moment or before is dead.
    pub(crate) cutoff: Option<Timestamp>,
    pub(crate) now: Timestamp,
}

/// Begins the instance of a plan, where its agent has room for one more. A plan that names none begins none.
pub(crate) async fn start(tx: &Tx, plan: &CertificatePlan, proof: &Proof, room: Room) -> TxResult<(), Fault> {
    let (Some(id), Some(agent)) = (&plan.instance, &plan.agent) else { return Ok(()) };
    let row = copies::ActiveModel { agent_id: Set(agent.to_string()), started: Set(1) };
    let one_more = OnConflict::column(copies::Column::AgentId)
        .value(copies::Column::Started, Expr::col((copies::Entity, copies::Column::Started)).add(1))
        .to_owned();
    copies::Entity::insert(row).on_conflict(one_more).exec_without_returning(tx).await?;
    let lifecycle_version = i64::try_from(plan.lifecycle_version).map_err(|e| flow(Fault::broken(e)))?;
    let mut living = Entity::find()
        .filter(Column::AgentId.eq(agent.as_str()))
        .filter(Column::LifecycleVersion.eq(lifecycle_version))
        .filter(live(room.now));
    if let Some(cutoff) = room.cutoff {
        living = living.filter(Column::RenewedAt.gt(cutoff.micros()));
    }
    let living = living.count(tx).await?;
    if living >= u64::from(room.most) {
        let text = format!("{living} instances of the agent {agent} live, and {} may", room.most);
        let full = Fault::refused(&INSTANCES_FULL, text).with("max_instances", room.most.to_string());
        return Err(flow(full));
    }
    let row = Model {
        id: id.to_string(),
        namespace: plan.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
        agent_id: agent.to_string(),
        spiffe_id: plan.spiffe_id.to_string(),
        method: match proof {
            Proof::EnrolmentToken(_) => BY_TOKEN,
            Proof::IdentityToken(_) => BY_ISSUER,
        },
        proof: proof.text().to_owned(),
        started_at: plan.issued.micros(),
        renewed_at: plan.issued.micros(),
        ends_at: plan.not_after.micros(),
        lifecycle_version,
        revoked_at: None,
        revocation_reason: None,
    };
    Entity::insert(ActiveModel::from(row).reset_all()).exec_without_returning(tx).await?;
    Ok(())
}

/// Lets the instance of a plan live as long as what is planned, where it was not revoked; before anything else of it is locked.
pub(crate) async fn renew(tx: &Tx, plan: &CertificatePlan) -> TxResult<(), Fault> {
    let Some(id) = &plan.instance else { return Ok(()) };
    let lifecycle_version = i64::try_from(plan.lifecycle_version).map_err(|e| flow(Fault::broken(e)))?;
    let ends = plan.not_after.micros();
    let latest = Expr::case(Column::EndsAt.gt(ends), Expr::col(Column::EndsAt)).finally(Expr::val(ends));
    let renewed = Entity::update_many()
        .col_expr(Column::RenewedAt, Expr::value(plan.issued.micros()))
        .col_expr(Column::EndsAt, latest.into())
        .col_expr(Column::LifecycleVersion, Expr::value(lifecycle_version))
        .filter(Column::Id.eq(id.as_str()))
        .filter(Column::RevokedAt.is_null())
        .exec(tx)
        .await?;
    if renewed.rows_affected == 1 {
        return Ok(());
    }
    Err(flow(Fault::refused(&CREDENTIAL_NOT_GOOD, format!("the instance {id} was revoked"))))
}

/// Takes it back; `false` when it was taken back before. Nobody renews it until the transaction ends.
pub(crate) async fn mark_revoked(tx: &Tx, id: &str, reason: i32, at: Timestamp) -> TxResult<bool, Fault> {
    let done = Entity::update_many()
        .col_expr(Column::RevokedAt, Expr::value(at.micros()))
        .col_expr(Column::RevocationReason, Expr::value(reason))
        .filter(Column::Id.eq(id))
        .filter(Column::RevokedAt.is_null())
        .exec(tx)
        .await?;
    Ok(done.rows_affected == 1)
}

/// An instance, by id.
pub(crate) async fn by_id(tx: &Tx, id: &str) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find_by_id(id).one(tx).await?)
}

/// Which instances a list shows.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    /// Of this agent; empty: of all.
    pub(crate) agent_id: String,
    /// Of this namespace; empty: of all.
    pub(crate) namespace: String,
    /// Only of the namespaces that the caller may see.
    pub(crate) sees: Reach,
    /// Only those that were not revoked as a whole, and whose last certificate has not ended at this moment.
    pub(crate) not_ended_at: Option<Timestamp>,
}

/// Some of them, newest first.
pub(crate) async fn page(tx: &Tx, which: &Which, before: Option<&str>, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let mut find = Entity::find();
    if !which.agent_id.is_empty() {
        find = find.filter(Column::AgentId.eq(&which.agent_id));
    }
    if !which.namespace.is_empty() {
        find = find.filter(Column::Namespace.eq(&which.namespace));
    }
    if let Reach::In(names) = &which.sees {
        find = find.filter(Column::Namespace.is_in(names.iter().map(Name::as_str)));
    }
    if let Some(now) = which.not_ended_at {
        find = find.filter(Column::RevokedAt.is_null()).filter(Column::EndsAt.gt(now.micros()));
    }
    if let Some(before) = before {
        find = find.filter(Column::Id.lt(before));
    }
    Ok(find.order_by_desc(Column::Id).limit(limit).all(tx).await?)
}

/// Those among `ids` that have a credential which was not revoked and has not ended.
pub(crate) async fn with_credentials(tx: &Tx, ids: Vec<String>, now: Timestamp) -> TxResult<BTreeSet<String>, Fault> {
    let find = credential::Entity::find()
        .select_only()
        .column(credential::Column::InstanceId)
        .distinct()
        .filter(credential::Column::InstanceId.is_in(ids))
        .filter(credential::Column::State.ne(credential::REVOKED))
        .filter(credential::Column::NotAfter.gt(now.micros()));
    let found: Vec<String> = find.into_tuple().all(tx).await?;
    Ok(found.into_iter().collect())
}

/// How many there are that hold something: of all agents, whatever became of these.
pub(crate) async fn living(tx: &Tx, now: Timestamp) -> TxResult<u64, Fault> {
    Ok(Entity::find().filter(live(now)).count(tx).await?)
}

/// Not revoked, and with a credential that is not revoked and has not ended.
fn live(now: Timestamp) -> Condition {
    let credentials: SelectStatement = Query::select()
        .expr(Expr::val(1))
        .from(credential::Entity)
        .and_where(Expr::col((credential::Entity, credential::Column::InstanceId)).equals((Entity, Column::Id)))
        .and_where(credential::Column::State.ne(credential::REVOKED))
        .and_where(credential::Column::NotAfter.gt(now.micros()))
        .take();
    Condition::all()
        .add(Column::RevokedAt.is_null())
        .add(Column::EndsAt.gt(now.micros()))
        .add(Expr::exists(credentials))
}
