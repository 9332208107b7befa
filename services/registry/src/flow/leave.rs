//! A retired agent leaves everything that names it, and a person who left whatever lets agents act for him.

use legate_db::TxResult;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind};

use super::decide_approval::{self, End};
use super::write::Writing;
use crate::domain::diff;
use crate::domain::kind::{self, Key};
use crate::domain::leave::{Left, without, without_person};
use crate::store::{object, reference};

/// All that there are.
const ALL: u64 = u64::MAX >> 1;

/// Takes a retired agent out of every object that names it, and takes those back that then mean nothing.
pub(super) async fn everything(writing: &mut Writing<'_>, agent: &Declaration) -> TxResult<(), Fault> {
    let Some(key) = kind::key_of(agent) else { return Ok(()) };
    for id in reference::from(writing.tx, &key, ALL).await? {
        // One that was taken back along with another is gone already.
        let Some(before) = in_force(writing, &id).await? else { continue };
        let mut after = before.clone();
        let is_over = match without(&mut after, &key.name) {
            Left::All => continue,
            Left::Some => false,
            Left::Nothing => true,
        };
        if is_over && !is_kept(writing, &before).await? {
            take_back(writing, before).await?;
        } else {
            let fields = diff::diff(Some(&before), &after);
            writing.put(after, Some(&before), "updated", &fields).await?;
        }
    }
    Ok(())
}

/// Takes a person who left out of an object; whether it named him.
pub(super) async fn person(
    writing: &mut Writing<'_>,
    id: &str,
    seen: &Declaration,
    person: &str,
) -> TxResult<bool, Fault> {
    if without_person(&mut seen.clone(), person) == Left::All {
        return Ok(false);
    }
    // One that passes on a part of another may have gone with that.
    let Some(before) = in_force(writing, id).await? else { return Ok(false) };
    let mut after = before.clone();
    match without_person(&mut after, person) {
        Left::All => return Ok(false),
        Left::Nothing => take_back(writing, before).await?,
        Left::Some => {
            let fields = diff::diff(Some(&before), &after);
            writing.put(after, Some(&before), "updated", &fields).await?;
        }
    }
    Ok(true)
}

pub(super) async fn in_force(writing: &Writing<'_>, id: &str) -> TxResult<Option<Declaration>, Fault> {
    match object::by_id(writing.tx, id).await? {
        Some(row) if row.holds_name => Ok(Some(row.declaration()?)),
        _ => Ok(None),
    }
}

/// A group of nobody stays while somebody names it: it gives nobody anything.
async fn is_kept(writing: &Writing<'_>, declaration: &Declaration) -> TxResult<bool, Fault> {
    match kind::key_of(declaration) {
        Some(key) if key.kind == Kind::Group => Ok(!reference::from(writing.tx, &key, 1).await?.is_empty()),
        _ => Ok(false),
    }
}

/// Takes an object back, and before it every grant that passes on a part of it.
pub(super) async fn take_back(writing: &mut Writing<'_>, declaration: Declaration) -> TxResult<(), Fault> {
    let mut chain = vec![declaration];
    let mut at = 0;
    while let Some(key) = chain.get(at).and_then(kind::key_of).filter(is_grant) {
        for id in reference::from(writing.tx, &key, ALL).await? {
            chain.extend(in_force(writing, &id).await?);
        }
        at += 1;
    }
    while let Some(last) = chain.pop() {
        match &last.object {
            Some(Object::Approval(_)) => drop(Box::pin(decide_approval::end(writing, last, End::Revoked)).await?),
            _ => drop(writing.take_back(last, "revoked").await?),
        }
    }
    Ok(())
}

fn is_grant(key: &Key) -> bool {
    key.kind == Kind::DelegationGrant
}
