//! Credentials: one row for each certificate, client secret and client key, until long after it ended.

use std::borrow::Borrow;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use legate_authority::Reach;
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::Name;
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, SimpleExpr};
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::recorded::Draft;
use crate::domain::token::hex;
use crate::error::{CREDENTIAL_NOT_GOOD, flow};

/// Recorded, and perhaps signed and never delivered.
pub(crate) const RECORDED: i32 = 1;
/// Signed; the certificate is kept.
pub(crate) const ISSUED: i32 = 2;
/// Taken back.
pub(crate) const REVOKED: i32 = 3;

/// A certificate.
pub(crate) const CERTIFICATE: i32 = 1;
/// A client secret.
pub(crate) const SECRET: i32 = 2;
/// A client key.
pub(crate) const KEY: i32 = 3;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "credential")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) spiffe_id: String,
    /// Empty for an operator.
    pub(crate) namespace: String,
    /// Empty for an enforcement point, a node and an operator.
    pub(crate) agent_id: String,
    /// The certificate's; of others their id, which is unique as well.
    pub(crate) serial: String,
    /// SHA-256 of the public key; of a secret its HMAC.
    #[sea_orm(column_type = "Blob")]
    pub(crate) key_sha256: Vec<u8>,
    #[sea_orm(column_type = "Blob")]
    pub(crate) to_be_signed: Vec<u8>,
    #[sea_orm(column_type = "Blob")]
    pub(crate) to_be_signed_sha256: Vec<u8>,
    #[sea_orm(column_type = "Blob", nullable)]
    pub(crate) certificate: Option<Vec<u8>>,
    #[sea_orm(column_type = "Blob", nullable)]
    pub(crate) x5t_s256: Option<Vec<u8>>,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) lifecycle_version: i64,
    pub(crate) origin: String,
    pub(crate) state: i32,
    pub(crate) issued_at: i64,
    pub(crate) revoked_at: Option<i64>,
    pub(crate) revocation_reason: Option<i32>,
    /// Empty for an enforcement point and a node.
    pub(crate) instance_id: String,
    pub(crate) kind: i32,
    /// Of a client key.
    #[sea_orm(column_type = "Blob", nullable)]
    pub(crate) public_key: Option<Vec<u8>>,
    /// Of a secret: the version of the pepper.
    pub(crate) pepper: Option<i32>,
    /// When a token was last obtained by it, as far as that is noted.
    pub(crate) last_used_at: Option<i64>,
    /// When it was last shown after it had ended or been taken back.
    pub(crate) misused_at: Option<i64>,
    /// Its place in the status lists, counted through all of them, where a token that says so was obtained by it.
    pub(crate) status_index: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

pub(super) async fn insert(tx: &Tx, draft: &Draft) -> TxResult<Model, Fault> {
    let plan = &draft.plan;
    let row = Model {
        id: plan.credential.to_string(),
        spiffe_id: plan.spiffe_id.to_string(),
        namespace: plan.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
        agent_id: plan.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        serial: hex(&plan.serial),
        key_sha256: sha256(plan.key.as_sec1()).to_vec(),
        to_be_signed: draft.to_be_signed.clone(),
        to_be_signed_sha256: sha256(&draft.to_be_signed).to_vec(),
        certificate: None,
        x5t_s256: None,
        not_before: plan.not_before.micros(),
        not_after: plan.not_after.micros(),
        lifecycle_version: i64::try_from(plan.lifecycle_version).map_err(|e| flow(Fault::broken(e)))?,
        origin: draft.origin.clone(),
        state: RECORDED,
        issued_at: plan.issued.micros(),
        revoked_at: None,
        revocation_reason: None,
        instance_id: plan.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        kind: CERTIFICATE,
        public_key: None,
        pepper: None,
        last_used_at: None,
        misused_at: None,
        status_index: None,
    };
    put(tx, &row).await?;
    Ok(row)
}

/// Writes a new row.
pub(crate) async fn put(tx: &Tx, row: &Model) -> TxResult<(), Fault> {
    Entity::insert(ActiveModel::from(row.clone()).reset_all()).exec_without_returning(tx).await?;
    Ok(())
}

