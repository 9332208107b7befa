//! Instances: one row for each running copy of an agent, from its enrolment until long after its end.

use std::collections::BTreeSet;

use legate_authority::Reach;
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::{InstanceId, Name};
use legate_rpc::Fault;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, Query, SelectStatement, SimpleExpr};
use sea_orm::{Condition, QueryOrder as _, QuerySelect as _, Select};

use super::credential;
use crate::domain::certificate::CertificatePlan;
use crate::domain::instance::{Attestation, Proof};
use crate::error::{CREDENTIAL_NOT_GOOD, INSTANCE_NOT_FOUND, INSTANCES_FULL, RENEWED_BY_NODE, flow};

/// By an enrolment token.
pub(crate) const BY_TOKEN: i32 = 1;
/// By a token of an issuer outside.
pub(crate) const BY_ISSUER: i32 = 2;
/// By what a node attested of its process.
pub(crate) const BY_ATTESTATION: i32 = 3;

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
    /// The node that attested it, as `NAMESPACE/NAME`; empty: none did.
    pub(crate) node: String,
    /// The attestation policy by which it did, as `NAMESPACE/NAME`.
    pub(crate) attestation_policy: String,
    /// That node said that its process ended.
    pub(crate) ended_by_node: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// Whether the node that is there since that moment attested it, and not another that had the name before.
    pub(crate) fn is_attested_by(&self, node: &str, since: Timestamp) -> bool {
        // It began in a whole second.
        let began = Timestamp::from_micros(self.started_at).secs();
        self.method == BY_ATTESTATION && self.node == node && began >= since.secs()
    }
}

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
    let (node, attestation_policy) = match proof {
        Proof::Attestation(by) => (by.node.clone(), by.policy.clone()),
        Proof::EnrolmentToken(_) | Proof::IdentityToken(_) => (String::new(), String::new()),
    };
    let row = Model {
        id: id.to_string(),
        namespace: plan.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
        agent_id: agent.to_string(),
        spiffe_id: plan.spiffe_id.to_string(),
        method: match proof {
            Proof::EnrolmentToken(_) => BY_TOKEN,
            Proof::IdentityToken(_) => BY_ISSUER,
            Proof::Attestation(_) => BY_ATTESTATION,
        },
        proof: proof.text(),
        started_at: plan.issued.micros(),
        renewed_at: plan.issued.micros(),
        ends_at: plan.not_after.micros(),
        lifecycle_version,
        revoked_at: None,
        revocation_reason: None,
        node,
        attestation_policy,
        ended_by_node: false,
    };
    Entity::insert(ActiveModel::from(row).reset_all()).exec_without_returning(tx).await?;
    Ok(())
}

/// Lets the instance of a plan live as long as what is planned, where it was not revoked; before anything else of it is locked. By its
/// own certificate, which is not enough where a node has to attest it each time.
pub(crate) async fn renew(tx: &Tx, plan: &CertificatePlan) -> TxResult<(), Fault> {
    let Some(id) = &plan.instance else { return Ok(()) };
    let row = by_id(tx, id.as_str()).await?;
    if row.is_some_and(|row| row.method == BY_ATTESTATION) {
        let why = format!("a node attests the instance {id}, and renews what it holds");
        return Err(flow(Fault::refused(&RENEWED_BY_NODE, why)));
    }
    if prolong(tx, plan, id).await? {
        return Ok(());
    }
    Err(flow(Fault::refused(&CREDENTIAL_NOT_GOOD, format!("the instance {id} was revoked"))))
}

