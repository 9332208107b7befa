//! OAuth clients: what they ask, what the record says of their credentials, and tokens that are taken back one by one.

use std::collections::BTreeMap;

use legate_clock::Timestamp;
use legate_ids::{ActionPattern, Actions, AgentId, SpiffeId};
use legate_rpc::Fault;
use legate_token::{Claims, MAX_SCOPES};
use legate_wire::audit::{AuditEvent, Outcome};
use legate_wire::registry::{PublishRevocationRequest, RevocationReason, RevocationSpec};

use super::{Call, LONGEST_AUDIENCE, authorization_details, details, duration, event, reason, resource};
use crate::domain::token::{self, Wish, hex};
use crate::error::{INVALID_SCOPE, INVALID_TARGET};
use crate::flow::create_client;
use crate::store::credential;

/// What an agent is to be given for the token endpoint.
pub(crate) fn client(
    agent_id: &str,
    ttl: Option<prost_types::Duration>,
    replace: bool,
    why: String,
) -> Result<create_client::Ask, Fault> {
    Ok(create_client::Ask {
        agent: AgentId::parse(agent_id).map_err(|e| Fault::invalid("agent_id", e.to_string()))?,
        ttl: duration("ttl", ttl)?,
        replace,
        reason: reason("reason", why)?,
    })
}

/// What an OAuth client asks for in a token (RFC 8707, RFC 6749 section 3.3, RFC 9396 section 6).
pub(crate) fn oauth_wish(resource: Option<&str>, scope: Option<&str>, details: Option<&str>) -> Result<Wish, Fault> {
    let no_target = |why: &str| Fault::refused(&INVALID_TARGET, format!("resource {why}"));
    let audience = resource.ok_or_else(|| no_target("is missing: name the resource server that the token is for"))?;
    if audience.len() > LONGEST_AUDIENCE || !audience.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(no_target("is 1 to 512 printable ASCII characters"));
    }
    let read = |text| {
        ActionPattern::parse(text)
            .map_err(|e| Fault::refused(&INVALID_SCOPE, format!("a scope is no action and no pattern of actions: {e}")))
    };
    let texts = scope.unwrap_or_default().split(' ').filter(|text| !text.is_empty());
    let actions = texts.map(read).collect::<Result<Actions, _>>()?;
    if actions.len() > MAX_SCOPES {
        return Err(Fault::refused(&INVALID_SCOPE, "a scope has 64 actions at most"));
    }
    let details = authorization_details(details.unwrap_or_default(), audience)?;
    Ok(Wish { audience: audience.to_owned(), actions, details, ttl: token::ttl(None)? })
}

/// What the registry is told of one token that was taken back.
pub(crate) fn token_publication(
    call: &Call,
    claims: &Claims,
    holder: &SpiffeId,
    ends: Timestamp,
    now: Timestamp,
) -> PublishRevocationRequest {
    PublishRevocationRequest {
        revocation: Some(RevocationSpec {
            token_id: claims.token_id.clone(),
            spiffe_id: holder.to_string(),
            expire_time: Some(ends.into()),
            revoke_time: Some(now.into()),
            reason: RevocationReason::CessationOfOperation.into(),
            ..RevocationSpec::default()
        }),
        namespace: claims.namespace.to_string(),
        actor: call.actor(),
        comment: String::new(),
    }
}

/// One token was taken back.
pub(crate) fn token_revoked(call: &Call, claims: &Claims, now: Timestamp) -> AuditEvent {
    AuditEvent {
        namespace: claims.namespace.to_string(),
        agent_id: claims.agent.to_string(),
        instance_id: claims.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        resource: resource("AccessToken", &claims.token_id),
        details: details([("audience", claims.audience.clone()), ("peer_address", call.peer.addr.to_string())]),
        ..event(call, "token.revoked", Outcome::Success, now)
    }
}

/// A client secret was made, or a client key registered.
pub(crate) fn client_created(call: &Call, row: &credential::Model, reason: &str, now: Timestamp) -> AuditEvent {
    let key = match row.kind {
        credential::KEY => hex(&row.key_sha256),
        // The HMAC of a secret is nobody's business.
        _ => String::new(),
    };
    let details = details([("expires", Timestamp::from_micros(row.not_after).to_string()), ("key_sha256", key)]);
    about_client(call, row, "client.created", details, reason, now)
}

/// A client secret or key ends earlier, since another takes its place.
pub(crate) fn client_replaced(
    call: &Call,
    row: &credential::Model,
    by: &str,
    reason: &str,
    now: Timestamp,
) -> AuditEvent {
    let details =
        details([("expires", Timestamp::from_micros(row.not_after).to_string()), ("replaced_by", by.to_owned())]);
    about_client(call, row, "client.replaced", details, reason, now)
}

/// A client secret or key was used that works no longer.
pub(crate) fn retired_used(call: &Call, row: &credential::Model, state: &str, now: Timestamp) -> AuditEvent {
    let details = details([("state", state.to_owned()), ("peer_address", call.peer.addr.to_string())]);
    let mut event = about_client(call, row, "client.retired_used", details, "", now);
    event.outcome = Outcome::Denied.into();
    event
}

fn about_client(
    call: &Call,
    row: &credential::Model,
    kind: &str,
    mut details: BTreeMap<String, String>,
    reason: &str,
    now: Timestamp,
) -> AuditEvent {
    let r#type = if row.kind == credential::KEY { "CLIENT_KEY" } else { "CLIENT_SECRET" };
    details.insert("type".to_owned(), r#type.to_owned());
    details.insert("spiffe_id".to_owned(), row.spiffe_id.clone());
    AuditEvent {
        namespace: row.namespace.clone(),
        agent_id: row.agent_id.clone(),
        resource: resource("Credential", &row.id),
        credential_id: row.id.clone(),
        reason: reason.to_owned(),
        details,
        ..event(call, kind, Outcome::Success, now)
    }
}