/// The credentials of some certificates, by SHA-256 of their DER.
pub(crate) async fn by_certificates(
    db: &impl ConnectionTrait,
    x5ts: impl IntoIterator<Item = [u8; 32]> + Send,
) -> TxResult<Vec<Model>, Fault> {
    let x5ts: Vec<Vec<u8>> = x5ts.into_iter().map(Vec::from).collect();
    if x5ts.is_empty() {
        return Ok(Vec::new());
    }
    Ok(Entity::find().filter(Column::X5tS256.is_in(x5ts)).all(db).await?)
}

/// The credential of a certificate, locked until the transaction ends: a revocation waits, or was first.
pub(crate) async fn lock_by_certificate(tx: &Tx, x5t_s256: &[u8; 32]) -> TxResult<Option<Model>, Fault> {
    let find = Entity::find().filter(Column::X5tS256.eq(x5t_s256.to_vec()));
    Ok(find.lock_exclusive().one(tx).await?)
}

/// Refuses a call by a certificate that was taken back here, also where the news has not come back from the registry yet. Nobody takes it
/// back until the transaction ends; others may show it beside.
pub(crate) async fn demand_good(tx: &Tx, x5t_s256: &[u8; 32], spiffe_id: &str) -> TxResult<(), Fault> {
    let find = Entity::find().filter(Column::X5tS256.eq(x5t_s256.to_vec()));
    let row = find.lock_shared().one(tx).await?;
    // What is asked for by this is asked for by those alone that have no lifecycle.
    good(row, spiffe_id, 0).map(drop).map_err(flow)
}

/// A credential, by id.
pub(crate) async fn by_id(tx: &Tx, id: &str) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find_by_id(id).one(tx).await?)
}

/// Some credentials, by id.
pub(crate) async fn by_ids(tx: &Tx, ids: impl IntoIterator<Item = String> + Send) -> TxResult<Vec<Model>, Fault> {
    let ids: Vec<String> = ids.into_iter().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(Entity::find().filter(Column::Id.is_in(ids)).all(tx).await?)
}

/// The same, locked until the transaction ends.
pub(crate) async fn lock_by_id(tx: &Tx, id: &str) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find_by_id(id).lock_exclusive().one(tx).await?)
}

/// Those of one key that were not taken back and have not ended, locked until the transaction ends.
pub(crate) async fn lock_by_key(tx: &Tx, key_sha256: &[u8], now: Timestamp) -> TxResult<Vec<Model>, Fault> {
    let find = Entity::find()
        .filter(Column::KeySha256.eq(key_sha256.to_vec()))
        .filter(Column::State.ne(REVOKED))
        .filter(Column::NotAfter.gt(now.micros()));
    Ok(find.order_by_asc(Column::Id).lock_exclusive().all(tx).await?)
}

/// Those of one key, newest first, whatever became of them.
pub(crate) async fn by_key(tx: &Tx, key_sha256: &[u8; 32], limit: u64) -> TxResult<Vec<Model>, Fault> {
    let find = Entity::find().filter(Column::KeySha256.eq(key_sha256.to_vec()));
    Ok(find.order_by_desc(Column::Id).limit(limit).all(tx).await?)
}

/// Those of one instance that have not ended, taken back or not.
pub(crate) async fn of_instance(tx: &Tx, instance_id: &str, now: Timestamp) -> TxResult<Vec<Model>, Fault> {
    let find = Entity::find().filter(Column::InstanceId.eq(instance_id)).filter(of_some_instance());
    let find = find.filter(Column::NotAfter.gt(now.micros()));
    Ok(find.order_by_asc(Column::Id).all(tx).await?)
}

/// Whether it is of an instance. Said in whole beside which, since the index is of these alone, and neither database takes a value
/// that it is given later to be none.
pub(crate) fn of_some_instance() -> SimpleExpr {
    Expr::col((Entity, Column::InstanceId)).ne(Expr::cust("''"))
}