/// The same by the word of the node that attested it, by the same policy; the credential that is renewed, locked.
pub(crate) async fn renew_attested(
    tx: &Tx,
    plan: &CertificatePlan,
    by: &Attestation,
    room: Room,
) -> TxResult<String, Fault> {
    let (Some(id), Some(agent)) = (&plan.instance, &plan.agent) else {
        return Err(flow(Fault::broken("a renewal by a node that names no instance")));
    };
    let is_its = |row: &Model| {
        row.is_attested_by(&by.node, by.node_since)
            && row.attestation_policy == by.policy
            && row.agent_id == agent.as_str()
    };
    let row = by_id(tx, id.as_str()).await?.filter(is_its);
    let row = row.ok_or_else(|| flow(Fault::refused(&INSTANCE_NOT_FOUND, format!("no instance {id} of this node"))))?;
    let over = |why: &str| {
        let text = format!("the instance {id} {why}; ask for a new one, without instance_id");
        flow(Fault::refused(&CREDENTIAL_NOT_GOOD, text))
    };
    let is_of_this_life = u64::try_from(row.lifecycle_version) == Ok(plan.lifecycle_version)
        && legate_view::after_cutoff(Timestamp::from_micros(row.renewed_at), room.cutoff);
    if !is_of_this_life {
        return Err(over("is of an earlier life of its agent"));
    }
    if !prolong(tx, plan, id).await? {
        return Err(over("was revoked"));
    }
    // Locked, so that a renewal never slips past a revocation that is committed first.
    let works = |row: &credential::Model| row.state != credential::REVOKED;
    let newest = credential::of_instance(tx, id.as_str(), room.now).await?.into_iter().rfind(works);
    let newest = match newest {
        Some(row) => credential::lock_by_id(tx, &row.id).await?.filter(works),
        None => None,
    };
    newest.map(|row| row.id).ok_or_else(|| over("has no certificate that works"))
}

/// Lets it live as long as what is planned; `false` when it was revoked.
async fn prolong(tx: &Tx, plan: &CertificatePlan, id: &InstanceId) -> TxResult<bool, Fault> {
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
    Ok(renewed.rows_affected == 1)
}

