//! What ended long ago is deleted, some at a time: credentials with the keys that nothing else is certified for, running copies,
//! enrolment tokens and status lists.

use std::collections::BTreeSet;

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::{credential, enrolment, instance, key, pending, status_list};

/// The most rows that one transaction deletes: others wait for the same writer.
pub(crate) const AT_ONCE: u64 = 200;

fn count<T>(rows: &[T]) -> u64 {
    u64::try_from(rows.len()).unwrap_or(u64::MAX)
}

/// Credentials that ended before, were not shown since, and whose revocation nobody waits for; how many. A key goes with the last of
/// its credentials, but for one that is known to be compromised: that one is never certified again.
pub(crate) async fn credentials(tx: &Tx, before: Timestamp) -> TxResult<u64, Fault> {
    use credential::Column as Of;
    let told = Query::select().column(pending::Column::CredentialId).from(pending::Entity).take();
    let find = credential::Entity::find()
        .select_only()
        .columns([Of::Id, Of::KeySha256, Of::Kind])
        .filter(Of::NotAfter.lt(before.micros()))
        .filter(Of::MisusedAt.is_null().or(Of::MisusedAt.lt(before.micros())))
        .filter(Of::Id.not_in_subquery(told));
    let find = find.order_by_asc(Of::NotAfter).order_by_asc(Of::Id).limit(AT_ONCE);
    let rows: Vec<(String, Vec<u8>, i32)> = find.into_tuple().all(tx).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let ids = rows.iter().map(|(id, ..)| id.as_str());
    credential::Entity::delete_many().filter(Of::Id.is_in(ids)).exec(tx).await?;
    // Of a secret it is an HMAC, and no key.
    let keys = rows.iter().filter(|(.., kind)| *kind != credential::SECRET).map(|(_, key, _)| key.clone());
    let keys: BTreeSet<Vec<u8>> = keys.collect();
    // Locked first, in the order of their keys: whoever certifies one now is seen by the next statement, or waits and finds it gone.
    let held = key::Entity::find()
        .filter(key::Column::KeySha256.is_in(keys))
        .filter(key::Column::Compromised.eq(false))
        .order_by_asc(key::Column::KeySha256)
        .lock_exclusive()
        .all(tx)
        .await?;
    let held: BTreeSet<Vec<u8>> = held.into_iter().map(|row| row.key_sha256).collect();
    let find = credential::Entity::find().select_only().column(Of::KeySha256).distinct();
    let still: Vec<Vec<u8>> = find.filter(Of::KeySha256.is_in(held.clone())).into_tuple().all(tx).await?;
    let free = held.into_iter().filter(|key| !still.contains(key));
    key::Entity::delete_many().filter(key::Column::KeySha256.is_in(free)).exec(tx).await?;
    Ok(count(&rows))
}

/// Running copies whose last certificate ended before and is not kept any more; how many.
pub(crate) async fn instances(tx: &Tx, before: Timestamp) -> TxResult<u64, Fault> {
    use instance::Column as Of;
    let kept = Query::select()
        .expr(Expr::val(1))
        .from(credential::Entity)
        .and_where(Expr::col((credential::Entity, credential::Column::InstanceId)).equals((instance::Entity, Of::Id)))
        .take();
    let find = instance::Entity::find().select_only().column(Of::Id).filter(Of::EndsAt.lt(before.micros()));
    let find = find.filter(Expr::exists(kept).not()).order_by_asc(Of::EndsAt).limit(AT_ONCE);
    let ids: Vec<String> = find.into_tuple().all(tx).await?;
    if !ids.is_empty() {
        instance::Entity::delete_many().filter(Of::Id.is_in(&ids)).exec(tx).await?;
    }
    Ok(count(&ids))
}

/// Enrolment tokens that ended before, spent or not; how many.
pub(crate) async fn enrolments(tx: &Tx, before: Timestamp) -> TxResult<u64, Fault> {
    use enrolment::Column as Of;
    let find = enrolment::Entity::find().select_only().column(Of::Id).filter(Of::ExpiresAt.lt(before.micros()));
    let ids: Vec<String> = find.order_by_asc(Of::ExpiresAt).limit(AT_ONCE).into_tuple().all(tx).await?;
    if !ids.is_empty() {
        enrolment::Entity::delete_many().filter(Of::Id.is_in(&ids)).exec(tx).await?;
    }
    Ok(count(&ids))
}

/// Status lists all of whose credentials ended before, but for the newest, from which the next number follows; how many.
pub(crate) async fn status_lists(tx: &Tx, before: Timestamp) -> TxResult<u64, Fault> {
    use status_list::Column as Of;
    let newest = status_list::Entity::find().order_by_desc(Of::Number).limit(1).one(tx).await?;
    let Some(newest) = newest else { return Ok(0) };
    let gone = status_list::Entity::delete_many()
        .filter(Of::LiveUntil.lt(before.micros()))
        .filter(Of::Number.lt(newest.number))
        .exec(tx)
        .await?;
    Ok(gone.rows_affected)
}
