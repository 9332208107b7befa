//! Whether an access token is live: one rule, for exchange, for introspection over gRPC and over HTTPS.

use legate_authority::{Place, Right};
use legate_ids::{Principal, SpiffeId};
use legate_rpc::Fault;
use legate_token::{Claims, Expect, P256Verifier, Parsed, PublicKey, Signed, TokenError};
use legate_view::{KeyUse, Snapshot};

use super::{Call, Desk};

/// How far the clocks of replicas may be apart, in seconds.
const LEEWAY: u64 = 5;

/// A token that works now.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) claims: Claims,
    /// The registry's revision that this was seen at.
    pub(crate) revision: u64,
}

/// A token whose signature holds under a key that the registry holds now; with the revision. A key that is not known yet is
/// waited for as every refusal is.
pub(super) async fn prove(desk: &Desk, token: &str) -> Result<Result<(Signed, u64), TokenError>, Fault> {
    let reading = desk.fresh()?;
    Ok(proved(desk, &reading.snapshot, token).map(|signed| (signed, reading.snapshot.revision())))
}

fn proved(desk: &Desk, snapshot: &Snapshot, token: &str) -> Result<Signed, TokenError> {
    let parsed = Parsed::parse(token)?;
    let key = snapshot.signing_key(parsed.kid().as_str()).filter(|key| key.purpose == KeyUse::AccessToken);
    let key = key.filter(|key| key.issuer == desk.issuer).ok_or(TokenError::Key)?;
    let public = PublicKey::from_jwk(&key.jwk).map_err(|_| TokenError::Key)?;
    let signed = parsed.check_signature(&P256Verifier::new(&public))?;
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

/// The token, where it works now: signature, times, and the standing of everybody and everything it rests on. `None`: it
/// does not, and why is nobody's business (RFC 7662 section 2.2).
///
/// # Errors
/// When that cannot be told.
pub(crate) fn live(desk: &Desk, token: &str) -> Result<Option<Live>, Fault> {
    let reading = desk.fresh()?;
    let snapshot = &reading.snapshot;
    let found = proved(desk, snapshot, token).ok().and_then(|signed| {
        // Whoever it is addressed to: that is for the one who asks to compare.
        let audience = signed.claims().audience.clone();
        verified(desk, &signed, &audience).ok()
    });
    let found = found.filter(|claims| snapshot.token_standing(claims, desk.clock.now()).is_ok());
    Ok(found.map(|claims| Live { claims, revision: snapshot.revision() }))
}

/// Says what became of a token to whom it concerns: its holder, whoever it is addressed to, and operators who may read its
/// namespace.
#[tracing::instrument(skip_all)]
pub(crate) async fn introspect(desk: &Desk, call: &Call, token: &str) -> Result<Option<Live>, Fault> {
    // A key that was published just now may not have come here yet; whoever asks again is told then.
    let Some(found) = live(desk, token)? else { return Ok(None) };
    let claims = &found.claims;
    let concerns = match &call.peer.principal {
        Some(Principal::Agent { namespace, id, .. }) => {
            let address = SpiffeId::agent(&desk.domain, namespace, id);
            (*namespace == claims.namespace && *id == claims.agent) || claims.audience == address.as_str()
        }
        Some(Principal::Enforcer { namespace, name }) => {
            let reading = desk.fresh()?;
            let point = reading.snapshot.enforcement_point(namespace.as_str(), name.as_str());
            *namespace == claims.namespace && point.is_some_and(|point| point.audiences.contains(&claims.audience))
        }
        Some(Principal::Operator(_)) => {
            let mandate = desk.mandate(call).await?;
            mandate.may(Right::Read, Place::In(claims.namespace.as_str()))
        }
        _ => false,
    };
    Ok(concerns.then_some(found))
}
