//! A credential is taken back: recorded first, then told to the registry until it confirms, its connections cut at once.

use legate_ids::CredentialId;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::{PublishRevocationRequest, RevocationReason};

use super::{Call, Desk};
use crate::convert;
use crate::error::{AGAIN, CREDENTIAL_NOT_FOUND, REVOCATION_PENDING, flow, of_tx};
use crate::store::{credential, key, pending};

/// Takes a credential back; the row, and the registry's revision that carries the revocation. To repeat it is harmless.
#[tracing::instrument(skip_all, fields(legate.credential = %id))]
pub(crate) async fn revoke(
    desk: &Desk,
    call: &Call,
    id: CredentialId,
    reason: RevocationReason,
    comment: String,
) -> Result<(credential::Model, u64), Fault> {
    let (row, request) = record(desk, call, &id, reason, &comment).await?;
    cut_connections(desk, &row);
    let Some(request) = request else {
        // Never signed, so never delivered: nobody has to hear of it.
        return Ok((row, desk.fresh()?.snapshot.revision()));
    };
    let told = tokio::time::timeout(desk.patience(call), desk.publisher.revocation(request)).await;
    match told {
        Ok(Ok(revision)) => {
            super::publish::confirmed(desk, &row.id).await?;
            Ok((row, revision))
        }
        late => {
            desk.news.notify_one();
            let why = match late {
                Ok(Err(status)) => status.message().to_owned(),
                _ => "no answer in time".to_owned(),
            };
            let text = format!("{id} is revoked here; the registry has not confirmed it yet: {why}");
            Err(Fault::unavailable(&REVOCATION_PENDING, text, AGAIN))
        }
    }
}

/// The row as it is then, and what the registry is to be told: what was first recorded, however often it is repeated.
async fn record(
    desk: &Desk,
    call: &Call,
    id: &CredentialId,
    reason: RevocationReason,
    comment: &str,
) -> Result<(credential::Model, Option<PublishRevocationRequest>), Fault> {
    let now = desk.clock.now();
    let (outbox, call, id, comment) = (desk.outbox.clone(), call.clone(), id.to_string(), comment.to_owned());
    desk.db
        .tx("revoke_credential", move |tx| {
            let (outbox, call, id, comment) = (outbox.clone(), call.clone(), id.clone(), comment.clone());
            Box::pin(async move {
                let not_found = || flow(Fault::refused(&CREDENTIAL_NOT_FOUND, format!("no credential {id}")));
                let row = credential::lock_by_id(tx, &id).await?.ok_or_else(not_found)?;
                let request = row.x5t_s256.is_some().then(|| convert::publication(&row, &call, reason, &comment, now));
                if !credential::mark_revoked(tx, &id, reason.into(), now).await? {
                    // Confirmed already: to tell it once more brings the revision.
                    let first = pending::of(tx, &id).await?;
                    return Ok((row, first.or(request)));
                }
                if reason == RevocationReason::KeyCompromise {
                    key::mark_compromised(tx, &row.key_sha256).await?;
                }
                if let Some(request) = &request {
                    pending::insert(tx, &id, request, now).await?;
                }
                let event = convert::credential_revoked(&call, &row, reason, &comment, now);
                outbox.record(tx, Standard::Stopping, event).await?;
                let row = credential::by_id(tx, &id).await?.ok_or_else(not_found)?;
                Ok((row, request))
            })
        })
        .await
        .map_err(of_tx)
}

fn cut_connections(desk: &Desk, row: &credential::Model) {
    let Some(connections) = desk.connections.get() else { return };
    let cut = connections.cut(|peer| row.x5t_s256.as_deref() == Some(&peer.x5t_s256[..]));
    if cut > 0 {
        tracing::info!(cut, credential = row.id, "connections of a revoked credential are cut");
    }
}
