//! An operator takes an object back that nothing in force names.

use std::sync::Arc;

use legate_authority::Right;
use legate_ids::Name;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::{Kind, RevokeDeclarationResponse};

use super::update::not_found;
use super::write::check_etag;
use super::{Call, Desk};
use crate::domain::check;
use crate::domain::kind::{self, Key};
use crate::domain::operators;
use crate::error::{KIND_NOT_APPLICABLE, OBJECT_IN_USE};
use crate::store::{object, reference, refuse};

/// Objects that are named in a refusal.
const NAMED: u64 = 5;

/// Which object a request names.
pub(crate) fn key(kind: i32, namespace: &str, name: &str) -> Result<Key, Fault> {
    let kind = Kind::try_from(kind).unwrap_or_default();
    if kind == Kind::Unspecified {
        return Err(Fault::invalid("kind", "is required"));
    }
    let stands_alone = matches!(kind, Kind::Namespace | Kind::SigningKey);
    if stands_alone && !namespace.is_empty() {
        return Err(Fault::invalid("namespace", "is empty for namespaces and signing keys"));
    }
    // An operator binding without one speaks of all namespaces.
    let may_stand_alone = kind == Kind::OperatorBinding && namespace.is_empty();
    if !stands_alone && !may_stand_alone {
        Name::parse(namespace).map_err(|e| Fault::invalid("namespace", e.to_string()))?;
    }
    Name::parse(name).map_err(|e| Fault::invalid("name", e.to_string()))?;
    Ok(Key::new(kind, namespace, name))
}

/// Takes it back.
#[tracing::instrument(skip_all)]
pub(crate) async fn revoke(
    desk: &Arc<Desk>,
    call: Call,
    key: Key,
    etag: String,
) -> Result<RevokeDeclarationResponse, Fault> {
    if matches!(key.kind, Kind::Agent | Kind::SigningKey | Kind::Revocation | Kind::Approval | Kind::StopOrder) {
        let text = format!("{} objects are not revoked in this way", kind::kind_name(key.kind));
        return Err(Fault::refused(&KIND_NOT_APPLICABLE, text));
    }
    super::stage::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new((key, etag));
    desk.write("revoke_declaration", Standard::Stopping, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (key, etag) = &*ask;
            writing.demand(operators::to_write(key.kind), operators::place(key)).map_err(refuse)?;
            let row = object::by_key(writing.tx, key).await?.ok_or_else(|| refuse(not_found(key)))?;
            let current = row.declaration()?;
            if operators::asks_for_an_approver(&current) {
                writing.demand(Right::Administer, operators::place(key)).map_err(refuse)?;
            }
            check_etag(&current, etag).map_err(refuse)?;
            let mut named = Vec::new();
            for id in reference::from(writing.tx, key, NAMED).await? {
                let by = object::by_id(writing.tx, &id).await?;
                let by = by.map(|row| row.declaration()).transpose()?.and_then(|d| kind::key_of(&d));
                named.extend(by.map(|by| format!("{} {by}", kind::kind_name(by.kind))));
            }
            if !named.is_empty() {
                let text = format!("{} {key} is named by {}", kind::kind_name(key.kind), named.join(", "));
                return Err(refuse(Fault::refused(&OBJECT_IN_USE, text)));
            }
            let last = writing.take_back(current, "revoked").await?;
            Ok(RevokeDeclarationResponse { declaration: Some(last), revision: writing.revision() })
        })
    })
    .await
}
