//! `legate grant as-person`: a person, by a token of its own, says what agents may do for it.

use std::collections::BTreeMap;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_authority::{Agreed, Consent};
use legate_mtls::Identity;
use legate_wire::credential::personal_grant_service_client::PersonalGrantServiceClient;
use legate_wire::credential::{CreateGrantRequest, ListGrantsRequest, ListGrantsResponse, RevokeGrantRequest};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, DelegationGrant};
use sha2::{Digest as _, Sha256};

use super::agent::note;
use super::login::token_in;
use super::{Desk, named};
use crate::cli::{PersonalToken, PersonalVerb, PersonalWish};
use crate::error::USAGE;
use crate::output::{Row, declared_row, object_details};
use crate::place::{Line, Service, request_id};
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, verb: PersonalVerb) -> Result<Exit, Failure> {
    match verb {
        PersonalVerb::Consent { name, person, wish } => consent(&desk, &name, &person, &wish),
        PersonalVerb::Create { name, wish, token } => create(&desk, &name, wish, &token).await,
        PersonalVerb::List { namespace, token } => list(&desk, namespace, &token).await,
        PersonalVerb::Show { name, token } => show(&desk, &name, &token).await,
        PersonalVerb::Revoke { name, reason, token } => revoke(&desk, &name, reason, &token).await,
    }
}

fn token(of: &PersonalToken) -> Result<String, Failure> {
    token_in(of.token_file.as_deref(), of.token_env.as_deref())
}

/// A person shows no certificate; an operator's only tells the trust domain where nobody says it.
fn line(desk: &Desk) -> Result<Line, Failure> {
    let known = desk.place.operator().unwrap_or_else(|_| Identity::anonymous());
    desk.place.line_to(desk.place.remote(Service::Issuer, &known)?, Service::Issuer, Identity::anonymous(), desk.show)
}

fn declaration(grant: Option<&DelegationGrant>) -> Declaration {
    Declaration { object: Some(Object::DelegationGrant(grant.cloned().unwrap_or_default())) }
}

/// Whole seconds: the text says how many.
fn seconds(wish: &PersonalWish) -> Result<u64, Failure> {
    match (u64::try_from(wish.span.seconds), wish.span.nanos) {
        (Ok(seconds), 0) => Ok(seconds),
        _ => Err(Failure::local(&USAGE, "--for takes whole seconds")),
    }
}

fn consent(desk: &Desk, name: &str, person: &str, wish: &PersonalWish) -> Result<Exit, Failure> {
    let (namespace, name) = named(name)?;
    let nowhere = BTreeMap::new();
    let permissions: Vec<Agreed<'_>> = wish
        .allow
        .iter()
        .map(|one| Agreed {
            action: &one.action,
            resource_type: one.resource.as_ref().map_or("", |resource| &resource.r#type),
            id: one.resource.as_ref().map_or("", |resource| &resource.id),
            attributes: one.resource.as_ref().map_or(&nowhere, |resource| &resource.attributes),
        })
        .collect();
    let consent = Consent {
        person,
        namespace: &namespace,
        name: &name,
        delegate: &wish.to,
        permissions: &permissions,
        audiences: &wish.audiences,
        purpose: &wish.purpose,
        seconds: seconds(wish)?,
        max_depth: wish.max_depth,
    };
    let text = consent.text();
    let nonce = Base64UrlUnpadded::encode_string(&Sha256::digest(text.as_bytes()));
    let mut out = desk.out();
    if out.is_table() {
        text.lines().try_for_each(|line| out.line(&crate::output::escape::visible(line)))?;
        out.line("")?;
        out.line(&format!("nonce  {nonce}"))?;
    } else {
        let json = serde_json::json!({ "consentText": text, "nonce": nonce });
        out.line(&json.to_string())?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

async fn create(desk: &Desk, name: &str, wish: PersonalWish, bearer: &PersonalToken) -> Result<Exit, Failure> {
    let (namespace, name) = named(name)?;
    seconds(&wish)?;
    let ask = CreateGrantRequest {
        token: token(bearer)?,
        namespace,
        name,
        delegate: wish.to,
        permissions: wish.allow,
        audiences: wish.audiences,
        purpose: wish.purpose,
        ttl: Some(wish.span),
        max_depth: wish.max_depth,
    };
    let answer =
        line(desk)?.ask(ask, |c, r| async move { PersonalGrantServiceClient::new(c).create_grant(r).await }).await?;
    let made = declaration(answer.grant.as_ref());
    let mut details = object_details(&made);
    details.push(("you agreed", answer.consent_text.trim_end().to_owned()));
    details.push(("revision", answer.revision.to_string()));
    desk.out().one(&proto::dynamic(&answer), &declared_row(&made), &details)?;
    Ok(Exit::Done)
}

async fn listed(
    desk: &Desk,
    namespace: String,
    name: String,
    bearer: &PersonalToken,
) -> Result<ListGrantsResponse, Failure> {
    let ask = ListGrantsRequest { token: token(bearer)?, namespace, name };
    line(desk)?
        .ask(ask, |c, r| async move {
            PersonalGrantServiceClient::new(c).max_decoding_message_size(64 << 20).list_grants(r).await
        })
        .await
}

async fn list(desk: &Desk, namespace: String, bearer: &PersonalToken) -> Result<Exit, Failure> {
    let answer = listed(desk, namespace, String::new(), bearer).await?;
    let own = answer.grants.iter().map(|one| one.grant.as_ref());
    let rows: Vec<Row> =
        own.chain(answer.of_groups.iter().map(Some)).map(|grant| declared_row(&declaration(grant))).collect();
    let note = note(rows.len(), "grant", false, answer.revision);
    desk.out().rows(&proto::dynamic(&answer), &rows, &note)?;
    Ok(Exit::Done)
}

async fn show(desk: &Desk, name: &str, bearer: &PersonalToken) -> Result<Exit, Failure> {
    let (namespace, name) = named(name)?;
    let answer = listed(desk, namespace, name.clone(), bearer).await?;
    let Some(found) = answer.grants.first() else {
        return Err(Failure::local(&USAGE, format!("no grant {name} by which an agent may act for {}", answer.person)));
    };
    let shown = declaration(found.grant.as_ref());
    let mut details = object_details(&shown);
    for behind in &found.passed_on {
        let spec = behind.spec.clone().unwrap_or_default();
        details.push(("passed on", format!("{} lets {} act for you too", spec.delegator, spec.delegate)));
    }
    if let Some(audit) = &found.audit {
        let told = format!("events {} whose grant_id is {}", audit.types.join(", "), audit.grant_ids.join(" or "));
        details.push(("in the audit log", told));
    }
    details.push(("revision", answer.revision.to_string()));
    desk.out().one(&proto::dynamic(&answer), &declared_row(&shown), &details)?;
    Ok(Exit::Done)
}

async fn revoke(desk: &Desk, name: &str, reason: String, bearer: &PersonalToken) -> Result<Exit, Failure> {
    let (namespace, name) = named(name)?;
    let ask = RevokeGrantRequest { token: token(bearer)?, namespace, name, request_id: request_id(), reason };
    let answer =
        line(desk)?.ask(ask, |c, r| async move { PersonalGrantServiceClient::new(c).revoke_grant(r).await }).await?;
    let row = declared_row(&declaration(answer.grant.as_ref()));
    let details = [
        ("revoked", row.name.clone()),
        ("and passed on of it", answer.passed_on.to_string()),
        ("revision", answer.revision.to_string()),
    ];
    desk.out().one(&proto::dynamic(&answer), &row, &details)?;
    Ok(Exit::Done)
}
