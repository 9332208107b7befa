//! Tokens of issuers outside that were used: each makes one credential, once, and each issuer has its share of them.

use std::collections::BTreeMap;

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};

use crate::error::{IDENTITY_TOKENS_FULL, flow};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "used_identity_token")]
pub(crate) struct Model {
    /// What the token is known by: see `ForeignVerified::once`.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub(crate) once: Vec<u8>,
    pub(crate) used_at: i64,
    /// When the token itself ends, and the row is of no more use.
    pub(crate) expires_at: i64,
    /// SHA-256 of the request that it was used with; empty where there was none.
    #[sea_orm(column_type = "Blob")]
    pub(crate) request_sha256: Vec<u8>,
    /// The credential that came of it; empty for a token, which has no row.
    pub(crate) credential_id: String,
    /// Whose share it takes: `NAMESPACE/NAME` of a trusted issuer, `NAME` of an identity provider of operators.
    pub(crate) trusted: String,
    /// The part of that share.
    pub(crate) bucket: i16,
}

/// A share is counted in so many parts, so that not all who use tokens of one issuer wait for the same row.
const BUCKETS: u8 = 16;

/// The part of its issuer's share that a token takes.
pub(crate) fn bucket(once: &[u8; 32]) -> i16 {
    i16::from(once[0] % BUCKETS)
}

/// How many used tokens of an issuer are kept, by parts; the row is the lock under which they are counted.
mod share {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "used_identity_share")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) trusted: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) bucket: i16,
        pub(crate) used: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Uses a token: of all who try, one gets `true`, since the key of the row is its lock. Where `most` of its issuer are kept
/// already, it is refused and not used, also where the transaction goes on: others may be in it.
pub(crate) async fn spend(tx: &Tx, row: Model, most: u32) -> TxResult<bool, Fault> {
    let (trusted, bucket) = (row.trusted.clone(), row.bucket);
    let once = row.once.clone();
    let inserted = Entity::insert(ActiveModel::from(row).reset_all())
        .on_conflict(OnConflict::column(Column::Once).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    if inserted != 1 {
        return Ok(false);
    }
    let one = share::ActiveModel { trusted: Set(trusted.clone()), bucket: Set(bucket), used: Set(1) };
    let one_more = OnConflict::columns([share::Column::Trusted, share::Column::Bucket])
        .value(share::Column::Used, Expr::col((share::Entity, share::Column::Used)).add(1))
        .to_owned();
    share::Entity::insert(one).on_conflict(one_more).exec_without_returning(tx).await?;
    let kept = share::Entity::find_by_id((trusted.clone(), bucket)).one(tx).await?.map_or(0, |share| share.used);
    if kept > i64::from(most.div_ceil(BUCKETS.into())) {
        Entity::delete_by_id(once).exec(tx).await?;
        less(tx, trusted.clone(), bucket, 1).await?;
        let text = format!("about {most} used tokens of {trusted} are kept already, which is its share");
        return Err(flow(Fault::refused(&IDENTITY_TOKENS_FULL, text)));
    }
    Ok(true)
}

/// The use of a token, where it was used.
pub(crate) async fn find(tx: &Tx, once: &[u8; 32]) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find_by_id(once.to_vec()).one(tx).await?)
}

/// Forgets the tokens that ended before a moment, and takes them off their issuers' shares; how many.
pub(crate) async fn forget(tx: &Tx, before: Timestamp) -> TxResult<u64, Fault> {
    let gone = Entity::delete_many().filter(Column::ExpiresAt.lt(before.micros())).exec_with_returning(tx).await?;
    let mut shares: BTreeMap<(String, i16), i64> = BTreeMap::new();
    let count = gone.len();
    for row in gone {
        *shares.entry((row.trusted, row.bucket)).or_default() += 1;
    }
    // In the order of their keys, so that two replicas never wait for each other.
    for ((trusted, bucket), gone) in shares {
        less(tx, trusted, bucket, gone).await?;
    }
    Ok(u64::try_from(count).unwrap_or(u64::MAX))
}

/// So many fewer of a share are kept.
async fn less(tx: &Tx, trusted: String, bucket: i16, gone: i64) -> TxResult<(), Fault> {
    share::Entity::update_many()
        .col_expr(share::Column::Used, Expr::col(share::Column::Used).sub(gone))
        .filter(share::Column::Trusted.eq(trusted))
        .filter(share::Column::Bucket.eq(bucket))
        .exec(tx)
        .await?;
    Ok(())
}
