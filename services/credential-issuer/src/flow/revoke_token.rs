//! A client, or an operator, takes one access token back (RFC 7009): recorded, then told to the registry until it confirms.

use std::time::Duration;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_ids::{Principal, SpiffeId};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_token::Claims;

use super::authenticate::Asker;
use super::live::ours;
use super::{Call, Desk, revoke};
use crate::convert;
use crate::error::{TOKEN_NOT_YOURS, of_tx};
use crate::store::{pending, revoked_token};

/// Verifiers' clocks may be a little behind.
const LEEWAY: Duration = Duration::from_secs(legate_token::MAX_LEEWAY);

/// Takes a token back. One that is unknown or has ended is as good as taken back (RFC 7009 section 2.2). One that merely does
/// not work now is not: what keeps it from working may end before it does.
#[tracing::instrument(skip_all)]
pub(crate) async fn revoke_token(desk: &Desk, call: &Call, asker: &Asker, token: &str) -> Result<(), Fault> {
    let Some(claims) = ours(desk, &desk.fresh()?.snapshot, token) else { return Ok(()) };
    let is_theirs = match (asker, &call.peer.principal) {
        (Asker::Agent { agent, .. }, _) => *agent == claims.agent,
        (Asker::Peer, Some(Principal::Operator(_))) => {
            let mandate = desk.mandate(call).await?;
            mandate.may(Right::Stop, Place::In(claims.namespace.as_str()))
        }
        (Asker::Peer, _) => false,
    };
    if !is_theirs {
        return Err(Fault::refused(&TOKEN_NOT_YOURS, "the token was not issued to this client"));
    }
    record(desk, call, &claims).await
}

pub(super) async fn record(desk: &Desk, call: &Call, claims: &Claims) -> Result<(), Fault> {
    let now = desk.clock.now();
    let ends = Timestamp::from_secs(i64::try_from(claims.expires_at).unwrap_or(i64::MAX)).plus(LEEWAY);
    let holder = SpiffeId::agent(&desk.domain, &claims.namespace, &claims.agent);
    let ask = convert::token_publication(call, claims, &holder, ends, now);
    let event = convert::token_revoked(call, claims, now);
    let (outbox, id) = (desk.outbox.clone(), claims.token_id.clone());
    let unheard = desk.db.tx("revoke_token", move |tx| {
        let (outbox, id, ask, event) = (outbox.clone(), id.clone(), ask.clone(), event.clone());
        Box::pin(async move {
            if !revoked_token::mark(tx, &id, ends).await? {
                // Repeated, it is done only once the registry has confirmed it.
                return pending::of(tx, &id).await;
            }
            pending::insert(tx, &id, &ask, now).await?;
            outbox.record(tx, Standard::Stopping, event).await?;
            Ok(Some(ask))
        })
    });
    if let Some(request) = unheard.await.map_err(of_tx)? {
        revoke::tell(desk, call, &claims.token_id, request).await?;
    }
    Ok(())
}
