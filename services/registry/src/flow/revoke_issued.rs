//! An operator takes back everything that was issued to many agents, or on behalf of a person, by one write.

use std::sync::Arc;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::cut_off::Level;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::revoke_issued_request::Level as Asked;
use legate_wire::registry::{
    CutOff, Declaration, Kind, Metadata, Revocation, RevocationSpec, RevokeIssuedRequest, RevokeIssuedResponse,
};

use super::publish::hash;
use super::update::not_found;
use super::{Call, Desk};
use crate::domain::check;
use crate::domain::cut_off::{self, Named};
use crate::domain::kind::Key;
use crate::store::{object, refuse};

/// Under which key a cut-off is kept.
pub(super) fn key(named: &Named) -> Key {
    Key::new(Kind::Revocation, &named.namespace, &format!("cut-off-{}", hash(&named.spelled)))
}

/// The latest of these cut-offs, where there is one.
pub(super) async fn latest(tx: &Tx, named: impl IntoIterator<Item = Named>) -> TxResult<Option<Timestamp>, Fault> {
    let mut found = None;
    for declaration in in_force(tx, named).await? {
        found = found.max(cut_off::of(&declaration));
    }
    Ok(found)
}

/// These cut-offs, as far as there are such.
pub(super) async fn in_force(tx: &Tx, named: impl IntoIterator<Item = Named>) -> TxResult<Vec<Declaration>, Fault> {
    let keys = named.into_iter().map(|one| key(&one)).collect();
    object::by_keys(tx, keys).await?.into_values().map(|row| row.declaration()).collect()
}

/// Takes it back.
#[tracing::instrument(skip_all)]
pub(crate) async fn revoke_issued(
    desk: &Arc<Desk>,
    call: Call,
    ask: RevokeIssuedRequest,
) -> Result<RevokeIssuedResponse, Fault> {
    super::stage::refusal(check::check_revoke_issued(&ask))?;
    super::stage::refusal(check::check_reason(&call.by.reason, true))?;
    let level = match ask.level.clone() {
        Some(Asked::AgentClass(name)) => Level::AgentClass(name),
        Some(Asked::Owner(name)) => Level::Owner(name),
        Some(Asked::Subject(name)) => Level::Subject(name),
        Some(Asked::WholeNamespace(_)) | None => Level::WholeNamespace(true),
    };
    let ask = Arc::new((ask, level));
    desk.write("revoke_issued", Standard::Stopping, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (ask, level) = &*ask;
            writing.demand(Right::Stop, Place::of(&ask.namespace)).map_err(refuse)?;
            check_is_there(writing.tx, &ask.namespace, level).await?;
            let key = key(&Named::of(&ask.namespace, level));
            let current = object::by_key(writing.tx, &key).await?.map(|row| row.declaration()).transpose()?;
            let cutoff = cut_off::at(current.as_ref().and_then(cut_off::of), writing.now);
            let spec = RevocationSpec {
                revoke_time: Some(writing.now.into()),
                reason: ask.reason,
                cut_off: Some(CutOff { level: Some(level.clone()), authorization_cutoff: Some(cutoff.into()) }),
                ..RevocationSpec::default()
            };
            let metadata = Metadata { name: key.name, namespace: key.namespace, ..Metadata::default() };
            let wanted = Object::Revocation(Revocation { metadata: Some(metadata), spec: Some(spec) });
            let wanted = Declaration { object: Some(wanted) };
            let written = writing.put(wanted, current.as_ref(), "cut_off", &[]).await?;
            let revocation = match written.object {
                Some(Object::Revocation(revocation)) => Some(revocation),
                _ => None,
            };
            let authorization_cutoff = Some(cutoff.into());
            Ok(RevokeIssuedResponse { revocation, authorization_cutoff, revision: writing.revision() })
        })
    })
    .await
}

/// A name that was mistyped must not look like an order that was carried out.
async fn check_is_there(tx: &Tx, namespace: &str, level: &Level) -> TxResult<(), Fault> {
    let class = match level {
        Level::AgentClass(name) => Some(Key::new(Kind::AgentClass, namespace, name)),
        Level::WholeNamespace(_) | Level::Owner(_) | Level::Subject(_) => None,
    };
    let namespace = (!namespace.is_empty()).then(|| Key::new(Kind::Namespace, "", namespace));
    for key in namespace.into_iter().chain(class) {
        object::by_key(tx, &key).await?.ok_or_else(|| refuse(not_found(&key)))?;
    }
    Ok(())
}