/// The credential, where it is good for its holder in this life.
pub(crate) fn good<R: Borrow<Model>>(row: Option<R>, spiffe_id: &str, lifecycle_version: u64) -> Result<R, Fault> {
    let refused = |why: &str| Err(Fault::refused(&CREDENTIAL_NOT_GOOD, why));
    let Some(found) = row else { return refused("this certificate is not recorded here") };
    match found.borrow() {
        row if row.state == REVOKED => refused("this certificate was revoked"),
        row if row.spiffe_id != spiffe_id => refused("this certificate is somebody else's"),
        row if u64::try_from(row.lifecycle_version) != Ok(lifecycle_version) => {
            refused("this certificate is of an earlier life of its agent")
        }
        _ => Ok(found),
    }
}

/// Keeps the certificate; `false` when it was revoked, or signed by somebody else, meanwhile.
pub(crate) async fn mark_signed(tx: &Tx, id: &str, certificate: &[u8]) -> TxResult<bool, Fault> {
    let done = Entity::update_many()
        .col_expr(Column::State, Expr::value(ISSUED))
        .col_expr(Column::Certificate, Expr::value(certificate.to_vec()))
        .col_expr(Column::X5tS256, Expr::value(sha256(certificate).to_vec()))
        .filter(Column::Id.eq(id))
        .filter(Column::State.eq(RECORDED))
        .exec(tx)
        .await?;
    Ok(done.rows_affected == 1)
}

/// Takes it back; `false` when it was taken back before.
pub(crate) async fn mark_revoked(tx: &Tx, id: &str, reason: i32, at: Timestamp) -> TxResult<bool, Fault> {
    let done = Entity::update_many()
        .col_expr(Column::State, Expr::value(REVOKED))
        .col_expr(Column::RevokedAt, Expr::value(at.micros()))
        .col_expr(Column::RevocationReason, Expr::value(reason))
        .filter(Column::Id.eq(id))
        .filter(Column::State.ne(REVOKED))
        .exec(tx)
        .await?;
    Ok(done.rows_affected == 1)
}

/// A use is noted no more often than this: the row of a credential is written at most four times an hour.
const NOTED_EVERY: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// Notes that a token was obtained by the credential, where that was not noted lately.
pub(crate) async fn note_use(tx: &Tx, row: &Model, now: Timestamp) -> TxResult<(), Fault> {
    if row.last_used_at.is_some_and(|at| now.since(Timestamp::from_micros(at)) < NOTED_EVERY) {
        return Ok(());
    }
    Entity::update_many()
        .col_expr(Column::LastUsedAt, Expr::value(now.micros()))
        .filter(Column::Id.eq(&row.id))
        .exec(tx)
        .await?;
    Ok(())
}

/// A misuse is noted again after so long at the earliest.
const NOTED_FOR: Duration = Duration::from_secs(60);

/// Notes that the credential was shown after it had ended or been taken back; whether that was not noted within the last minute.
pub(crate) async fn note_misuse(tx: &Tx, id: &str, now: Timestamp) -> TxResult<bool, Fault> {
    let is_new = Column::MisusedAt.is_null().or(Column::MisusedAt.lte(now.minus(NOTED_FOR).micros()));
    let noted = Entity::update_many()
        .col_expr(Column::MisusedAt, Expr::value(now.micros()))
        .filter(Column::Id.eq(id))
        .filter(is_new)
        .exec(tx)
        .await?;
    Ok(noted.rows_affected == 1)
}

/// Which credentials are looked at.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// `None`: of all that have one.
    pub(crate) namespace: Option<String>,
    /// Only of the namespaces that the caller may see.
    pub(crate) sees: Reach,
    /// That ended at this moment or later, or were misused since.
    pub(crate) since: Timestamp,
}