/// Takes it back; `false` when it was taken back before. Nobody renews it until the transaction ends. `by_node`: the node that attested
/// it says that its process ended.
pub(crate) async fn mark_revoked(
    tx: &Tx,
    id: &str,
    (reason, by_node): (i32, bool),
    at: Timestamp,
) -> TxResult<bool, Fault> {
    let done = Entity::update_many()
        .col_expr(Column::RevokedAt, Expr::value(at.micros()))
        .col_expr(Column::RevocationReason, Expr::value(reason))
        .col_expr(Column::EndedByNode, Expr::value(by_node))
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
    /// That this node attested, `NAMESPACE/NAME`; empty: of all.
    pub(crate) node: String,
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
    if !which.node.is_empty() {
        find = find.filter(Column::Node.eq(&which.node)).filter(of_some_node());
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

/// Of which instances a node is told that they fell.
#[derive(Clone, Debug)]
pub(crate) struct OfNode {
    /// `NAMESPACE/NAME`.
    pub(crate) node: String,
    /// Since when it is there: what one of its name attested before is not its.
    pub(crate) since: Timestamp,
    /// Of these agents, also what it ended itself.
    pub(crate) brokers: Vec<String>,
    pub(crate) now: Timestamp,
}

/// Whether a node attested it; in whole, as the indexes are of these alone.
fn of_some_node() -> SimpleExpr {
    Expr::col((Entity, Column::Node)).ne(Expr::cust("''"))
}

impl OfNode {
    fn all(&self) -> Select<Entity> {
        let its_own_end = Condition::any()
            .add(Column::EndedByNode.eq(false))
            .add(Column::AgentId.is_in(self.brokers.iter().map(String::as_str)));
        Entity::find()
            .filter(Column::Node.eq(&self.node))
            .filter(of_some_node())
            .filter(Column::Method.eq(BY_ATTESTATION))
            // It began in a whole second.
            .filter(Column::StartedAt.gte(self.since.secs().saturating_mul(1_000_000)))
            .filter(Column::EndsAt.gt(self.now.micros()))
            .filter(its_own_end)
    }

    /// The agents of which there are any.
    pub(crate) async fn agents(&self, tx: &Tx) -> TxResult<BTreeSet<String>, Fault> {
        let found: Vec<String> =
            self.all().select_only().column(Column::AgentId).distinct().into_tuple().all(tx).await?;
        Ok(found.into_iter().collect())
    }

    /// Those that may have fallen, newest first, by the life that each agent leads now: revoked, without a credential that works, of
    /// another life, or cut off.
    pub(crate) async fn fallen(&self, tx: &Tx, lives: &[(String, Living)], most: u64) -> TxResult<Vec<Model>, Fault> {
        let mut is_fallen =
            Condition::any().add(Column::RevokedAt.is_not_null()).add(Expr::exists(working(self.now)).not());
        for (agent, life) in lives {
            let is_its = Condition::all().add(Column::AgentId.eq(agent));
            is_fallen = is_fallen.add(match life {
                None => is_its,
                Some((version, cutoff)) => {
                    let mut is_past = Condition::any().add(Column::LifecycleVersion.ne(*version));
                    if let Some(cutoff) = cutoff {
                        is_past = is_past.add(Column::RenewedAt.lte(cutoff.micros()));
                    }
                    is_its.add(is_past)
                }
            });
        }
        let find = self.all().filter(Column::AgentId.is_in(lives.iter().map(|(agent, _)| agent.as_str())));
        Ok(find.filter(is_fallen).order_by_desc(Column::Id).limit(most).all(tx).await?)
    }
}

/// The lifecycle version of an agent, and up to when everything of it is cut off; `None`: it may not work at all.
pub(crate) type Living = Option<(i64, Option<Timestamp>)>;

/// Those among `ids` that have a credential which was not revoked and has not ended.
pub(crate) async fn with_credentials(tx: &Tx, ids: Vec<String>, now: Timestamp) -> TxResult<BTreeSet<String>, Fault> {
    let find = credential::Entity::find()
        .select_only()
        .column(credential::Column::InstanceId)
        .distinct()
        .filter(credential::Column::InstanceId.is_in(ids))
        .filter(credential::of_some_instance())
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
    Condition::all()
        .add(Column::RevokedAt.is_null())
        .add(Column::EndsAt.gt(now.micros()))
        .add(Expr::exists(working(now)))
}

/// The credentials of an instance that are not revoked and have not ended.
fn working(now: Timestamp) -> SelectStatement {
    Query::select()
        .expr(Expr::val(1))
        .from(credential::Entity)
        .and_where(Expr::col((credential::Entity, credential::Column::InstanceId)).equals((Entity, Column::Id)))
        .and_where(credential::of_some_instance())
        .and_where(credential::Column::State.ne(credential::REVOKED))
        .and_where(credential::Column::NotAfter.gt(now.micros()))
        .take()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_db::testing::{Fixture, on_each};
    use sea_orm::{ConnectionTrait as _, QueryTrait as _, Select, Statement};

    use super::*;
    use crate::schema::Migrator;

    /// How the database answers where it may not read a whole table.
    async fn plan<E: EntityTrait>(fixture: &Fixture, find: Select<E>) -> String {
        let is_postgres = fixture.is_postgres();
        let find = find.into_query();
        let read = fixture.db.read("test", move |tx| {
            Box::pin(async move {
                if is_postgres {
                    tx.execute_unprepared("SET LOCAL enable_seqscan = off").await?;
                }
                let built = tx.get_database_backend().build(&find);
                let explain = if is_postgres { "EXPLAIN" } else { "EXPLAIN QUERY PLAN" };
                let ask = Statement { sql: format!("{explain} {}", built.sql), ..built };
                let rows = tx.query_all_raw(ask).await?;
                let line = |row: &sea_orm::QueryResult| row.try_get_by_index::<String>(if is_postgres { 0 } else { 3 });
                Ok(rows.iter().map(line).collect::<Result<Vec<_>, _>>()?.join("\n"))
            })
        });
        read.await.map_err(crate::error::of_tx).unwrap()
    }

    #[tokio::test]
    async fn what_an_instance_or_a_node_has_is_looked_up_and_not_looked_for() {
        on_each::<Migrator>(async |fixture| {
            let now = Timestamp::from_secs(1);
            let living = plan(&fixture, Entity::find().filter(Column::AgentId.eq("agt_1")).filter(live(now))).await;
            assert!(living.contains("credential_by_instance"), "{living}");
            let of_node = OfNode { node: "fleet/vm".into(), since: now, brokers: Vec::new(), now };
            let of_node = plan(&fixture, of_node.all()).await;
            assert!(of_node.contains("instance_of_node") || of_node.contains("instance_by_node"), "{of_node}");
            let its = credential::Entity::find().filter(credential::Column::InstanceId.eq("inst_1"));
            let its = its.filter(credential::of_some_instance()).filter(credential::Column::NotAfter.gt(now.micros()));
            let its = plan(&fixture, its.order_by_asc(credential::Column::Id)).await;
            assert!(its.contains("credential_by_instance"), "{its}");
        })
        .await;
    }
}
