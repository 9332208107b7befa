//! Exchange and introspection between the wire and their journeys, and the record of who acts for whom.

use legate_clock::Timestamp;
use legate_ids::{Name, Principal, SpiffeId};
use legate_rpc::Fault;
use legate_token::{Confirmation, Scope};
use legate_wire::audit::{ActingMode, AuditEvent};
use legate_wire::credential as wire;
use legate_wire::policy::DelegationChain;

use super::{Call, cut, token_issued, wish};
use crate::domain::token::{Behalf, TokenPlan};
use crate::flow::exchange::{Exchange, SubjectToken};
use crate::flow::foreign::Evidence;
use crate::flow::live::Live;

/// A token by which an agent acts for another is about to be signed.
pub(crate) fn token_exchanged(
    call: &Call,
    plan: &TokenPlan,
    (decision_id, revision): (String, u64),
    evidence: Option<&Evidence>,
    now: Timestamp,
) -> AuditEvent {
    let claims = &plan.claims;
    let issued = token_issued(call, plan, decision_id, revision, now);
    let texts = |all: Vec<&str>| cut(all.join(" "));
    let parents = claims.chain.parents.iter().map(|parent| parent.token_id.as_str()).collect();
    let mut details = issued.details;
    details.extend([
        ("grants".to_owned(), texts(claims.chain.grants.iter().map(String::as_str).collect())),
        ("parent_tokens".to_owned(), texts(parents)),
    ]);
    if !claims.chain.groups.is_empty() {
        let groups = claims.chain.groups.iter().map(String::as_str).collect();
        details.insert("subject_groups".to_owned(), texts(groups));
    }
    if let Some(evidence) = evidence {
        details.extend([
            ("trusted_by".to_owned(), cut(evidence.trusted_by.clone())),
            ("identity_issuer".to_owned(), cut(evidence.issuer.clone())),
            ("identity_subject".to_owned(), cut(evidence.subject.clone())),
        ]);
    }
    AuditEvent {
        r#type: "token.exchanged".to_owned(),
        acting_mode: ActingMode::OnBehalfOf.into(),
        subject: claims.subject.to_string(),
        chain: claims.chain.actors.iter().map(ToString::to_string).collect(),
        grant_id: claims.chain.grants.first().cloned().unwrap_or_default(),
        details,
        ..issued
    }
}

/// For whom an agent would act, as policy-decision is asked.
pub(crate) fn delegation(behalf: &Behalf) -> DelegationChain {
    let id = |actor: &SpiffeId| match Principal::of(actor) {
        Ok(Principal::Agent { id, .. }) => id.to_string(),
        _ => actor.to_string(),
    };
    DelegationChain {
        subject: behalf.subject.to_string(),
        actors: behalf.chain.actors.iter().map(id).collect(),
        grants: behalf.chain.grants.clone(),
        subject_groups: behalf.chain.groups.clone(),
    }
}

/// What an agent asks for in exchange.
pub(crate) fn exchange(ask: wire::ExchangeTokenRequest) -> Result<Exchange, Fault> {
    if ask.subject_token.is_empty() {
        return Err(Fault::invalid("subject_token", "is missing"));
    }
    let subject_token = match ask.subject_token_type() {
        wire::TokenType::AccessToken => SubjectToken::Access(ask.subject_token),
        wire::TokenType::IdToken => SubjectToken::Identity(ask.subject_token),
        wire::TokenType::Unspecified => {
            let why = "is missing or not known; give TOKEN_TYPE_ACCESS_TOKEN or TOKEN_TYPE_ID_TOKEN";
            return Err(Fault::invalid("subject_token_type", why));
        }
    };
    // RFC 8693 section 2.1: actor_token_type is there exactly when actor_token is.
    let actor_token = match (ask.actor_token.is_empty(), ask.actor_token_type) {
        (true, 0) => None,
        (true, _) => return Err(Fault::invalid("actor_token_type", "is given without an actor_token")),
        (false, given) if wire::TokenType::try_from(given) == Ok(wire::TokenType::AccessToken) => Some(ask.actor_token),
        (false, _) => return Err(Fault::invalid("actor_token_type", "has to be TOKEN_TYPE_ACCESS_TOKEN")),
    };
    let grant = match ask.grant.as_str() {
        "" => None,
        name => Some(Name::parse(name).map_err(|e| Fault::invalid("grant", e.to_string()))?),
    };
    let wire::ExchangeTokenRequest { audience, scopes, ttl, authorization_details, .. } = ask;
    let wish = wish(wire::IssueTokenRequest { audience, scopes, ttl, authorization_details })?;
    Ok(Exchange { subject_token, actor_token, wish, grant })
}

/// What became of a token, as its asker reads it.
pub(crate) fn introspection(live: Option<Live>) -> wire::IntrospectResponse {
    let Some(Live { claims, revision }) = live else { return wire::IntrospectResponse::default() };
    let time = |secs: u64| i64::try_from(secs).ok().map(|secs| Timestamp::from_secs(secs).into());
    let confirmation = match claims.confirmation {
        Confirmation::Certificate(x5t) => Some(wire::introspect_response::Confirmation::X5tS256(x5t.to_vec())),
        Confirmation::Key(jkt) => Some(wire::introspect_response::Confirmation::Jkt(jkt.to_vec())),
        Confirmation::Bearer => None,
    };
    wire::IntrospectResponse {
        active: true,
        token_id: claims.token_id,
        issuer: claims.issuer,
        audience: claims.audience,
        subject: claims.subject.to_string(),
        agent_id: claims.agent.to_string(),
        namespace: claims.namespace.to_string(),
        scopes: scopes(&claims.scope),
        authorization_details: claims.details.to_string(),
        issue_time: time(claims.issued_at),
        expire_time: time(claims.expires_at),
        chain: claims.chain.actors.iter().map(ToString::to_string).collect(),
        grants: claims.chain.grants,
        confirmation,
        revision,
        subject_groups: claims.chain.groups,
    }
}

/// The actions that a token is narrowed to; none: it is not.
pub(crate) fn scopes(scope: &Scope) -> Vec<String> {
    match scope {
        Scope::All => Vec::new(),
        Scope::Actions(actions) => actions.iter().map(ToString::to_string).collect(),
    }
}
