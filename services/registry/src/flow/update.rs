//! An operator changes some fields of one object.

use std::sync::Arc;

use legate_db::TxResult;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind, UpdateDeclarationResponse};

use super::stage::{self, Staged, Wanted};
use super::write::{Writing, check_etag};
use super::{Call, Desk};
use crate::domain::kind::{self, Key};
use crate::domain::problem::Problem;
use crate::domain::{check, mask, operators};
use crate::error::{KIND_NOT_APPLICABLE, OBJECT_NOT_FOUND};
use crate::store::{object, refuse};

/// Merges what the mask names into the object as it is, and writes it where it differs.
#[tracing::instrument(skip_all)]
pub(crate) async fn update(
    desk: &Arc<Desk>,
    call: Call,
    wanted: Declaration,
    paths: Vec<String>,
) -> Result<UpdateDeclarationResponse, Fault> {
    let key = kind::key_of(&wanted).ok_or_else(|| Fault::invalid("declaration", "holds no object with a name"))?;
    // Before it is looked for or repeated to anybody.
    let key = super::revoke::key(key.kind.into(), &key.namespace, &key.name)?;
    if matches!(key.kind, Kind::SigningKey | Kind::Revocation | Kind::Approval | Kind::StopOrder) {
        let text = "signing keys and revocations come from credential-issuer, approvals from agents and approvers";
        return Err(Fault::refused(&KIND_NOT_APPLICABLE, text));
    }
    let etag = wanted.metadata().map(|m| m.etag.clone()).unwrap_or_default();
    let ask = Arc::new((key, wanted, paths, etag));
    desk.write("update_declaration", Standard::Ordinary, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (key, wanted, paths, etag) = &*ask;
            writing.demand(operators::to_write(key.kind), operators::place(key)).map_err(refuse)?;
            let row = object::by_key(writing.tx, key).await?.ok_or_else(|| refuse(not_found(key)))?;
            let current = row.declaration()?;
            check_etag(&current, etag).map_err(refuse)?;
            let mut now = current;
            for one in changed(writing, key, &now, wanted, paths).await? {
                if !one.fields.is_empty() {
                    now = writing.put(one.wanted, one.current.as_ref(), "updated", &one.fields).await?;
                }
            }
            Ok(UpdateDeclarationResponse { declaration: Some(now), revision: writing.revision() })
        })
    })
    .await
}

/// The object with the fields that the mask names as they are wanted, held against what it is.
pub(super) async fn changed(
    writing: &mut Writing<'_>,
    key: &Key,
    current: &Declaration,
    wanted: &Declaration,
    paths: &[String],
) -> TxResult<Vec<Staged>, Fault> {
    let mut merged = mask::merge(current, wanted, paths).map_err(|p| refuse(refused(p)))?;
    let problems = check::check(&merged);
    stage::refusal(under("declaration", problems)).map_err(refuse)?;
    check::strip_output_only(&mut merged);
    stage::demand_elsewhere(writing, &merged).map_err(refuse)?;
    // Set to nothing on purpose, which an apply takes for "as it was".
    let ends = expiry(&merged);
    let list = [Wanted::new(key.clone(), merged)];
    let by = writing.by;
    let mut staged = stage::stage(writing.tx, &list, writing.now, &by.actor, &by.reason).await?;
    stage::demand_more(writing, &staged).map_err(refuse)?;
    if paths.iter().any(|path| path == "spec.expire_time" || path == "spec") {
        for one in &mut staged {
            set_expiry(&mut one.wanted, ends);
            one.compare(writing.now, (&by.actor, &by.reason));
        }
    }
    Ok(staged)
}

fn expiry(declaration: &Declaration) -> Option<prost_types::Timestamp> {
    match &declaration.object {
        Some(Object::Agent(agent)) => agent.spec.as_ref().and_then(|spec| spec.expire_time),
        _ => None,
    }
}

fn set_expiry(declaration: &mut Declaration, ends: Option<prost_types::Timestamp>) {
    if let Some(Object::Agent(agent)) = &mut declaration.object
        && let Some(spec) = &mut agent.spec
    {
        spec.expire_time = ends;
    }
}

fn under(field: &str, problems: Vec<Problem>) -> Vec<Problem> {
    problems.into_iter().map(|p| Problem { path: format!("{field}.{}", p.path), ..p }).collect()
}

fn refused(problems: Vec<Problem>) -> Fault {
    match stage::refusal(problems) {
        Err(fault) => fault,
        Ok(()) => Fault::invalid("update_mask", "cannot be used"),
    }
}

/// Nothing of this name is in force.
pub(super) fn not_found(key: &Key) -> Fault {
    Fault::refused(&OBJECT_NOT_FOUND, format!("there is no {} {key}", kind::kind_name(key.kind)))
}
