//! Whether an access token is live: one rule, for exchange, for introspection over gRPC and over HTTPS.

use std::sync::Arc;

use legate_ids::{Principal, SpiffeId};
use legate_rpc::Fault;
use legate_token::{Claims, Expect, Parsed, PublicKey, Signed, TokenError};
use legate_view::{KeyUse, SigningKey, Snapshot};

use super::authenticate::Asker;
use super::{Call, Desk};
use crate::error::of_tx;
use crate::keys::Verifier;
use crate::store::revoked_token;

/// How far the clocks of replicas may be apart, in seconds.
const LEEWAY: u64 = 5;

/// A token that works now.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) claims: Claims,
    /// The registry's revision that this was seen at.
    pub(crate) revision: u64,
}

/// A token whose signature holds under a key that the registry holds now.
pub(super) fn proved(desk: &Desk, snapshot: &Snapshot, token: &str) -> Result<Signed, TokenError> {
    let parsed = Parsed::parse(token)?;
    let key = snapshot.signing_key(parsed.kid().as_str()).filter(|key| key.purpose == KeyUse::AccessToken);
    // What was taken back here may not have come back from the registry yet.
    let is_ours = |key: &&Arc<SigningKey>| {
        key.issuer == desk.issuer && desk.keys.believes(crate::domain::keyring::KeyUse::AccessTokens, &key.kid)
    };
    let key = key.filter(is_ours).ok_or(TokenError::Key)?;
    let public = PublicKey::from_jwk(&key.jwk).map_err(|_| TokenError::Key)?;
    let signed = parsed.check_signature(&Verifier::new(&public))?;
    let issued = i64::try_from(signed.claims().issued_at).unwrap_or(i64::MAX);
    let issued = legate_clock::Timestamp::from_secs(issued);
    let is_of_its_time =
        key.not_before.is_none_or(|from| from <= issued) && key.not_after.is_none_or(|end| desk.clock.now() <= end);
    if is_of_its_time { Ok(signed) } else { Err(TokenError::Key) }
}

/// What it says, where it is meant for `audience` and now.
pub(super) fn verified(desk: &Desk, signed: &Signed, audience: &str) -> Result<Claims, TokenError> {
    let now = u64::try_from(desk.clock.now().secs()).unwrap_or(0);
    let expect = Expect { issuer: &desk.issuer, audience, leeway: LEEWAY };
    Ok(signed.verify(&expect, now)?.into_claims())
}

/// What a token of ours says that has not ended, whether or not it works; whoever it is addressed to: that is for the one
/// who asks to compare.
pub(super) fn ours(desk: &Desk, snapshot: &Snapshot, token: &str) -> Option<Claims> {
    let signed = proved(desk, snapshot, token).ok()?;
    let audience = signed.claims().audience.clone();
    verified(desk, &signed, &audience).ok()
}

/// The token, where it works now: signature, times, and the standing of everybody and everything it rests on. `None`: it
/// does not, and why is nobody's business (RFC 7662 section 2.2).
///
/// # Errors
/// When that cannot be told.
pub(crate) async fn live(desk: &Desk, token: &str) -> Result<Option<Live>, Fault> {
    let reading = desk.fresh()?;
    let snapshot = &reading.snapshot;
    let found = ours(desk, snapshot, token);
    let Some(claims) = found.filter(|claims| snapshot.token_standing(claims, desk.clock.now()).is_ok()) else {
        return Ok(None);
    };
    let found = if is_taken_back(desk, &claims).await? { None } else { Some(claims) };
    Ok(found.map(|claims| Live { claims, revision: snapshot.revision() }))
}

/// Whether the token, or one that was exchanged for it, was taken back here: the news may not have come back from the
/// registry yet.
pub(super) async fn is_taken_back(desk: &Desk, claims: &Claims) -> Result<bool, Fault> {
    let parents = claims.chain.parents.iter().map(|parent| &parent.token_id);
    let ids: Vec<String> = std::iter::once(&claims.token_id).chain(parents).cloned().collect();
    let found = desk.db.peek("find_revoked_token", |db| Box::pin(async move { revoked_token::any(db, ids).await }));
    found.await.map_err(of_tx)
}

/// Says what became of a token to whom it concerns: its holder, and whoever it is addressed to.
#[tracing::instrument(skip_all)]
pub(crate) async fn introspect(desk: &Desk, call: &Call, asker: &Asker, token: &str) -> Result<Option<Live>, Fault> {
    let Some(found) = live(desk, token).await? else { return Ok(None) };
    let claims = &found.claims;
    let concerns = match (asker, &call.peer.principal) {
        (Asker::Agent { namespace, agent }, _) => {
            let address = SpiffeId::agent(&desk.domain, namespace, agent);
            *namespace == claims.namespace && (*agent == claims.agent || claims.audience == address.as_str())
        }
        (Asker::Peer, Some(Principal::Enforcer { namespace, name })) => {
            let reading = desk.fresh()?;
            let point = reading.snapshot.enforcement_point(namespace.as_str(), name.as_str());
            *namespace == claims.namespace && point.is_some_and(|point| point.audiences.contains(&claims.audience))
        }
        (Asker::Peer, _) => false,
    };
    Ok(concerns.then_some(found))
}