/// Some of them after a place, those first that end first. Of what ended before, only what was shown since.
pub(crate) async fn by_end(
    tx: &Tx,
    which: &Seen,
    after: Option<(i64, String)>,
    limit: u64,
) -> TxResult<Vec<Model>, Fault> {
    let since = which.since.micros();
    let some = async |those: SimpleExpr, limit: u64| -> TxResult<Vec<Model>, Fault> {
        let mut find = Entity::find().filter(those).filter(Column::State.ne(RECORDED));
        find = match &which.namespace {
            Some(name) => find.filter(Column::Namespace.eq(name)),
            // Operators' certificates are made anew at each login.
            None => find.filter(Column::Namespace.ne("")),
        };
        if let Reach::In(names) = &which.sees {
            find = find.filter(Column::Namespace.is_in(names.iter().map(Name::as_str)));
        }
        if let Some((ends, id)) = after.clone() {
            let columns = Expr::tuple([Expr::col(Column::NotAfter), Expr::col(Column::Id)]);
            find = find.filter(columns.gt(Expr::tuple([Expr::val(ends), Expr::val(id)])));
        }
        Ok(find.order_by_asc(Column::NotAfter).order_by_asc(Column::Id).limit(limit).all(tx).await?)
    };
    // Two questions, each by an index of its own: the dead of long ago are many, and few of them are shown.
    let mut rows = some(Column::NotAfter.lt(since).and(Column::MisusedAt.gte(since)), limit).await?;
    let left = limit.saturating_sub(rows.len() as u64);
    if left > 0 {
        rows.extend(some(Column::NotAfter.gte(since), left).await?);
    }
    Ok(rows)
}

/// A holder and a type, and when the newest that works was issued.
type Newest = ((String, i32), i64);

/// When the newest of each type was issued that works at a moment, for these holders.
pub(crate) async fn newest(tx: &Tx, holders: Vec<String>, now: Timestamp) -> TxResult<Vec<Newest>, Fault> {
    let find = Entity::find()
        .select_only()
        .column(Column::SpiffeId)
        .column(Column::Kind)
        .column_as(Column::IssuedAt.max(), "issued_at")
        .filter(Column::SpiffeId.is_in(holders))
        .filter(Column::State.eq(ISSUED))
        .filter(Column::NotAfter.gt(now.micros()))
        .group_by(Column::SpiffeId)
        .group_by(Column::Kind);
    let found: Vec<(String, i32, i64)> = find.into_tuple().all(tx).await?;
    Ok(found.into_iter().map(|(holder, kind, issued)| ((holder, kind), issued)).collect())
}

/// How many of each kind these agents hold that were not taken back and have not ended.
pub(crate) async fn count(tx: &Tx, agents: Vec<String>, now: Timestamp) -> TxResult<Vec<(i32, i64, i64)>, Fault> {
    let find = Entity::find()
        .select_only()
        .column(Column::Kind)
        .column_as(Column::Id.count(), "count")
        .column_as(Column::NotAfter.max(), "latest")
        .filter(Column::AgentId.is_in(agents))
        .filter(Column::State.ne(REVOKED))
        .filter(Column::NotAfter.gt(now.micros()))
        .group_by(Column::Kind)
        .order_by_asc(Column::Kind);
    Ok(find.into_tuple().all(tx).await?)
}

/// Which credentials a list shows.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    /// Of this agent; empty: of all.
    pub(crate) agent_id: String,
    /// Of this namespace; empty: of all.
    pub(crate) namespace: String,
    /// Of this instance; empty: of all.
    pub(crate) instance_id: String,
    /// Only of the namespaces that the caller may see.
    pub(crate) sees: Reach,
}

/// One page, newest first; one row more than `limit` where there is one.
pub(crate) async fn page(tx: &Tx, which: &Which, before: Option<&str>, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let mut find = Entity::find();
    if !which.agent_id.is_empty() {
        find = find.filter(Column::AgentId.eq(&which.agent_id));
    }
    if !which.namespace.is_empty() {
        find = find.filter(Column::Namespace.eq(&which.namespace));
    }
    if !which.instance_id.is_empty() {
        find = find.filter(Column::InstanceId.eq(&which.instance_id)).filter(of_some_instance());
    }
    if let Reach::In(names) = &which.sees {
        find = find.filter(Column::Namespace.is_in(names.iter().map(Name::as_str)));
    }
    if let Some(before) = before {
        find = find.filter(Column::Id.lt(before));
    }
    Ok(find.order_by_desc(Column::Id).limit(limit + 1).all(tx).await?)
}
